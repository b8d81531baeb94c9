//! C and Rust mean the same: `bpf/onevip.h` is compiled for the host, prints what it says, and is compared with
//! `src/maps/layout.rs` and with the reasons of onevip-core.

#![allow(clippy::unwrap_used)]

use onevip_bpf::layout::{
    self, RawAddress, RawAllowedKey, RawBan, RawBanKey4, RawBanKey6, RawBeat, RawClients, RawConfig,
    RawEffects, RawException, RawExceptionKey, RawFlow, RawLimit, RawNetwork4, RawNetwork6, RawRefusal,
    RawService, RawSettings, RawSource, RawTrace, RawTracing, RawVip,
};
use onevip_core::{BUCKETS, Flags, Reason, verdict::SYN_MEMORY_SECS};
use std::collections::BTreeMap;
use std::mem::{offset_of, size_of};
use std::path::Path;
use std::process::Command;

/// What is to be compared: an expression in C, and its value in Rust.
type Facts = Vec<(String, u64)>;

macro_rules! fields {
    ($facts:ident, $c:literal, $rust:ty: $($field:ident),+) => {
        $($facts.push((
            format!("offsetof(struct {}, {})", $c, stringify!($field)),
            offset_of!($rust, $field) as u64,
        ));)+
    };
}

fn facts() -> Facts {
    let mut facts = constants();
    facts.extend(sizes());
    facts.extend(fields());
    facts.extend(reasons());
    facts
}

/// Numbers that both sides count with.
fn constants() -> Facts {
    vec![
        ("ONEVIP_MAGIC".into(), layout::MAGIC.into()),
        ("ONEVIP_LAYOUT".into(), layout::LAYOUT.into()),
        ("ONEVIP_VIPS_MAX".into(), layout::VIPS_MAX as u64),
        ("ONEVIP_ADDRESSES_MAX".into(), layout::ADDRESSES_MAX as u64),
        ("ONEVIP_SERVICES_MAX".into(), layout::SERVICES_MAX as u64),
        ("ONEVIP_EXCEPTIONS_MAX".into(), layout::EXCEPTIONS_MAX as u64),
        ("ONEVIP_RESERVED".into(), onevip_core::table::RESERVED as u64),
        ("ONEVIP_SOURCE_HEAD_BITS".into(), layout::SOURCE_HEAD_BITS.into()),
        ("ONEVIP_BUCKETS".into(), BUCKETS as u64),
        ("ONEVIP_WORDS".into(), layout::WORDS as u64),
        ("ONEVIP_BEATS_BYTES".into(), layout::BEATS_BYTES as u64),
        ("ONEVIP_DATAGRAM_MAX".into(), layout::DATAGRAM_MAX as u64),
        ("ONEVIP_TRACES_BYTES".into(), layout::TRACES_BYTES as u64),
        ("ONEVIP_TRACE_FRAME_MAX".into(), layout::TRACE_FRAME_MAX as u64),
        ("ONEVIP_REASONS_MAX".into(), layout::REASONS_MAX as u64),
        ("ONEVIP_PROGRAMS".into(), layout::PROGRAMS as u64),
        ("ONEVIP_SYN_MEMORY_NS".into(), SYN_MEMORY_SECS * 1_000_000_000),
        ("ONEVIP_ORPHANS".into(), layout::ORPHANS as u64),
        ("ONEVIP_ORPHAN_MEMORY_TICKS".into(), layout::ORPHAN_MEMORY_TICKS),
        ("ONEVIP_TICK_SHIFT".into(), layout::TICK_SHIFT.into()),
        ("ONEVIP_ORPHANS_SEED".into(), layout::ORPHANS_SEED.into()),
        ("ONEVIP_MINE".into(), Flags::MINE.bits().into()),
        ("ONEVIP_GUESTS".into(), Flags::GUESTS.bits().into()),
        ("ONEVIP_ELSEWHERE".into(), Flags::ELSEWHERE.bits().into()),
        ("ONEVIP_WATCHED".into(), Flags::WATCHED.bits().into()),
        ("ONEVIP_REASONS".into(), Reason::END as u64),
        ("ONEVIP_KINDS".into(), layout::KINDS as u64),
        ("ONEVIP_EFFECTS_ROOM".into(), layout::EFFECTS_ROOM as u64),
        ("ONEVIP_ON_LINK_MAX".into(), layout::ON_LINK_MAX as u64),
        ("ONEVIP_LIMITS_MAX".into(), layout::LIMITS_MAX as u64),
        ("ONEVIP_SOURCES".into(), layout::SOURCES as u64),
        ("ONEVIP_WAYS".into(), layout::WAYS as u64),
        ("ONEVIP_BURST_MAX".into(), layout::BURST_MAX as u64),
        ("ONEVIP_ALLOWED_MAX".into(), layout::ALLOWED_MAX as u64),
        ("ONEVIP_REFUSALS_BYTES".into(), layout::REFUSALS_BYTES as u64),
        ("ONEVIP_REFUSED_MAX".into(), layout::REFUSED_MAX as u64),
        ("ONEVIP_BAN_PLACES".into(), layout::BAN_PLACES as u64),
        ("ONEVIP_SAMPLED".into(), Flags::SAMPLED.bits().into()),
        ("ONEVIP_FLOWS".into(), layout::FLOWS as u64),
        ("ONEVIP_FLOW_REPEATED".into(), layout::FLOW_REPEATED.into()),
        ("ONEVIP_FLOW_OPEN".into(), layout::FLOW_OPEN.into()),
        ("ONEVIP_FLOW_SERVED".into(), layout::FLOW_SERVED.into()),
        ("ONEVIP_FLOW_ENDED".into(), layout::FLOW_ENDED.into()),
    ]
}

/// Sizes of structures; of those that end with data of any length, where the data begins.
fn sizes() -> Facts {
    vec![
        ("sizeof(struct onevip_limit)".into(), size_of::<RawLimit>() as u64),
        ("sizeof(struct onevip_source)".into(), size_of::<RawSource>() as u64),
        ("sizeof(struct onevip_allowed_key)".into(), size_of::<RawAllowedKey>() as u64),
        ("sizeof(struct onevip_refusal)".into(), size_of::<RawRefusal>() as u64),
        ("sizeof(struct onevip_ban_key4)".into(), size_of::<RawBanKey4>() as u64),
        ("sizeof(struct onevip_ban_key6)".into(), size_of::<RawBanKey6>() as u64),
        ("sizeof(struct onevip_effects)".into(), size_of::<RawEffects>() as u64),
        ("sizeof(struct onevip_network4)".into(), size_of::<RawNetwork4>() as u64),
        ("sizeof(struct onevip_network6)".into(), size_of::<RawNetwork6>() as u64),
        ("sizeof(struct onevip_clients)".into(), size_of::<RawClients>() as u64),
        ("sizeof(struct onevip_ban)".into(), size_of::<RawBan>() as u64),
        ("sizeof(struct onevip_flow)".into(), size_of::<RawFlow>() as u64),
        ("sizeof(struct onevip_address)".into(), size_of::<RawAddress>() as u64),
        ("sizeof(struct onevip_jhash)".into(), size_of_val(&RawVip::default().begun) as u64),
        ("sizeof(struct onevip_exception_key)".into(), size_of::<RawExceptionKey>() as u64),
        ("sizeof(struct onevip_exception)".into(), size_of::<RawException>() as u64),
        ("sizeof(struct onevip_service)".into(), size_of::<RawService>() as u64),
        ("sizeof(struct onevip_vip)".into(), size_of::<RawVip>() as u64),
        ("sizeof(struct onevip_settings)".into(), size_of::<RawSettings>() as u64),
        ("sizeof(struct onevip_config)".into(), size_of::<RawConfig>() as u64),
        ("offsetof(struct onevip_beat, datagram)".into(), size_of::<RawBeat>() as u64),
        ("sizeof(struct onevip_tracing)".into(), size_of::<RawTracing>() as u64),
        ("offsetof(struct onevip_trace, frame)".into(), size_of::<RawTrace>() as u64),
    ]
}

/// Where each field lies.
fn fields() -> Facts {
    let mut facts = Facts::new();
    fields!(facts, "onevip_address", RawAddress: family, vip, words);
    fields!(facts, "onevip_vip", RawVip: seed, begun, mode, order, blocks, v4_prefix, v6_prefix, plain, beat_port, cluster_mac, orphan_wait_ms, service_first, service_count, other, exceptions);
    fields!(facts, "onevip_exception_key", RawExceptionKey: prefix_length, half, vip, family, words);
    fields!(facts, "onevip_exception", RawException: mode, v4_prefix, v6_prefix, bucket_count, buckets);
    fields!(facts, "onevip_service", RawService: first_port, last_port, protocol, mode, v4_prefix, v6_prefix, answerer, limit, slice_mask, slice);
    fields!(facts, "onevip_settings", RawSettings: address_count, vip_count, half, traced, addresses, vips, services, limit_count, limit_seed, limits, checksum);
    fields!(facts, "onevip_config", RawConfig: magic, layout, active, halves);
    fields!(facts, "onevip_network4", RawNetwork4: network, mask);
    fields!(facts, "onevip_network6", RawNetwork6: network, mask);
    fields!(facts, "onevip_clients", RawClients: v4, v6, newest, port, resets);
    fields!(facts, "onevip_flow", RawFlow: hash, word, port, source, isn, answer, begun, opened, ended, state);
    fields!(facts, "onevip_tracing", RawTracing: until_ns, family, rate_max, words, mask, lost, window, in_window);
    fields!(facts, "onevip_trace", RawTrace: time_ns, ifindex, length, captured, program, reason);
    fields!(facts, "onevip_beat", RawBeat: received_ns, vip, address, length, captured);
    fields!(facts, "onevip_limit", RawLimit: window_ms, burst, action, counts_refused, v4_prefix, v6_prefix);
    fields!(facts, "onevip_source", RawSource: lock, owner, start, end, last_ns, refused, attempts, stamps);
    fields!(facts, "onevip_allowed_key", RawAllowedKey: length, owner, words);
    fields!(facts, "onevip_refusal", RawRefusal: ifindex, action, length, ethernet, packet);
    fields!(facts, "onevip_ban_key4", RawBanKey4: length, address);
    fields!(facts, "onevip_ban_key6", RawBanKey6: length, words);
    fields!(facts, "onevip_ban", RawBan: everything_until_ns, openings_until_ns);
    facts
}

/// The numbers of the reasons.
fn reasons() -> Facts {
    let name = |reason: Reason| format!("ONEVIP_{}", reason.label().replace('-', "_").to_uppercase());
    Reason::ALL.iter().map(|&reason| (name(reason), reason as u64)).collect()
}

#[test]
fn the_header_and_the_rust_types_mean_the_same() {
    let facts = facts();
    let prints: String =
        facts.iter().map(|(c, _)| format!("printf(\"%llu\\n\", (unsigned long long)({c}));\n")).collect();
    let source = format!(
        "#include <stddef.h>\n#include <stdio.h>\n#include \"onevip.h\"\nint main(void) {{\n{prints}return 0;\n}}\n"
    );
    let headers = Path::new(env!("CARGO_MANIFEST_DIR")).join("bpf");
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (c, program) = (dir.join("layout.c"), dir.join("layout"));
    std::fs::write(&c, source).unwrap();
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let built = Command::new(&clang).arg("-I").arg(headers).arg(&c).arg("-o").arg(&program).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let printed = String::from_utf8(Command::new(&program).output().unwrap().stdout).unwrap();
    let in_c = printed.lines().map(|line| line.parse::<u64>().unwrap());
    let different: BTreeMap<_, _> = facts
        .iter()
        .zip(in_c)
        .filter(|((_, rust), c)| rust != c)
        .map(|((name, rust), c)| (name.as_str(), format!("Rust {rust}, C {c}")))
        .collect();
    assert_eq!(printed.lines().count(), facts.len());
    assert!(different.is_empty(), "{different:#?}");
}

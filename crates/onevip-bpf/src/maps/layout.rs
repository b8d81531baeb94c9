//! The layouts of the maps, as the kernel part sees them.
//!
//! The twin of `bpf/onevip.h`; `tests/layout.rs` compares the two. `encoding.rs` says what the words mean.
//! Nothing outside this crate needs to know it.

use onevip_core::BUCKETS;
use onevip_core::table::RESERVED;

/// First word of the config map.
pub const MAGIC: u32 = 0x1fee_1e55;
/// Version of all layouts together.
pub const LAYOUT: u32 = 5;
/// How many VIPs fit.
pub const VIPS_MAX: usize = 8;
/// How many addresses all VIPs together may have.
pub const ADDRESSES_MAX: usize = 8;
/// How many services all VIPs together may have.
pub const SERVICES_MAX: usize = 32;
/// How many exceptions all VIPs together may have.
pub const EXCEPTIONS_MAX: usize = 1024;
/// Words in the flags and `last_syn` maps: `[vip][bucket]`.
pub const WORDS: usize = VIPS_MAX * BUCKETS;
/// Bytes of a beat that are handed over at most.
pub const DATAGRAM_MAX: usize = 1600;
/// Size of the ring buffer for beats, in bytes.
pub const BEATS_BYTES: usize = 512 * 1024;
/// Places in which orphans are remembered.
pub const ORPHANS: usize = 1 << 14;
/// A memory of an orphan older than this counts for nothing: two minutes, in ticks of 2^20 ns.
pub const ORPHAN_MEMORY_TICKS: u64 = 120_000_000_000 >> TICK_SHIFT;
/// Ticks are the boot time in ns, shifted right by this.
pub const TICK_SHIFT: u32 = 20;
/// Seed of the hash by which orphans are remembered.
pub const ORPHANS_SEED: u32 = 0x6f72_7068;
/// Places in which connections of others' clients are noted.
pub const FLOWS: usize = 1 << 12;
/// Size of the ring buffer for traces, in bytes.
pub const TRACES_BYTES: usize = 512 * 1024;
/// Bytes of a frame that a trace shows at most.
pub const TRACE_FRAME_MAX: usize = 192;
/// Counters per program.
pub const REASONS_MAX: usize = 64;
/// Programs that count.
pub const PROGRAMS: usize = 3;

/// Kinds of clients: on the link, and behind a router.
pub const KINDS: usize = 2;
/// Room for counted effects by address and kind; see `enum onevip_effect`.
pub const EFFECTS_ROOM: usize = 8;
/// How many networks of each family may be on the link.
pub const ON_LINK_MAX: usize = 8;

/// `struct onevip_effects`: by address, kind and effect; one for each CPU.
pub type RawEffects = [[[u64; EFFECTS_ROOM]; KINDS]; ADDRESSES_MAX];

/// `struct onevip_network4`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawNetwork4 {
    /// The network in network order.
    pub network: [u8; 4],
    /// Its mask.
    pub mask: [u8; 4],
}

/// `struct onevip_network6`.
#[repr(C, align(8))]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawNetwork6 {
    /// The network in network order.
    pub network: [u8; 16],
    /// Its mask.
    pub mask: [u8; 16],
}

/// `struct onevip_clients`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawClients {
    /// IPv4 networks on the link.
    pub v4: [RawNetwork4; ON_LINK_MAX],
    /// IPv6 networks on the link.
    pub v6: [RawNetwork6; ON_LINK_MAX],
    /// The source of the newest SYN, by address and kind; IPv4 uses the first four bytes. The program's.
    pub newest: [[[u8; 16]; KINDS]; ADDRESSES_MAX],
    /// Of which port SYNs and SYN-ACKs count, in network order, by address; 0: of all.
    pub port: [[u8; 2]; ADDRESSES_MAX],
    /// 1 while the daemon resets orphans itself.
    pub resets: u32,
    /// Zero.
    pub reserved: u32,
}

/// Bit of the owner of a counted source, or of a network that is not counted, which says IPv6.
pub const OWNER_V6: u32 = 1 << 8;
/// How many limits all services together may have.
pub const LIMITS_MAX: usize = 8;
/// How many sources are counted at once.
pub const SOURCES: usize = 1 << 14;
/// In how many places one source may be.
pub const WAYS: usize = 4;
/// The largest burst.
pub const BURST_MAX: usize = 32;
/// Networks that are not counted, of all limits together.
pub const ALLOWED_MAX: usize = 4096;
/// Size of the ring buffer for refused SYNs, in bytes.
pub const REFUSALS_BYTES: usize = 64 * 1024;
/// How much of a refused SYN is handed over.
pub const REFUSED_MAX: usize = 160;

/// Sources are spread over their places by this. It need not be secret: who crowds a place only lets others begin anew.
pub const LIMIT_SEED: u32 = 0x6c69_6d74;

/// `struct onevip_limit`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawLimit {
    /// The window.
    pub window_ms: u32,
    /// 1 to [`BURST_MAX`].
    pub burst: u8,
    /// `enum onevip_limit_action`.
    pub action: u8,
    /// 1 when refused attempts count as well.
    pub counts_refused: u8,
    /// Bits of an IPv4 address that make a source.
    pub v4_prefix: u8,
    /// Bits of an IPv6 address that make a source.
    pub v6_prefix: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// `struct onevip_source`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawSource {
    /// The kernel's.
    pub lock: u32,
    /// Number of the limit, and 256 for IPv6.
    pub owner: u32,
    /// The first half of the address, as it lies in memory; an IPv4 address alone.
    pub start: u64,
    /// The second half.
    pub end: u64,
    /// Boot time of the newest stamp.
    pub last_ns: u64,
    /// How many attempts were refused.
    pub refused: u64,
    /// Stamps made so far.
    pub attempts: u32,
    /// A ring of them, in ms of boot time.
    pub stamps: [u32; BURST_MAX],
    /// Zero.
    pub reserved: u32,
}

/// `struct onevip_allowed_key`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Hash)]
pub struct RawAllowedKey {
    /// Bits of the prefix, with those of the owner.
    pub length: u32,
    /// As in [`RawSource`].
    pub owner: u32,
    /// The address in network order.
    pub words: [u8; 16],
}

/// `struct onevip_refusal`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RawRefusal {
    /// Where it arrived.
    pub ifindex: u32,
    /// `enum onevip_limit_action`.
    pub action: u32,
    /// How much of the packet is here.
    pub length: u32,
    /// The frame's first bytes.
    pub ethernet: [u8; 16],
    /// From its IP header on.
    pub packet: [u8; REFUSED_MAX],
}

/// Room in each trie of bans.
pub const BAN_PLACES: usize = 32768;

/// `struct onevip_ban_key4`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawBanKey4 {
    /// Bits of the prefix.
    pub length: u32,
    /// The address in network order.
    pub address: [u8; 4],
}

/// `struct onevip_ban_key6`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawBanKey6 {
    /// Bits of the prefix.
    pub length: u32,
    /// The address in network order.
    pub words: [u8; 16],
}

/// `struct onevip_ban`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawBan {
    /// Boot time in ns until which nothing of the source passes.
    pub everything_until_ns: u64,
    /// Boot time in ns until which nothing passes but what belongs to its sessions.
    pub openings_until_ns: u64,
}

/// `struct onevip_address`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawAddress {
    /// 4, 6, or 0 for an unused entry.
    pub family: u32,
    /// Index of its VIP.
    pub vip: u32,
    /// The address in network order; IPv4 uses the first word.
    pub words: [[u8; 4]; 4],
}

/// `struct onevip_service`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawService {
    /// The first of its ports.
    pub first_port: u16,
    /// The last of its ports.
    pub last_port: u16,
    /// `IPPROTO_TCP` or `IPPROTO_UDP`.
    pub protocol: u8,
    /// `enum onevip_hash_mode`.
    pub mode: u8,
    /// Bits of an IPv4 address that count.
    pub v4_prefix: u8,
    /// Bits of an IPv6 address that count.
    pub v6_prefix: u8,
    /// `enum onevip_answerer`.
    pub answerer: u8,
    /// 0, or the number of a limit.
    pub limit: u8,
    /// Answered by sockets: the bits of a port that say whose it is.
    pub slice_mask: u8,
    /// What they are in the ports of this node.
    pub slice: u8,
}

/// `struct onevip_vip`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawVip {
    /// Seed of the hash.
    pub seed: u32,
    /// `struct onevip_jhash`: `jhash_begun` of the seed.
    pub begun: [u32; 3],
    /// `enum onevip_hash_mode`.
    pub mode: u8,
    /// `enum onevip_order`.
    pub order: u8,
    /// 0, or the number of contiguous blocks.
    pub blocks: u8,
    /// Bits of an IPv4 address that count.
    pub v4_prefix: u8,
    /// Bits of an IPv6 address that count.
    pub v6_prefix: u8,
    /// 1 when sources hash whole, alone, in memory order, onto balanced buckets, whatever the service.
    pub plain: u8,
    /// UDP port of the beats.
    pub beat_port: u16,
    /// The cluster MAC.
    pub cluster_mac: [u8; 6],
    /// Ticks between the first segment of an orphan and one that may be reset; called ms everywhere else.
    pub orphan_wait_ms: u16,
    /// Index of its first service.
    pub service_first: u8,
    /// How many it has.
    pub service_count: u8,
    /// `enum onevip_other`.
    pub other: u8,
    /// 1 when for some sources something else counts.
    pub exceptions: u8,
}

/// `struct onevip_settings`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawSettings {
    /// Entries of `addresses` in use.
    pub address_count: u32,
    /// Entries of `vips` in use.
    pub vip_count: u32,
    /// The half of the configuration in which these settings are.
    pub half: u32,
    /// 1 while somebody traces; written by the tracer, and no part of the configuration.
    pub traced: u32,
    /// The addresses of all VIPs.
    pub addresses: [RawAddress; ADDRESSES_MAX],
    /// The VIPs.
    pub vips: [RawVip; VIPS_MAX],
    /// The services of all VIPs, those of one side by side.
    pub services: [RawService; SERVICES_MAX],
    /// Entries of `limits` in use.
    pub limit_count: u32,
    /// Seed of the hash that spreads sources.
    pub limit_seed: u32,
    /// The limits of the services.
    pub limits: [RawLimit; LIMITS_MAX],
    /// FNV-1a over everything above but `traced`.
    pub checksum: u64,
}

/// `struct onevip_config`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct RawConfig {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`LAYOUT`].
    pub layout: u32,
    /// The half in force, 0 or 1.
    pub active: u32,
    /// Zero.
    pub reserved: u32,
    /// Two settings, of which one is in force.
    pub halves: [RawSettings; 2],
}

/// The head of `struct onevip_beat`; the datagram follows.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct RawBeat {
    /// Boot time of arrival, in ns.
    pub received_ns: u64,
    /// Index of the VIP.
    pub vip: u32,
    /// Index of the address among all addresses.
    pub address: u32,
    /// Bytes behind the link header, padding included.
    pub length: u32,
    /// How many of them follow.
    pub captured: u32,
}

/// `struct onevip_flow`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawFlow {
    /// What tells flows apart; 0 in a place that was never used.
    pub hash: u32,
    /// Index into the flags map.
    pub word: u16,
    /// The port that the client speaks to.
    pub port: u16,
    /// Tells clients apart.
    pub source: u32,
    /// The client's initial sequence number.
    pub isn: u32,
    /// What its first acknowledgement acknowledged.
    pub answer: u32,
    /// Tick of its SYN.
    pub begun: u32,
    /// Tick of that acknowledgement.
    pub opened: u32,
    /// Tick of its FIN or RST.
    pub ended: u32,
    /// `ONEVIP_FLOW_*`.
    pub state: u32,
}

/// The SYN came again.
pub const FLOW_REPEATED: u32 = 1;
/// The client acknowledged the SYN-ACK.
pub const FLOW_OPEN: u32 = 2;
/// It acknowledged more than that.
pub const FLOW_SERVED: u32 = 4;
/// It ended the connection before that.
pub const FLOW_ENDED: u32 = 8;

/// `struct onevip_tracing`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct RawTracing {
    /// Boot time in ns until which decisions are told.
    pub until_ns: u64,
    /// 4 or 6, or 0 for everything.
    pub family: u32,
    /// Records in a window at most.
    pub rate_max: u32,
    /// The prefix in network order.
    pub words: [[u8; 4]; 4],
    /// Its mask.
    pub mask: [[u8; 4]; 4],
    /// Decisions that were not told; the programs' own.
    pub lost: u64,
    /// The programs' own.
    pub window: u32,
    /// The programs' own.
    pub in_window: u32,
}

/// The head of `struct onevip_trace`; the frame follows.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct RawTrace {
    /// Boot time of the decision, in ns.
    pub time_ns: u64,
    /// The interface.
    pub ifindex: u32,
    /// Of the whole frame.
    pub length: u32,
    /// How much of it follows.
    pub captured: u16,
    /// `enum onevip_program`.
    pub program: u8,
    /// `enum onevip_reason`.
    pub reason: u8,
    /// Zero.
    pub reserved: u32,
}

/// `struct onevip_exception_key`: key of an exception.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawExceptionKey {
    /// How many bits have to match from here on.
    pub prefix_length: u32,
    /// The half of the configuration that it belongs to.
    pub half: u8,
    /// Index of the VIP.
    pub vip: u8,
    /// 4 or 6.
    pub family: u8,
    /// Zero.
    pub reserved: u8,
    /// The network's first address in network order; IPv4 uses the first word.
    pub words: [[u8; 4]; 4],
}

/// `struct onevip_exception`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawException {
    /// `enum onevip_hash_mode`.
    pub mode: u8,
    /// Bits of an IPv4 address that count.
    pub v4_prefix: u8,
    /// Bits of an IPv6 address that count.
    pub v6_prefix: u8,
    /// 0, or how many of the buckets are used.
    pub bucket_count: u8,
    /// The buckets that a pinned source may meet.
    pub buckets: [u16; RESERVED],
}

/// Bits of a [`RawExceptionKey`] before the address.
pub const SOURCE_HEAD_BITS: u32 = 32;

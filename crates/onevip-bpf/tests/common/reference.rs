//! The reference verdict, asked about the same host as the programs; and one packet through all of them.

use super::{V, config, host, vip_for};
use onevip_bpf::{Explainer, Kernel, KernelConfig, boot_time_ns, test_run};
use onevip_core::Prefix;
use onevip_core::bans::Stop;
use onevip_core::limit::Count;
use onevip_core::verdict::SYN_MEMORY_SECS;
use onevip_core::{Action, Bucket, Flags, Flow, NodeView, Packet, Reason, Socket, VipView, judge_frame};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;

/// `TC_ACT_UNSPEC`: the next program, or the stack.
const TC_NEXT: u32 = u32::MAX;
/// `TC_ACT_SHOT`.
const TC_DROP: u32 = 2;
/// `XDP_DROP` and `XDP_PASS`.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

const INGRESS_ROW: u32 = 0;
const XDP_ROW: u32 = 64;

/// What is known of the host under test.
pub struct Known<'a> {
    pub kernel: &'a Kernel,
    pub explainer: &'a Explainer,
    pub lease_live: bool,
    /// The sockets that exist.
    pub sockets: HashMap<Flow, Socket>,
    /// Where somebody listens.
    pub listeners: Vec<(IpAddr, u16)>,
    /// Who is banned, and until when, with wider bans counted in.
    pub bans: Vec<(Prefix, Stop)>,
    /// Who is not counted, by any limit.
    pub allowed: Vec<Prefix>,
    /// The attempts of sources, by VIP and service.
    pub counts: RefCell<HashMap<(usize, usize, Prefix), Count>>,
    /// Where a UDP socket takes what comes to any address.
    pub datagram_ports: Vec<u16>,
}

impl NodeView for Known<'_> {
    fn flags(&self, vip: usize, bucket: Bucket) -> Flags {
        self.kernel.words().flags(vip, bucket)
    }

    fn lease_live(&self) -> bool {
        self.lease_live
    }

    fn syn_recently(&self, vip: usize, bucket: Bucket) -> bool {
        let last = self.kernel.words().last_syn_ns(vip, bucket);
        last != 0 && boot_time_ns() - last < SYN_MEMORY_SECS * 1_000_000_000
    }

    fn orphan_waited(&self, vip: usize, flow: &Flow) -> bool {
        self.kernel.words().orphan_waited(vip, flow)
    }

    fn banned(&self, source: IpAddr, session: bool) -> bool {
        // A packet may have such a source; the tries do not fold it into IPv4.
        let in_clothes = matches!(source, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        let host = Prefix::host(source);
        let around = self.bans.iter().filter(|(prefix, _)| prefix.contains(&host) && !in_clothes);
        let narrowest = around.max_by_key(|(prefix, _)| prefix.length());
        let until =
            narrowest.map(|(_, stop)| if session { stop.everything_until } else { stop.openings_until });
        until.is_some_and(|until| until.nanos() > boot_time_ns())
    }

    fn limited(&self, vip: usize, service: usize, source: IpAddr) -> bool {
        let config = self.kernel.config().unwrap();
        let limit = config.vips[vip].selector.services[service].limit.clone().unwrap();
        // The kernel's list of those who are not counted is a map of its own.
        if self.allowed.iter().any(|network| network.contains(&Prefix::host(source))) {
            return false;
        }
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry((vip, service, limit.source(source))).or_default();
        !count.attempt(&limit, boot_time_ns() / 1_000_000)
    }

    fn udp_socket(&self, flow: &Flow) -> bool {
        self.datagram_ports.contains(&flow.local_port)
    }

    fn socket(&self, flow: &Flow) -> Socket {
        let listens = self.listeners.contains(&(flow.local, flow.local_port));
        let otherwise = if listens { Socket::Listener { cookie_valid: false } } else { Socket::None };
        self.sockets.get(flow).copied().unwrap_or(otherwise)
    }
}

/// The flow of a client to the VIP's port 22.
pub fn flow(client: IpAddr, port: u16) -> Flow {
    Flow { remote: client, remote_port: port, local: vip_for(client), local_port: host::SSH }
}

pub fn views(config: &KernelConfig) -> Vec<VipView> {
    config.vips.iter().map(|vip| vip.view()).collect()
}

/// A kernel part with the one-VIP configuration, its lease live for ten minutes.
pub fn kernel(dir: &std::path::Path) -> Kernel {
    let (mut kernel, _) = Kernel::open(dir).unwrap();
    kernel.set_config(&config()).unwrap();
    renew(&kernel);
    kernel
}

pub fn renew(kernel: &Kernel) {
    for vip in [V, V + 1] {
        kernel.words().set_lease_deadline_ns(vip, boot_time_ns() + 600_000_000_000);
    }
}

pub fn set(kernel: &Kernel, bucket: Bucket, flags: Flags) {
    kernel.words().set_flags(V, bucket, flags);
}

/// Runs a frame through a dry run, then through XDP, tc, and the reference, and says what disagrees. Returns the common
/// reason.
pub fn all_agree(known: &Known<'_>, views: &[VipView], frame: &[u8]) -> Result<Reason, String> {
    let packet = Packet::parse(frame, views);
    let reason = judge_frame(frame, views, known);
    let [ingress, _, xdp] = known.kernel.program_fds();
    let say = |what: &str, got: &dyn std::fmt::Debug| {
        Err(format!(
            "{what}: {got:?}, but the reference says {reason:?} of {packet:?}\n  frame: {}",
            hex(frame)
        ))
    };

    // First, since it must leave everything as it was.
    if tc_takes(frame) {
        let explained = known.explainer.ask(frame).map_err(|error| error.to_string())?;
        if explained != reason {
            return say("the program that explains", &explained);
        }
    }
    // XDP only looks ahead: it counts no attempts.
    let drops = reason.action() == Action::Drop && reason != Reason::SynLimited;
    let before = count(known.kernel, XDP_ROW, reason);
    let run = test_run(xdp, frame, 1).map_err(|error| format!("XDP test run: {error}"))?;
    if run.returned != if drops { XDP_DROP } else { XDP_PASS } {
        return say("XDP", &run.returned);
    }
    if count(known.kernel, XDP_ROW, reason) - before != u64::from(drops) {
        return say("XDP counted another reason", &"?");
    }

    if !tc_takes(frame) {
        return Ok(reason);
    }
    let before = count(known.kernel, INGRESS_ROW, reason);
    let run = test_run(ingress, frame, 1).map_err(|error| format!("tc test run: {error}"))?;
    if run.returned != if reason.action() == Action::Pass { TC_NEXT } else { TC_DROP } {
        return say("tc", &run.returned);
    }
    if count(known.kernel, INGRESS_ROW, reason) - before != u64::from(reason != Reason::NotOurs) {
        return say("tc counted another reason", &"?");
    }
    if run.frame != frame {
        return say("tc changed the frame", &hex(&run.frame));
    }
    Ok(reason)
}

/// Whether the kernel lets tc programs be tested with this frame: it wants something behind the Ethernet header, and
/// a whole IP header where the EtherType announces one.
pub fn tc_takes(frame: &[u8]) -> bool {
    let header = match frame.get(12..14) {
        Some([0x08, 0x00]) => 20,
        Some([0x86, 0xdd]) => 40,
        _ => 1,
    };
    frame.len() >= 14 + header
}

/// One counter, summed over the CPUs.
fn count(kernel: &Kernel, row: u32, reason: Reason) -> u64 {
    onevip_bpf::counter_read(kernel.counters_fd(), row + reason as u32).unwrap()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

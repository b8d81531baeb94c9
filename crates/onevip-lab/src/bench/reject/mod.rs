//! `onevip-lab bench reject`: what a foreign packet costs the node that drops it, over the whole receive path.
//!
//! Every host of such a cluster receives every packet, so this is the price of the idea. Frames are sent into the
//! interface of a node as a driver would find them in its ring (`sender.rs`), faster than the node can take them. Its
//! receive path runs in a kernel thread of its own (threaded NAPI), whose processor time the scheduler counts in
//! nanoseconds (`receiver.rs`): that, divided by the frames taken, is the figure. The sender's work is not in it, and
//! neither is what other tasks do meanwhile.
//!
//! The peers' rules are those that Pacemaker's agent `IPaddr2` installs for a cluster address (resource-agents since
//! June 2026, `clusterip_firewall`): at prerouting, priority mangle, accept what hashes to this node, drop the rest.

mod receiver;
mod sender;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use onevip_bpf::{Accelerate, Kernel, KernelConfig, VipConfig, ensure_bpffs};
use onevip_core::{BUCKETS, Hasher, Selector};

use self::receiver::Receiver;
use self::sender::Sender;
use super::rounds::{Progress, take_turns};
use super::sheet::{Aim, Sheet};
use crate::lab::{Lab, Options};
use crate::load::segment::{Segment, flag};
use crate::net::{INTERFACE, feed};
use crate::plan::{Host, Plan, vip4};
use crate::process::run_ok;
use crate::wire::parse_mac;

/// Frames a turn, over all sources. (What is more than the node can take is lost in its ring.)
pub const FRAMES: u32 = 400_000;
/// Addresses they come from.
const SOURCES: usize = 16;
const METRIC: &str = "processor time per foreign packet";
const FILTER: &str = "of that, above the floor";
const SCENARIO: &str = "foreign TCP packet";
const SEED: u32 = 0x6f6e_6576;

/// Who drops the packet, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contestant {
    Native,
    Generic,
    Tc,
    Iptables,
    Nft,
    /// No filter at all; the frame is for another host's MAC, and the IP layer drops it first of all.
    Floor,
}

impl Contestant {
    const ALL: [Self; 6] = [Self::Native, Self::Generic, Self::Tc, Self::Iptables, Self::Nft, Self::Floor];

    fn word(self) -> &'static str {
        match self {
            Self::Native => "onevip, XDP native",
            Self::Generic => "onevip, XDP generic",
            Self::Tc => "onevip, tc",
            Self::Iptables => "iptables -m cluster",
            Self::Nft => "nft jhash",
            Self::Floor => "no filter, another's MAC",
        }
    }
}

/// One contestant on its node.
struct Arena {
    contestant: Contestant,
    receiver: Receiver,
    sender: Sender,
    frames: Vec<Vec<u8>>,
}

/// Measures in a lab of its own.
///
/// # Errors
/// When the lab cannot be built, the kernel lacks what the measurement needs (threaded NAPI on veth, live frames), a
/// frame was not dropped, or the user interrupts.
pub fn run(lab_name: &str, rounds: usize, frames: u32, command: String) -> Result<Sheet> {
    let mut sheet = Sheet::new("reject", command);
    sheet.set("frames per turn", frames);
    sheet.set("rounds", rounds);
    let lab = Lab::up(Options::new(lab_name).nodes(Contestant::ALL.len()).clients(1).no_onevip())?;
    for (name, program) in [("iptables", "iptables"), ("nftables", "nft")] {
        sheet.set(name, lab.exec_ok("unix1", &[program, "--version"])?.trim());
    }
    let mut arenas = Vec::new();
    for (contestant, id) in Contestant::ALL.into_iter().zip(1..) {
        prepare(&lab, contestant, id)?;
        let receiver = Receiver::prepare(&lab, id)?;
        let sender = Sender::new(&lab, id)?;
        arenas.push(Arena { contestant, receiver, sender, frames: frames_for(contestant) });
    }
    // The first turn of each fills caches and pools.
    arenas.iter_mut().try_for_each(|arena| turn(&lab, arena, frames / 10).map(drop))?;
    take_turns(&Progress::new("reject"), "foreign packets", rounds, &mut arenas, |arena| {
        let ns = turn(&lab, arena, frames)?;
        sheet.note(METRIC, SCENARIO, arena.contestant.word(), "ns", ns);
        Ok(())
    })?;
    lab.down()?;
    note_filters(&mut sheet);
    for peer in [Contestant::Iptables, Contestant::Nft] {
        sheet.aims.push(Aim::at_most(METRIC, Contestant::Native.word(), Some(peer.word()), 0.2));
        sheet.aims.push(Aim::at_most(METRIC, Contestant::Tc.word(), Some(peer.word()), 0.5));
    }
    sheet.finish();
    Ok(sheet)
}

/// What is left when the floor is taken away: the price of filtering alone, for those who filter behind the allocation of
/// an `sk_buff`, which costs all of them the same.
fn note_filters(sheet: &mut Sheet) {
    let of = |sheet: &Sheet, contestant: Contestant| {
        let series = sheet.find(METRIC, SCENARIO, contestant.word());
        series.map_or_else(Vec::new, |series| series.samples.clone())
    };
    let floor = of(sheet, Contestant::Floor);
    for contestant in [Contestant::Tc, Contestant::Iptables, Contestant::Nft] {
        for (ns, floor) in of(sheet, contestant).into_iter().zip(&floor) {
            sheet.note(FILTER, SCENARIO, contestant.word(), "ns", ns - floor);
        }
    }
}

fn prepare(lab: &Lab, contestant: Contestant, id: u8) -> Result<()> {
    let host = Host::Node(id).to_string();
    match contestant {
        Contestant::Native => attach(lab, &host, id, Accelerate::Xdp),
        Contestant::Generic => attach(lab, &host, id, Accelerate::XdpGeneric),
        Contestant::Tc => attach(lab, &host, id, Accelerate::Off),
        Contestant::Iptables => iptables(lab, &host),
        Contestant::Nft => {
            let mut nft = lab.command(&host, "nft")?;
            feed(nft.args(["-f", "-"]), &nft_rules())
        }
        Contestant::Floor => Ok(()),
    }
}

/// Our programs on a node that claims nothing and holds nothing, which is what most packets of a busy cluster meet.
fn attach(lab: &Lab, host: &str, id: u8, accelerate: Accelerate) -> Result<()> {
    let dir = lab.node(id).run_dir().join("bpf");
    lab.inside(host, || -> Result<()> {
        ensure_bpffs(&dir)?;
        let (mut kernel, _) = Kernel::open(&dir)?;
        let vip = VipConfig {
            addresses: vec![vip4().into()],
            selector: Selector::uniform(Hasher { seed: SEED, ..Hasher::DEFAULT }),
            beat_port: 1112,
            orphan_wait_ms: 150,
            cluster_mac: parse_mac(lab.cluster_mac()),
        };
        kernel.set_config(&KernelConfig { vips: vec![vip] })?;
        kernel.attach(INTERFACE, accelerate)?;
        Ok(())
    })?
}

fn nft_rules() -> String {
    let to_us = format!("iif \"{INTERFACE}\" ip daddr {}", vip4());
    format!(
        "table ip cluster {{\n\
         chain prerouting {{ type filter hook prerouting priority mangle;\n\
         {to_us} jhash ip saddr mod 2 seed {SEED:#x} offset 1 == 1 meta pkttype set host accept\n\
         {to_us} drop\n}}\n}}\n"
    )
}

fn iptables(lab: &Lab, host: &str) -> Result<()> {
    let (vip, seed) = (vip4().to_string(), format!("{SEED:#x}"));
    let own =
        ["-m", "cluster", "--cluster-hash-seed", &seed, "--cluster-total-nodes", "2", "--cluster-local-node"];
    for rest in [[&own[..], &["1", "-j", "ACCEPT"]].concat(), vec!["-j", "DROP"]] {
        let mut iptables = lab.command(host, "iptables")?;
        iptables.args(["-t", "mangle", "-A", "PREROUTING", "-d", &vip, "-i", INTERFACE]).args(rest);
        run_ok(&mut iptables, Duration::from_secs(20))?;
    }
    Ok(())
}

/// Addresses that belong to the second of two nodes, whoever hashes.
fn foreign_sources() -> Vec<Ipv4Addr> {
    let hasher = Hasher { seed: SEED, blocks: Some(2), ..Hasher::DEFAULT };
    let foreign = |ip: &Ipv4Addr| hasher.bucket(IpAddr::V4(*ip), 0, 0).index() >= BUCKETS / 2;
    (1..u32::MAX).map(|i| Ipv4Addr::from(0xc633_6500 + i * 37)).filter(foreign).take(SOURCES).collect()
}

/// What clients of other nodes send most: acknowledgements without data, in frames of the least length.
fn frames_for(contestant: Contestant) -> Vec<Vec<u8>> {
    let cluster_mac = crate::plan::multicast_mac(&[vip4().into()]);
    let to = if contestant == Contestant::Floor { "02:00:00:00:0f:0f" } else { &cluster_mac };
    let frame = |source: Ipv4Addr| {
        let segment = Segment {
            from_mac: parse_mac(&Plan::mac(Host::Client)),
            to_mac: parse_mac(to),
            from: (source, 40_000),
            to: (vip4(), 22),
            seq: 1,
            ack: 1,
            flags: flag::ACK,
            data: 0,
        };
        let mut frame = segment.frame().to_vec();
        frame.resize(60, 0);
        frame
    };
    foreign_sources().into_iter().map(frame).collect()
}

/// Sends, and returns what each frame that was taken has cost, in ns.
fn turn(lab: &Lab, arena: &mut Arena, frames: u32) -> Result<f64> {
    let before = arena.receiver.read(lab)?;
    for frame in &arena.frames {
        arena.sender.send(lab, frame, frames / SOURCES as u32)?;
    }
    let after = arena.receiver.settle(lab)?;
    let (name, taken) = (arena.contestant.word(), after.frames - before.frames);
    ensure!(
        taken >= u64::from(frames) / 50,
        "{name}: of {frames} frames only {taken} were taken: live frames do not reach the node"
    );
    let passed = after.segments - before.segments;
    ensure!(passed == 0, "{name}: {passed} of {taken} frames passed that should have been dropped");
    Ok((after.busy_ns - before.busy_ns) as f64 / taken as f64)
}

/// A file of the calling thread's network namespace.
fn read_net(name: &str) -> Result<String> {
    Ok(std::fs::read_to_string(Path::new("/proc/thread-self/net").join(name))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_foreign_and_all_different() {
        let mut sources = foreign_sources();
        assert_eq!(sources.len(), SOURCES);
        sources.sort();
        sources.dedup();
        assert_eq!(sources.len(), SOURCES);
        assert!(!sources.contains(&vip4()));
    }

    #[test]
    fn frames_are_small_and_for_the_vip() {
        let frames = frames_for(Contestant::Nft);
        let segment = Segment::parse(&frames[0]).unwrap();
        assert_eq!((frames[0].len(), segment.to, segment.to_mac[0]), (60, (vip4(), 22), 1));
        assert_eq!(Segment::parse(&frames_for(Contestant::Floor)[0]).unwrap().to_mac[0], 2);
    }
}

//! `onevip-lab bench program`: nanoseconds per run of each program for each kind of packet, by `BPF_PROG_TEST_RUN`.
//!
//! Beside an empty program, in interleaved rounds so that a change of the clock speed hits all alike. The median of
//! many rounds is what counts; the least of all is what a program costs when nobody else uses the core or its sibling.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use onevip_bpf::{Kernel, KernelConfig, VipConfig, boot_time_ns, ensure_bpffs, load_empty, test_run};
use onevip_core::{Flags, Hasher, Selector};

use super::results::{Aim, BenchResults};
use super::rounds::{Progress, take_turns};
use crate::process::run_ok;

const VIP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 10);
const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x10);
/// Whose SYN passes. It must not be the client with the session, whose bucket would count as having guests from then on.
const NEWCOMER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const NEWCOMER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const CLUSTER_MAC: [u8; 6] = [0x01, 0x00, 0x5e, 0, 0, 0x0a];
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// What tc returns for a packet that passes on, and for one that ends here.
const PASS: u32 = u32::MAX;
const DROP: u32 = 2;
/// The contestant that all others are measured by.
const EMPTY: &str = "empty program";
const NOT_OURS: [&str; 2] = ["not for us", "IPv6, not for us"];
const SCENARIOS: [&str; 2] = ["XDP", "tc"];

/// One kind of packet.
struct Case {
    name: &'static str,
    frame: Vec<u8>,
    flags: Flags,
    /// What tc must return, so that the figure is about what its name says.
    verdict: u32,
}

/// Measures, in namespaces of its own in which nothing outlives it.
///
/// # Errors
/// When not root, the kernel refuses a program, a verdict is not as it should be, or the user interrupts.
pub fn run(repeat: u32, rounds: usize, command: String) -> Result<BenchResults> {
    let mut results = BenchResults::new("program", command);
    results.set("runs per round", repeat);
    results.set("rounds", rounds);
    // A thread of its own, since whoever enters namespaces does not come back.
    let measured = thread::scope(|scope| {
        let results = &mut results;
        scope
            .spawn(move || isolate().and_then(|()| measure(repeat, rounds, results)))
            .join()
            .map_err(|_| anyhow!("the thread that measures panicked"))
    });
    measured??;
    results.aims.push(Aim::at_most("time per packet", "foreign, no lookup", Some(EMPTY), 1.3));
    results.aims.push(Aim::at_most("time per packet", "IPv6, foreign, no lookup", Some(EMPTY), 1.5));
    for case in NOT_OURS {
        results.aims.push(Aim::at_most("time above the empty program", case, None, 10.0));
    }
    results.finish();
    Ok(results)
}

fn isolate() -> Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("cannot make namespaces; run this as root")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), none)?;
    for words in ["link set lo up".to_owned(), format!("address add {VIP6}/128 dev lo nodad")] {
        run_ok(Command::new("ip").args(words.split(' ')), Duration::from_secs(10))?;
    }
    ensure_bpffs(Path::new("/mnt/onevip"))?;
    Ok(())
}

fn measure(repeat: u32, rounds: usize, results: &mut BenchResults) -> Result<()> {
    let (mut kernel, _) = Kernel::open(Path::new("/mnt/onevip"))?;
    let vip = VipConfig {
        addresses: vec![VIP.into(), VIP6.into()],
        selector: Selector::uniform(Hasher::DEFAULT),
        beat_port: 1112,
        orphan_wait_ms: 150,
        cluster_mac: CLUSTER_MAC,
    };
    kernel.set_config(&KernelConfig { vips: vec![vip] })?;
    kernel.words().set_lease_deadline_ns(0, boot_time_ns() + 3_000_000_000_000);
    let sessions = [HeldConnection::open(VIP.into())?, HeldConnection::open(VIP6.into())?];
    let clients = sessions.each_ref().map(|session| (session.client.ip(), session.client.port()));
    let mut cases = cases(clients)?;
    let empty = (load_empty(3, 2)?, load_empty(6, 1)?);
    let sources = [clients[0].0, clients[1].0, NEWCOMER.into(), NEWCOMER6.into()];
    let buckets = sources.map(|client| Hasher::DEFAULT.bucket(client, 0, 0));
    let progress = Progress::new("program");
    take_turns(&progress, "test runs", rounds, &mut cases, |case| {
        buckets.iter().for_each(|&bucket| kernel.words().set_flags(0, bucket, case.flags));
        let [ingress, _, xdp] = kernel.program_fds();
        let (tc, xdp) = if case.name == EMPTY { (empty.0.as_fd(), empty.1.as_fd()) } else { (ingress, xdp) };
        for (scenario, ns) in SCENARIOS.into_iter().zip([case.xdp(xdp, repeat)?, case.tc(tc, repeat)?]) {
            results.note("time per packet", scenario, case.name, "ns", ns);
        }
        Ok(())
    })?;
    for scenario in SCENARIOS {
        for case in NOT_OURS {
            let of = |case: &str| results.find("time per packet", scenario, case).map(|s| s.samples.clone());
            let (own, empty) = (of(case).unwrap_or_default(), of(EMPTY).unwrap_or_default());
            for (own, empty) in own.into_iter().zip(empty) {
                results.note("time above the empty program", scenario, case, "ns", own - empty);
            }
        }
    }
    Ok(())
}

/// A connection to the VIP, both of whose ends are here.
struct HeldConnection {
    client: SocketAddr,
    _ends: (TcpStream, TcpStream, TcpListener),
}

impl HeldConnection {
    fn open(vip: IpAddr) -> Result<Self> {
        let listener = TcpListener::bind((vip, 22))?;
        let mut theirs = TcpStream::connect((vip, 22))?;
        theirs.write_all(b"held")?;
        let (ours, client) = listener.accept()?;
        Ok(Self { client, _ends: (ours, theirs, listener) })
    }
}

impl Case {
    fn tc(&self, program: BorrowedFd<'_>, repeat: u32) -> Result<f64> {
        // The kernel's own measure, in whole ns: ours would count the milliseconds of setting up an XDP test, and
        // every time somebody else has the CPU.
        let run = test_run(program, &self.frame, repeat)?;
        let (name, verdict, returned) = (self.name, self.verdict, run.returned);
        ensure!(returned == verdict, "{name}: tc returned {returned} instead of {verdict}");
        Ok(f64::from(run.duration_ns))
    }

    fn xdp(&self, program: BorrowedFd<'_>, repeat: u32) -> Result<f64> {
        Ok(f64::from(test_run(program, &self.frame, repeat)?.duration_ns))
    }
}

fn cases([(client, port), (client6, port6)]: [(IpAddr, u16); 2]) -> Result<Vec<Case>> {
    let (vip, vip6): (IpAddr, IpAddr) = (VIP.into(), VIP6.into());
    let (other, other6): (IpAddr, IpAddr) =
        (Ipv4Addr::new(203, 0, 113, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
    let (new, new6): (IpAddr, IpAddr) = (NEWCOMER.into(), NEWCOMER6.into());
    let all = [
        (EMPTY, tcp(client, vip, port, ACK), Flags::NONE, DROP),
        (NOT_OURS[0], tcp(client, other, port, ACK), Flags::NONE, PASS),
        ("foreign, no lookup", tcp(client, vip, port, ACK), Flags::NONE, DROP),
        ("foreign, lookup", tcp(client, vip, port ^ 1, ACK), Flags::GUESTS, DROP),
        ("foreign, sampled", tcp(client, vip, port, ACK), Flags::SAMPLED, DROP),
        ("foreign SYN", tcp(new, vip, 1024, SYN), Flags::NONE, DROP),
        ("foreign SYN, sampled", tcp(new, vip, 1024, SYN), Flags::SAMPLED, DROP),
        ("ours, SYN", tcp(new, vip, 1024, SYN), Flags::MINE, PASS),
        ("ours, established", tcp(client, vip, port, ACK), Flags::GUESTS, PASS),
        (NOT_OURS[1], tcp(client6, other6, port6, ACK), Flags::NONE, PASS),
        ("IPv6, foreign, no lookup", tcp(client6, vip6, port6, ACK), Flags::NONE, DROP),
        ("IPv6, foreign, lookup", tcp(client6, vip6, port6 ^ 1, ACK), Flags::GUESTS, DROP),
        ("IPv6, foreign SYN", tcp(new6, vip6, 1024, SYN), Flags::NONE, DROP),
        ("IPv6, ours, SYN", tcp(new6, vip6, 1024, SYN), Flags::MINE, PASS),
        ("IPv6, ours, established", tcp(client6, vip6, port6, ACK), Flags::GUESTS, PASS),
    ];
    let case = |(name, frame, flags, verdict)| Ok(Case { name, frame: frame?, flags, verdict });
    all.into_iter().map(case).collect()
}

fn tcp(source: IpAddr, dest: IpAddr, port: u16, flags: u8) -> Result<Vec<u8>> {
    let mut frame = [&CLUSTER_MAC[..], &[2, 0, 0, 0, 0, 1]].concat();
    match (source, dest) {
        (IpAddr::V4(source), IpAddr::V4(dest)) => {
            frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
            frame.extend([source.octets(), dest.octets()].concat());
        }
        (IpAddr::V6(source), IpAddr::V6(dest)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
            frame.extend([source.octets(), dest.octets()].concat());
        }
        _ => bail!("{source} and {dest} are of two families"),
    }
    frame.extend(port.to_be_bytes());
    frame.extend([0, 22, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    // As large as the smallest Ethernet frame.
    frame.resize(frame.len().max(60), 0);
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_of_one_family_and_of_full_length() {
        let v4 = tcp(NEWCOMER.into(), VIP.into(), 1024, SYN).unwrap();
        let v6 = tcp(NEWCOMER6.into(), VIP6.into(), 1024, SYN).unwrap();
        assert_eq!((v4.len(), v6.len()), (60, 74));
        assert_eq!((&v4[30..34], &v6[38..54]), (&VIP.octets()[..], &VIP6.octets()[..]));
        assert!(tcp(NEWCOMER.into(), VIP6.into(), 1024, SYN).is_err());
    }
}

//! `onevip-lab bench program`: nanoseconds per run of each program for each kind of packet, by `BPF_PROG_TEST_RUN`.
//!
//! Beside an empty program, in interleaved rounds so that a change of the clock speed hits all alike. The median of
//! many rounds is what counts; the least of all is what a program costs when nobody else uses the core or its sibling.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use onevip_bpf::{Kernel, KernelConfig, VipConfig, boot_time_ns, ensure_bpffs, load_empty, test_run};
use onevip_core::{Flags, Hasher};

use super::rounds::{Progress, take_turns};
use super::sheet::{Aim, Sheet};
use crate::process::run_ok;

const VIP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 10);
/// Whose SYN passes. It must not be the client with the session, whose bucket would count as having guests from then on.
const NEWCOMER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const CLUSTER_MAC: [u8; 6] = [0x01, 0x00, 0x5e, 0, 0, 0x0a];
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// What tc returns for a packet that passes on, and for one that ends here.
const PASS: u32 = u32::MAX;
const DROP: u32 = 2;
/// The contestant that all others are measured by.
const EMPTY: &str = "empty program";
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
pub fn run(repeat: u32, rounds: usize, command: String) -> Result<Sheet> {
    let mut sheet = Sheet::new("program", command);
    sheet.set("runs per round", repeat);
    sheet.set("rounds", rounds);
    // A thread of its own, since whoever enters namespaces does not come back.
    let measured = thread::scope(|scope| {
        let sheet = &mut sheet;
        scope
            .spawn(move || isolate().and_then(|()| measure(repeat, rounds, sheet)))
            .join()
            .map_err(|_| anyhow!("the thread that measures panicked"))
    });
    measured??;
    sheet.aims.push(Aim::at_most("time per packet", "foreign, no lookup", Some(EMPTY), 1.3));
    sheet.aims.push(Aim::at_most("time above the empty program", "not for us", None, 10.0));
    sheet.finish();
    Ok(sheet)
}

fn isolate() -> Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("cannot make namespaces; run this as root")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), none)?;
    run_ok(Command::new("ip").args(["link", "set", "lo", "up"]), Duration::from_secs(10))?;
    ensure_bpffs(Path::new("/mnt/onevip"))?;
    Ok(())
}

fn measure(repeat: u32, rounds: usize, sheet: &mut Sheet) -> Result<()> {
    let (mut kernel, _) = Kernel::open(Path::new("/mnt/onevip"))?;
    let vip = VipConfig {
        addresses: vec![VIP.into()],
        hasher: Hasher::DEFAULT,
        beat_port: 1112,
        orphan_wait_ms: 150,
        cluster_mac: CLUSTER_MAC,
    };
    kernel.set_config(&KernelConfig { vips: vec![vip] })?;
    kernel.words().set_lease_deadline_ns(boot_time_ns() + 3_000_000_000_000);
    let listener = TcpListener::bind((VIP, 22))?;
    let mut session = TcpStream::connect((VIP, 22))?;
    session.write_all(b"held")?;
    let (_held, client) = listener.accept()?;
    let IpAddr::V4(address) = client.ip() else { bail!("an IPv4 client was expected") };

    let mut cases = cases(address, client.port());
    let empty = (load_empty(3, 2)?, load_empty(6, 1)?);
    let buckets = [address, NEWCOMER].map(|client| Hasher::DEFAULT.bucket(client.into(), 0, 0));
    let progress = Progress::new("program");
    take_turns(&progress, "test runs", rounds, &mut cases, |case| {
        buckets.iter().for_each(|&bucket| kernel.words().set_flags(0, bucket, case.flags));
        let [ingress, _, xdp] = kernel.program_fds();
        let (tc, xdp) = if case.name == EMPTY { (empty.0.as_fd(), empty.1.as_fd()) } else { (ingress, xdp) };
        for (scenario, ns) in SCENARIOS.into_iter().zip([case.xdp(xdp, repeat)?, case.tc(tc, repeat)?]) {
            sheet.note("time per packet", scenario, case.name, "ns", ns);
        }
        Ok(())
    })?;
    for scenario in SCENARIOS {
        let of = |case: &str| sheet.find("time per packet", scenario, case).map(|s| s.samples.clone());
        let more: Vec<f64> = of("not for us")
            .into_iter()
            .flatten()
            .zip(of(EMPTY).into_iter().flatten())
            .map(|(a, b)| a - b)
            .collect();
        more.iter()
            .for_each(|&ns| sheet.note("time above the empty program", scenario, "not for us", "ns", ns));
    }
    Ok(())
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

fn cases(client: Ipv4Addr, port: u16) -> Vec<Case> {
    let to = |dest: Ipv4Addr, flags| tcp(client, dest, port, flags);
    let case = |name, frame, flags, verdict| Case { name, frame, flags, verdict };
    vec![
        case(EMPTY, to(VIP, ACK), Flags::NONE, DROP),
        case("not for us", to(Ipv4Addr::new(203, 0, 113, 1), ACK), Flags::NONE, PASS),
        case("foreign, no lookup", to(VIP, ACK), Flags::NONE, DROP),
        case("foreign, lookup", tcp(client, VIP, port ^ 1, ACK), Flags::GUESTS, DROP),
        case("foreign SYN", tcp(NEWCOMER, VIP, port, SYN), Flags::NONE, DROP),
        case("ours, SYN", tcp(NEWCOMER, VIP, port, SYN), Flags::MINE, PASS),
        case("ours, established", to(VIP, ACK), Flags::GUESTS, PASS),
    ]
}

fn tcp(source: Ipv4Addr, dest: Ipv4Addr, port: u16, flags: u8) -> Vec<u8> {
    let mut frame =
        [&CLUSTER_MAC[..], &[2, 0, 0, 0, 0, 1], &[0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]]
            .concat();
    frame.extend(source.octets());
    frame.extend(dest.octets());
    frame.extend(port.to_be_bytes());
    frame.extend([0, 22, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    // As large as the smallest Ethernet frame.
    frame.resize(60, 0);
    frame
}

//! What a packet costs: nanoseconds per run of each program for each kind of packet, by `BPF_PROG_TEST_RUN`.
//!
//! Beside an empty program, in interleaved rounds so that a change of the clock speed hits all alike. Medians are shown,
//! and the least of all rounds: what the program costs when nobody else uses the core or its sibling.
//! `--json` prints the same for machines, `--repeat N` changes the runs per round, `--rounds N` their number. Root is
//! needed. The exit code says nothing about the aims: it is for the reader to compare.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use onevip_bpf::{Kernel, KernelConfig, VipConfig, boot_time_ns, ensure_bpffs, load_empty, test_run};
use onevip_core::{Flags, Hasher};
use std::error::Error;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const VIP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 10);
const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x10);
/// Whose SYN passes. It must not be the client with the session, whose bucket would count as having guests from then on.
const NEWCOMER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const NEWCOMER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const CLUSTER_MAC: [u8; 6] = [0x01, 0x00, 0x5e, 0, 0, 0x0a];
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// What is asked of a figure, relative to the empty program.
#[derive(Clone, Copy)]
enum Aim {
    None,
    /// At most so many times the empty program.
    Times(f64),
    /// At most so many ns more than the empty program.
    Plus(f64),
}

struct Case {
    name: &'static str,
    frame: Vec<u8>,
    flags: Flags,
    aim: Aim,
    /// ns per packet, one per round.
    xdp: Vec<f64>,
    tc: Vec<f64>,
    /// What tc must return, so that the figure is about what its name says.
    verdict: u32,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: u32| -> Result<u32> {
        match arguments.iter().position(|argument| argument == name) {
            Some(at) => Ok(arguments.get(at + 1).ok_or("a number is missing")?.parse()?),
            None => Ok(default),
        }
    };
    let (repeat, rounds) = (number("--repeat", 1_000_000)?, number("--rounds", 15)?);
    isolate()?;
    let cases = measure(repeat, rounds)?;
    if arguments.iter().any(|argument| argument == "--json") {
        print_json(&cases, repeat, rounds);
    } else {
        print_table(&cases, repeat, rounds);
    }
    Ok(())
}

/// Moves into namespaces of our own, in which nothing outlives us.
fn isolate() -> Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(|error| format!("cannot make namespaces: {error}; run this as root"))?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), none)?;
    for command in ["link set lo up".to_owned(), format!("address add {VIP6}/128 dev lo nodad")] {
        std::process::Command::new("ip").args(command.split(' ')).status()?;
    }
    ensure_bpffs(Path::new("/mnt/onevip"))?;
    Ok(())
}

fn measure(repeat: u32, rounds: u32) -> Result<Vec<Case>> {
    let (mut kernel, _) = Kernel::open(Path::new("/mnt/onevip"))?;
    let vip = VipConfig {
        addresses: vec![VIP.into(), VIP6.into()],
        hasher: Hasher::DEFAULT,
        beat_port: 1112,
        orphan_wait_ms: 150,
        cluster_mac: CLUSTER_MAC,
    };
    kernel.set_config(&KernelConfig { vips: vec![vip] })?;
    kernel.words().set_lease_deadline_ns(boot_time_ns() + 3_000_000_000_000);
    let sessions = [Session::open(VIP.into())?, Session::open(VIP6.into())?];
    let clients = sessions.each_ref().map(|session| (session.client.ip(), session.client.port()));

    let mut cases = cases(clients);
    let empty = (load_empty(3, 2)?, load_empty(6, 1)?);
    let buckets = [clients[0].0, clients[1].0, NEWCOMER.into(), NEWCOMER6.into()]
        .map(|client| Hasher::DEFAULT.bucket(client, 0, 0));
    for _ in 0..rounds {
        for (number, case) in cases.iter_mut().enumerate() {
            buckets.iter().for_each(|&bucket| kernel.words().set_flags(0, bucket, case.flags));
            let [ingress, _, xdp] = kernel.program_fds();
            let (tc, xdp) = if number == 0 { (empty.0.as_fd(), empty.1.as_fd()) } else { (ingress, xdp) };
            case.round(tc, xdp, repeat)?;
        }
    }
    Ok(cases)
}

/// A connection to the VIP, both of whose ends are here.
struct Session {
    client: std::net::SocketAddr,
    _ends: (TcpStream, TcpStream, TcpListener),
}

impl Session {
    fn open(vip: IpAddr) -> Result<Self> {
        let listener = TcpListener::bind((vip, 22))?;
        let mut theirs = TcpStream::connect((vip, 22))?;
        theirs.write_all(b"held")?;
        let (ours, client) = listener.accept()?;
        Ok(Self { client, _ends: (ours, theirs, listener) })
    }
}

impl Case {
    fn new(name: &'static str, frame: Vec<u8>, flags: Flags, aim: Aim, verdict: u32) -> Self {
        Self { name, frame, flags, aim, xdp: Vec::new(), tc: Vec::new(), verdict }
    }

    fn round(&mut self, tc: BorrowedFd<'_>, xdp: BorrowedFd<'_>, repeat: u32) -> Result<()> {
        // The kernel's own measure, in whole ns: ours would count the milliseconds of setting up an XDP test, and
        // every time somebody else has the CPU.
        let timed = |program| -> Result<(f64, u32)> {
            let run = test_run(program, &self.frame, repeat)?;
            Ok((f64::from(run.duration_ns), run.returned))
        };
        let ((tc, returned), (xdp, _)) = (timed(tc)?, timed(xdp)?);
        if returned != self.verdict {
            return Err(format!("{}: tc returned {returned} instead of {}", self.name, self.verdict).into());
        }
        self.tc.push(tc);
        self.xdp.push(xdp);
        Ok(())
    }
}

fn cases([(client, port), (client6, port6)]: [(IpAddr, u16); 2]) -> Vec<Case> {
    const PASS: u32 = u32::MAX;
    const DROP: u32 = 2;
    let (vip, vip6) = (VIP.into(), VIP6.into());
    let (other, other6): (IpAddr, IpAddr) =
        (Ipv4Addr::new(203, 0, 113, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
    let syn = |source: IpAddr, vip| tcp(source, vip, 1024, SYN);
    vec![
        Case::new("empty program", tcp(client, vip, port, ACK), Flags::NONE, Aim::None, DROP),
        Case::new("not for us", tcp(client, other, port, ACK), Flags::NONE, Aim::Plus(10.0), PASS),
        Case::new("foreign, no lookup", tcp(client, vip, port, ACK), Flags::NONE, Aim::Times(1.3), DROP),
        Case::new("foreign, lookup", tcp(client, vip, port ^ 1, ACK), Flags::GUESTS, Aim::None, DROP),
        Case::new("foreign SYN", syn(NEWCOMER.into(), vip), Flags::NONE, Aim::None, DROP),
        Case::new("ours, SYN", syn(NEWCOMER.into(), vip), Flags::MINE, Aim::None, PASS),
        Case::new("ours, established", tcp(client, vip, port, ACK), Flags::GUESTS, Aim::None, PASS),
        Case::new("IPv6, not for us", tcp(client6, other6, port6, ACK), Flags::NONE, Aim::Plus(10.0), PASS),
        Case::new("  foreign, no lookup", tcp(client6, vip6, port6, ACK), Flags::NONE, Aim::Times(1.5), DROP),
        Case::new("  foreign, lookup", tcp(client6, vip6, port6 ^ 1, ACK), Flags::GUESTS, Aim::None, DROP),
        Case::new("  foreign SYN", syn(NEWCOMER6.into(), vip6), Flags::NONE, Aim::None, DROP),
        Case::new("  ours, SYN", syn(NEWCOMER6.into(), vip6), Flags::MINE, Aim::None, PASS),
        Case::new("  ours, established", tcp(client6, vip6, port6, ACK), Flags::GUESTS, Aim::None, PASS),
    ]
}

fn tcp(source: IpAddr, dest: IpAddr, port: u16, flags: u8) -> Vec<u8> {
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
        _ => unreachable!("every case is of one family"),
    }
    frame.extend(port.to_be_bytes());
    frame.extend([0, 22, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    // As large as the smallest Ethernet frame.
    frame.resize(frame.len().max(60), 0);
    frame
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// A program's figures for one case: median and least ns, each with its ratio to the empty program's.
fn figures(values: &[f64], empty: &[f64]) -> String {
    let (median_ns, least_ns) = (median(values), least(values));
    let (median_ratio, least_ratio) = (median_ns / median(empty), least_ns / least(empty));
    format!("{median_ns:>6.0} {median_ratio:>5.2} x {least_ns:>6.0} {least_ratio:>5.2} x")
}

impl Aim {
    /// What is aimed at, and whether the medians of both programs reach it.
    fn words(self, case: &Case, empty: &Case) -> String {
        let pairs = [(median(&case.xdp), median(&empty.xdp)), (median(&case.tc), median(&empty.tc))];
        let (aim, reached) = match self {
            Aim::None => return String::new(),
            Aim::Times(times) => {
                (format!("aim ≤ {times:.2} x"), pairs.iter().all(|(ns, empty)| ns / empty <= times))
            }
            Aim::Plus(plus) => {
                (format!("aim ≤ +{plus:.0} ns"), pairs.iter().all(|(ns, empty)| ns - empty <= plus))
            }
        };
        format!("{aim}: {}", if reached { "reached" } else { "missed" })
    }
}

fn print_table(cases: &[Case], repeat: u32, rounds: u32) {
    println!("Program cost, ns per packet (BPF_PROG_TEST_RUN, {repeat} runs per round, {rounds} rounds)\n");
    println!("{:<21} {:^31}   {:^31}", "", "XDP", "tc");
    let heads = format!("{:>14} {:>15}", "median", "least");
    println!("{:<21} {heads:<31}   {heads:<31}", "");
    let empty = &cases[0];
    for case in cases {
        let (xdp, tc) = (figures(&case.xdp, &empty.xdp), figures(&case.tc, &empty.tc));
        println!("{:<21} {xdp:<31}   {tc:<31}   {}", case.name, case.aim.words(case, empty));
    }
    println!("\nWhere the time of a foreign packet goes: docs/design.md, \"What a packet costs\".");
}

fn print_json(cases: &[Case], repeat: u32, rounds: u32) {
    let rows: Vec<String> = cases
        .iter()
        .map(|case| {
            let (xdp, tc) = (median(&case.xdp), median(&case.tc));
            let (xdp_least, tc_least) = (least(&case.xdp), least(&case.tc));
            format!(
                "{{\"case\": \"{}\", \"xdp_ns\": {xdp:.2}, \"tc_ns\": {tc:.2}, \
                 \"xdp_least_ns\": {xdp_least:.2}, \"tc_least_ns\": {tc_least:.2}}}",
                case.name
            )
        })
        .collect();
    println!("{{\"benchmark\": \"program_cost\", \"repeat\": {repeat}, \"rounds\": {rounds}, \"cases\": [");
    println!("  {}\n]}}", rows.join(",\n  "));
}

//! The receive path of a node in a kernel thread of its own, whose processor time is counted.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::read_net;
use crate::lab::Lab;
use crate::net::INTERFACE;
use crate::plan::Host;
use crate::process::{run_ok, wait_until};

/// The processor that receives; the only one, where there is only one.
const PROCESSOR: usize = 1;
/// `SIOCETHTOOL` and `ETHTOOL_SGRO` (linux/sockios.h, linux/ethtool.h).
const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_SGRO: u32 = 0x2c;

/// The counters of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Processor time of its receive path.
    pub busy_ns: u64,
    /// Frames that it took out of its ring.
    pub frames: u64,
    /// TCP segments that reached its stack.
    pub segments: u64,
}

/// One node.
pub struct ReceivePath {
    host: String,
    thread: i32,
}

impl ReceivePath {
    /// Makes a node receive in a thread, on a processor of its own.
    ///
    /// # Errors
    /// When the kernel has no threaded NAPI (5.12) or veth none at all without XDP (5.13).
    pub fn prepare(lab: &Lab, id: u8) -> Result<Self> {
        let host = Host::Node(id).to_string();
        lab.inside(&host, || set_gro(true))??;
        let before = napi_threads();
        // `ip netns exec` because the file is only there in a /sys that was mounted in the namespace.
        let script = format!("echo 1 >/sys/class/net/{INTERFACE}/threaded");
        let netns = lab.name().netns(Host::Node(id));
        run_ok(
            Command::new("ip").args(["netns", "exec", &netns, "sh", "-c", &script]),
            Duration::from_secs(20),
        )
        .context("the kernel does not receive in threads (Linux 5.12 does)")?;
        let new: Vec<i32> = napi_threads().difference(&before).copied().collect();
        let [thread] = new[..] else {
            anyhow::bail!("{host} has {} new threads that receive instead of one", new.len())
        };
        pin(thread, PROCESSOR)?;
        Ok(Self { host, thread })
    }

    /// The counters now.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn read(&self, lab: &Lab) -> Result<Reading> {
        let stat = fs::read_to_string(format!("/proc/{}/schedstat", self.thread))
            .context("the thread that receives has gone")?;
        let busy_ns = stat.split(' ').next().and_then(|word| word.parse().ok());
        let (dev, snmp) = lab.inside(&self.host, || (read_net("dev"), read_net("snmp")))?;
        Ok(Reading {
            busy_ns: busy_ns.context("schedstat has no time (CONFIG_SCHED_INFO)")?,
            frames: frames_taken(&dev?).context("the node has lost its interface")?,
            segments: segments(&snmp?).context("no TCP counters")?,
        })
    }

    /// The counters once everything that was sent has been dealt with.
    ///
    /// # Errors
    /// When it goes on receiving.
    pub fn settle(&self, lab: &Lab) -> Result<Reading> {
        let mut last = self.read(lab)?;
        wait_until(Duration::from_secs(10), &format!("{} to have received all", self.host), || {
            std::thread::sleep(Duration::from_millis(3));
            let now = self.read(lab).unwrap_or(last);
            std::mem::replace(&mut last, now) == now
        })?;
        Ok(last)
    }
}

/// Confines a thread (0 is the calling one) to a processor, if this machine has that one.
pub fn pin(thread: i32, processor: usize) -> Result<()> {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut set = CpuSet::new();
    set.set(processor % count)?;
    sched_setaffinity(Pid::from_raw(thread), &set).context("cannot choose the processor of a thread")
}

fn napi_threads() -> BTreeSet<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let receives = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.starts_with(&format!("napi/{INTERFACE}")))
    };
    pids.filter(receives).collect()
}

/// With GRO, veth receives by NAPI as a network card does; frames without data are never merged.
fn set_gro(on: bool) -> Result<()> {
    let mut value = [ETHTOOL_SGRO, u32::from(on)];
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(INTERFACE.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    use std::os::fd::AsRawFd;
    // SAFETY: the request and what it points to outlive the call; the kernel reads two words.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    ensure!(result == 0, "cannot switch GRO on: {}", std::io::Error::last_os_error());
    Ok(())
}

/// From `/proc/net/dev`: received packets. (What overflowed the ring was never received.)
fn frames_taken(dev: &str) -> Option<u64> {
    let line = dev.lines().find_map(|line| line.trim().strip_prefix(&format!("{INTERFACE}:")))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// From `/proc/net/snmp`: `InSegs` of TCP. Names are in one line, values in the next.
fn segments(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let at = lines.next()?.split(' ').position(|name| name == "InSegs")?;
    lines.next()?.split(' ').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_name() {
        let dev = "Inter-| Receive\n face |bytes packets\n    lo: 1 2 3\n  eth0: 6000 100 0 0 0 0 0 7 8 9\n";
        assert_eq!(frames_taken(dev), Some(100));
        let snmp = "Ip: InReceives\nIp: 5\nTcp: RtoMin ActiveOpens InSegs\nTcp: 200 3 42\n";
        assert_eq!(segments(snmp), Some(42));
        assert_eq!((frames_taken(""), segments("")), (None, None));
    }
}

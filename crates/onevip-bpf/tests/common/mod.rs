//! What the tests here share: a namespace of their own, a configuration, frames.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod foreign;
pub mod frame;
pub mod host;
pub mod reference;
pub mod table;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use onevip_bpf::{KernelConfig, VipConfig, ensure_bpffs};
use onevip_core::{Bucket, Flags, Hasher, Selector};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
pub const CLUSTER_MAC: [u8; 6] = [0x01, 0x00, 0x5e, 0x33, 0x64, 0x0a];
pub const BEAT_PORT: u16 = 1112;
/// Longer than a test takes between two frames, however slow the machine, and far shorter than what it makes of age.
pub const ORPHAN_WAIT_MS: u16 = 20_000;
/// The VIP's index.
pub const V: usize = 0;

/// Runs a test in network and mount namespaces of its own, with a bpffs at the directory it is given. Everything it
/// makes there is gone with it, also when it fails.
pub fn isolated<T: Send>(test: impl FnOnce(&Path) -> T + Send) -> T {
    assert!(nix::unistd::geteuid().is_root(), "these tests load BPF programs: run them as root");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces of our own");
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
            mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), none).expect("a tmpfs at /mnt");
            run("ip link set lo up");
            let dir = PathBuf::from("/mnt/onevip");
            assert!(ensure_bpffs(&dir).expect("a bpffs"));
            test(&dir)
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a command, which must succeed, and returns what it prints.
pub fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().expect(command);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until `condition` holds, five seconds at most.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: waited until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One VIP with an address of each family.
pub fn config() -> KernelConfig {
    KernelConfig { vips: vec![vip(Hasher::DEFAULT)] }
}

pub fn vip(hasher: Hasher) -> VipConfig {
    VipConfig {
        addresses: vec![VIP.into(), VIP6.into()],
        selector: Selector::uniform(hasher),
        beat_port: BEAT_PORT,
        cluster_mac: CLUSTER_MAC,
        orphan_wait_ms: ORPHAN_WAIT_MS,
    }
}

/// The VIP's address of the family of this one.
pub fn vip_for(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { VIP.into() } else { VIP6.into() }
}

/// The bucket of a client by its address.
pub fn bucket_of(client: impl Into<IpAddr>) -> Bucket {
    Hasher::DEFAULT.bucket(client.into(), 0, 0)
}

pub fn flags(bits: &[Flags]) -> Flags {
    bits.iter().fold(Flags::NONE, |all, &flag| all.with(flag))
}

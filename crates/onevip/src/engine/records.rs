//! What the daemon writes down while it runs: whose kernels answer questions, and a larger number for its life.
//!
//! Kept by the thread of the log, which may wait for a disk. Whose kernels answer is learnt while the nodes are well, and kept
//! over restarts, so that a node that dies while this one is down is found gone all the same. It is kept by interface and
//! address: a node that gets another address has to answer anew.

use crate::base::beat_loop::BeatLoopHandle;
use crate::base::command::{Command, Notice};
use crate::base::incarnation;
use crate::events::words::addresses;
use crate::rpc::transport::{RpcCommand, RpcHandle};
use onevip_config::Config;
use onevip_core::beat::Incarnation;
use onevip_core::membership::Event;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// By interface, the addresses for which a kernel has answered.
pub type Answering = BTreeSet<(String, IpAddr)>;

/// The file in the state directory: a line `INTERFACE ADDRESS` each.
const FILE: &str = "answering";
/// More is not read: 64 nodes with eight addresses each, on several interfaces.
const BYTES_MAX: u64 = 64 * 1024;
/// More are not kept.
const ENTRIES_MAX: usize = 1024;
/// So often in its life this daemon begins anew. More often would mean that somebody else goes on as this node.
const BEGINNINGS_MAX: u32 = 3;

/// What earlier daemons wrote down. A file that is missing, or cannot be understood, says nothing.
pub fn answering(state_dir: &Path) -> Answering {
    let mut text = Vec::new();
    let read = File::open(state_dir.join(FILE)).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut text));
    if read.is_err() {
        return Answering::new();
    }
    let text = String::from_utf8_lossy(&text);
    let entry = |line: &str| {
        let (interface, address) = line.trim().split_once(' ')?;
        Some((interface.to_owned(), address.parse().ok()?))
    };
    text.lines().filter_map(entry).take(ENTRIES_MAX).collect()
}

/// Writes things down.
pub struct Records {
    state_dir: PathBuf,
    answering: Answering,
    beginnings: u32,
    beat_loop: BeatLoopHandle,
    rpc: RpcHandle,
}

impl Records {
    /// In this directory. The beat loop and the transport are told of a new life.
    pub fn new(state_dir: &Path, beat_loop: BeatLoopHandle, rpc: RpcHandle) -> Self {
        let (state_dir, answering) = (state_dir.to_owned(), answering(state_dir));
        Self { state_dir, answering, beginnings: 0, beat_loop, rpc }
    }

    /// Writes down what a notice says of it.
    pub fn keep(&mut self, config: &Config, notice: &Notice) {
        match notice {
            Notice::Answers { interface, address } => self.answers(interface.clone(), *address),
            Notice::Event { event: Event::Askable(node, false), .. } => {
                self.ignores(addresses(config, *node))
            }
            Notice::Event { event: Event::Outlived(known), .. } => self.outlived(*known),
            _ => {}
        }
    }

    /// A kernel answered for this address.
    fn answers(&mut self, interface: String, address: IpAddr) {
        if self.answering.len() < ENTRIES_MAX && self.answering.insert((interface, address)) {
            self.write();
        }
    }

    /// No kernel answers for these addresses any more.
    fn ignores(&mut self, addresses: &[IpAddr]) {
        let before = self.answering.len();
        self.answering.retain(|(_, address)| !addresses.contains(address));
        if self.answering.len() < before {
            self.write();
        }
    }

    fn write(&self) {
        let lines: Vec<_> =
            self.answering.iter().map(|(interface, address)| format!("{interface} {address}\n")).collect();
        let path = self.state_dir.join(FILE);
        let written =
            fs::create_dir_all(&self.state_dir).and_then(|()| incarnation::store(&path, &lines.concat()));
        if let Err(error) = written {
            tracing::warn!(
                "cannot write {}: {error}; until it is written, this node forgets with its next start which nodes' kernels \
                 answer, and keeps the sessions of those that are dead",
                path.display()
            );
        }
    }

    /// Other nodes know the life `known` of this node: begins anew with a larger number.
    fn outlived(&mut self, known: Incarnation) {
        if self.beginnings == BEGINNINGS_MAX {
            return tracing::error!(
                "this daemon has begun anew {BEGINNINGS_MAX} times, and does not again: another daemon seems to run as \
                 this node, with a state directory of its own; it takes no share until it is restarted"
            );
        }
        match incarnation::beyond(&self.state_dir, known) {
            Ok(incarnation) => {
                self.beginnings += 1;
                tracing::warn!("begins anew as incarnation {}", incarnation.0);
                // Both end after this thread.
                self.beat_loop.send(Command::BeginAnew(incarnation));
                self.rpc.send(RpcCommand::BeginAnew(incarnation));
            }
            Err(error) => tracing::error!("cannot begin anew, and takes no share: {error:#}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::mailbox;
    use crate::rpc::transport;
    use onevip_core::NodeId;

    fn directory(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("onevip-records-{name}-{}", std::process::id()))
    }

    fn records(dir: &Path) -> (Records, mailbox::Inbox<Command>) {
        let (beat_loop, inbox) = mailbox::mailbox().unwrap();
        let (rpc, _) = transport::handle(NodeId::new(1).unwrap());
        (Records::new(dir, BeatLoopHandle::new(beat_loop), rpc), inbox)
    }

    #[test]
    fn who_answered_is_known_to_the_next_daemon_and_nonsense_is_not() {
        let dir = directory("answering");
        let [one, two]: [IpAddr; 2] = ["198.51.100.11".parse().unwrap(), "2001:db8::12".parse().unwrap()];
        let (mut first, _inbox) = records(&dir);
        first.answers("eth0".to_owned(), one);
        first.answers("eth0".to_owned(), two);
        let known = answering(&dir);
        assert_eq!(known, [("eth0".to_owned(), one), ("eth0".to_owned(), two)].into());
        first.ignores(&[one]);
        assert_eq!(answering(&dir), [("eth0".to_owned(), two)].into());

        fs::write(dir.join(FILE), b"eth0\n\xff\xfe 1\neth0 300.1.1.1\n\neth1 198.51.100.11\n").unwrap();
        assert_eq!(answering(&dir), [("eth1".to_owned(), one)].into());
        fs::write(dir.join(FILE), vec![b'x'; 1 << 20]).unwrap();
        assert!(answering(&dir).is_empty());
        fs::remove_dir_all(&dir).unwrap();
        assert!(answering(&dir).is_empty());
    }

    #[test]
    fn it_begins_anew_beyond_what_others_know_but_not_for_ever() {
        let dir = directory("anew");
        let (mut records, inbox) = records(&dir);
        for known in [4_000_000_000, 4_000_000_005, 4_100_000_000, 4_200_000_000] {
            records.outlived(Incarnation(known));
        }
        let told: Vec<u32> = std::iter::from_fn(|| inbox.next())
            .map(|command| match command {
                Command::BeginAnew(incarnation) => incarnation.0,
                _ => panic!("nothing else is told"),
            })
            .collect();
        assert_eq!(told, [4_000_000_001, 4_000_000_006, 4_100_000_001]);
        assert_eq!(incarnation::next(&dir).unwrap(), Incarnation(4_100_000_002));
        fs::remove_dir_all(&dir).unwrap();
    }
}

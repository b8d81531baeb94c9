//! What onevip changed on this host, so that `teardown` can undo exactly that and nothing else.
//!
//! Kept as `host.json` in the run directory, which does not survive a reboot; neither do the changes. An entry is
//! written before its change is made: a crash in between leaves an entry whose undo finds nothing to do.

use crate::config::MacAddr;
use crate::host::{cluster_mac, netlink::Netlink};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// One change and what it takes to undo it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// A VIP was added to an interface.
    Address {
        /// Name of the interface.
        interface: String,
        /// The VIP.
        address: IpAddr,
    },
    /// An interface joined the cluster MAC.
    Mac {
        /// Name of the interface.
        interface: String,
        /// The cluster MAC.
        mac: [u8; 6],
    },
    /// An interface was made to receive everything, having no filter for the cluster MAC.
    Promiscuous {
        /// Name of the interface.
        interface: String,
    },
    /// A kernel setting was changed.
    Sysctl {
        /// Path below `/proc/sys`.
        key: String,
        /// Its value before.
        before: String,
    },
}

impl Change {
    /// Whether both concern the same thing: the first entry for it is the one that knows how it was.
    fn concerns_same(&self, other: &Change) -> bool {
        match (self, other) {
            (Change::Sysctl { key: a, .. }, Change::Sysctl { key: b, .. }) => a == b,
            _ => self == other,
        }
    }

    fn undo(&self, netlink: &mut Netlink) -> io::Result<()> {
        match self {
            Change::Address { interface, address } => {
                match netlink.links()?.into_iter().find(|link| link.name == *interface) {
                    None => Ok(()),
                    Some(link) => netlink.remove_address(link.index, *address).or_else(|error| {
                        if error.kind() == io::ErrorKind::AddrNotAvailable { Ok(()) } else { Err(error) }
                    }),
                }
            }
            Change::Mac { interface, mac } => cluster_mac::leave(netlink, interface, *mac).or_else(gone),
            Change::Promiscuous { interface } => {
                cluster_mac::unicast::set_promiscuous(interface, false).or_else(gone)
            }
            Change::Sysctl { key, before } => fs::write(sysctl_path(key), before).or_else(gone),
        }
    }
}

/// Nothing to undo on an interface that no longer exists.
fn gone(error: io::Error) -> io::Result<()> {
    let missing = error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV);
    if missing { Ok(()) } else { Err(error) }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Change::Address { interface, address } => write!(f, "address {address} on {interface}"),
            Change::Mac { interface, mac } => {
                write!(f, "cluster MAC {} on {interface}", MacAddr(*mac))
            }
            Change::Promiscuous { interface } => write!(f, "promiscuous mode of {interface}"),
            Change::Sysctl { key, before } => write!(f, "setting {key} (was {before})"),
        }
    }
}

/// The list of changes, on disk before it is true.
pub struct Journal {
    path: PathBuf,
    changes: Vec<Change>,
}

impl Journal {
    /// Opens the journal of this run directory; empty where there is none.
    ///
    /// # Errors
    /// The file is there and cannot be read or understood.
    pub fn open(run_dir: &Path) -> anyhow::Result<Self> {
        let path = run_dir.join("host.json");
        let changes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            text => serde_json::from_slice(&text.with_context(|| format!("cannot read {}", path.display()))?)
                .with_context(|| {
                    format!(
                        "{} lists what to undo on this host, but cannot be understood; compare it with \
                         `ip address` and `ip maddress`, undo by hand what is left, and remove the file",
                        path.display()
                    )
                })?,
        };
        Ok(Self { path, changes })
    }

    /// Whether this change, or an earlier one of the same thing, is noted.
    pub fn has(&self, change: &Change) -> bool {
        self.changes.iter().any(|known| known.concerns_same(change))
    }

    /// Notes that `change` is about to be made.
    ///
    /// # Errors
    /// Writing failed; then the change must not be made.
    pub fn note(&mut self, change: Change) -> anyhow::Result<()> {
        if self.has(&change) {
            return Ok(());
        }
        self.changes.push(change);
        self.save()
    }

    /// Undoes everything, newest first, and removes the file. What cannot be undone stays in it; the others go on.
    ///
    /// # Errors
    /// The list of what could not be undone, and why.
    pub fn undo_all(mut self) -> anyhow::Result<Vec<Change>> {
        let undone = self.undo_unless(|_| false)?;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(undone),
        }
    }

    /// Undoes what `wanted` does not pick, newest first: what another configuration has left behind. What cannot be
    /// undone stays noted; the others go on.
    ///
    /// # Errors
    /// The list of what could not be undone, and why.
    pub fn undo_unless(&mut self, wanted: impl Fn(&Change) -> bool) -> anyhow::Result<Vec<Change>> {
        if self.changes.iter().all(&wanted) {
            return Ok(Vec::new());
        }
        let mut netlink = Netlink::open().context("cannot talk to the kernel over netlink")?;
        let (mut undone, mut left, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(change) = self.changes.pop() {
            if wanted(&change) {
                left.push(change);
                continue;
            }
            match change.undo(&mut netlink) {
                Ok(()) => undone.push(change),
                Err(error) => {
                    reasons.push(format!("{change}: {error}"));
                    left.push(change);
                }
            }
        }
        left.reverse();
        self.changes = left;
        self.save()?;
        anyhow::ensure!(reasons.is_empty(), "could not undo: {}", reasons.join("; "));
        Ok(undone)
    }

    fn save(&self) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(&self.changes)?;
        let draft = self.path.with_extension("json.new");
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, &self.path))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Sets a kernel setting, noting first what it was; true when it had another value.
///
/// # Errors
/// The setting does not exist or cannot be written.
pub fn set_sysctl(journal: &mut Journal, key: &str, value: &str) -> anyhow::Result<bool> {
    let path = sysctl_path(key);
    let before = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let before = before.trim();
    if before == value {
        return Ok(false);
    }
    journal.note(Change::Sysctl { key: key.to_owned(), before: before.to_owned() })?;
    fs::write(&path, value).with_context(|| format!("cannot set {} to {value}", path.display()))?;
    Ok(true)
}

/// Interface names may contain dots, so keys are paths with slashes, never the dotted form.
fn sysctl_path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_of_a_setting_is_the_one_that_is_remembered() {
        let dir = std::env::temp_dir().join(format!("onevip-journal-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut journal = Journal::open(&dir).unwrap();
        let set = |before: &str| Change::Sysctl { key: "net/x".into(), before: before.into() };
        journal.note(set("0")).unwrap();
        journal.note(set("2")).unwrap();
        journal.note(Change::Mac { interface: "eth0".into(), mac: [1; 6] }).unwrap();
        let again = Journal::open(&dir).unwrap();
        assert_eq!(again.changes, [set("0"), Change::Mac { interface: "eth0".into(), mac: [1; 6] }]);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_journal_that_cannot_be_understood_is_not_overwritten() {
        let dir = std::env::temp_dir().join(format!("onevip-journal-bad-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("host.json"), "not json").unwrap();
        let error = Journal::open(&dir).err().expect("nonsense is no journal");
        assert!(format!("{error:#}").contains("undo by hand"), "{error:#}");
        fs::remove_dir_all(&dir).unwrap();
    }
}

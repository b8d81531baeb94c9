//! What onevip changed on this host, so that `teardown` can undo exactly that and nothing else.
//!
//! Kept as `host.json` in the run directory, which does not survive a reboot; neither do the changes. An entry is
//! written before its change is made: a crash in between leaves an entry whose undo finds nothing to do.

use crate::{cluster_mac, netlink::Netlink};
use anyhow::Context;
use onevip_core::MacAddr;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// One change and what it takes to undo it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// A VIP was added to an interface, or made there what it must be. It goes in any case: left on a host without
    /// programs it would answer everybody, beside the nodes that serve it.
    Address {
        /// Name of the interface.
        interface: String,
        /// The VIP.
        address: IpAddr,
        /// How and where it had been before, in words, where it was there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<String>,
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
            (
                Change::Address { interface: a, address: of_a, .. },
                Change::Address { interface: b, address: of_b, .. },
            ) => (a, of_a) == (b, of_b),
            _ => self == other,
        }
    }

    fn undo(&self, netlink: &mut Netlink) -> io::Result<()> {
        match self {
            Change::Address { interface, address, .. } => remove_vip(netlink, interface, *address),
            Change::Mac { interface, mac } => cluster_mac::leave(netlink, interface, *mac).or_else(gone),
            Change::Promiscuous { interface } => {
                cluster_mac::unicast::set_promiscuous(interface, false).or_else(gone)
            }
            Change::Sysctl { key, before } => fs::write(sysctl_path(key), before).or_else(gone),
        }
    }
}

/// Takes a VIP from an interface, in whatever state it is by now.
fn remove_vip(netlink: &mut Netlink, interface: &str, vip: IpAddr) -> io::Result<()> {
    let Some(link) = netlink.links()?.into_iter().find(|link| link.name == interface) else { return Ok(()) };
    let there = netlink.addresses()?.into_iter().filter(|known| known.link == link.index && known.ip == vip);
    there.into_iter().try_for_each(|address| netlink.remove_address(interface, &address))
}

/// Nothing to undo on an interface that no longer exists.
fn gone(error: io::Error) -> io::Result<()> {
    let missing = error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV);
    if missing { Ok(()) } else { Err(error) }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Change::Address { interface, address, was } => {
                write!(f, "address {address} on {interface}")?;
                was.as_ref().map_or(Ok(()), |was| {
                    write!(
                        f,
                        "; it had been there as {was}, and is not put back: this host alone would answer for it"
                    )
                })
            }
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

    /// The VIPs that were put on this host.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let vip = |change: &Change| match change {
            Change::Address { address, .. } => Some(*address),
            _ => None,
        };
        self.changes.iter().filter_map(vip).collect()
    }

    /// What a kernel setting that we changed was before, if it is a number.
    pub fn before(&self, wanted: &str) -> Option<u32> {
        self.changes.iter().find_map(|change| match change {
            Change::Sysctl { key, before } if key == wanted => before.parse().ok(),
            _ => None,
        })
    }

    /// Forgets what there is nothing left to undo of.
    ///
    /// # Errors
    /// Writing failed.
    pub fn forget(&mut self, is_gone: impl Fn(&Change) -> bool) -> anyhow::Result<()> {
        let before = self.changes.len();
        self.changes.retain(|change| !is_gone(change));
        if self.changes.len() == before { Ok(()) } else { self.save() }
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
        // Addresses go first, also where settings were changed after them: those keep others from answering for them.
        self.changes.sort_by_key(|change| matches!(change, Change::Address { .. }));
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

/// The value of a kernel setting that is a number; none where there is no such setting.
pub fn read_sysctl(key: &str) -> Option<u32> {
    fs::read_to_string(sysctl_path(key)).ok()?.trim().parse().ok()
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
    fn an_entry_of_an_earlier_release_is_the_same_address() {
        let dir = std::env::temp_dir().join(format!("onevip-journal-old-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let text = r#"[{"change": "address", "interface": "nowhere0", "address": "198.51.100.10"}]"#;
        fs::write(dir.join("host.json"), text).unwrap();
        let mut journal = Journal::open(&dir).unwrap();
        let address: IpAddr = "198.51.100.10".parse().unwrap();
        assert_eq!(journal.addresses(), [address]);
        let was = Some("/32 scope global on nowhere0".to_owned());
        journal.note(Change::Address { interface: "nowhere0".into(), address, was }).unwrap();
        assert_eq!(journal.changes.len(), 1);
        assert_eq!(journal.undo_all().unwrap().len(), 1, "nothing to undo where there is no such interface");
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

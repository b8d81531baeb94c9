//! The bans in the state directory, so that they outlive a reboot.

use crate::bans::wire::BanRecord;
use anyhow::Context;
use onevip_core::Prefix;
use onevip_core::Time;
use onevip_core::bans::Entry;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

const FILE: &str = "bans.json";

/// The file.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// In which boot it was written: within one, the kernel's clock says exactly how long ago that was.
    boot_id: String,
    /// When, by that clock, in ns.
    boot_ns: u64,
    /// When, by the time of day, in ms since 1970: for other boots.
    clock_ms: u64,
    bans: Vec<BanRecord>,
}

/// Which boot this is.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Writes all of it, durably.
///
/// # Errors
/// The file cannot be written.
pub fn save(dir: &Path, bans: Vec<BanRecord>, now: Time, clock_ms: u64) -> anyhow::Result<()> {
    let stored = Stored { boot_id: boot_id(), boot_ns: now.nanos(), clock_ms, bans };
    let path = dir.join(FILE);
    let draft = path.with_extension("new");
    let write = || {
        fs::create_dir_all(dir)?;
        let mut file = fs::File::create(&draft)?;
        file.write_all(&serde_json::to_vec(&stored)?)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        fs::File::open(dir)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// What was written last, as it is now. Nothing when there is no file.
///
/// # Errors
/// The file cannot be read or understood.
pub fn load(dir: &Path, now: Time, clock_ms: u64) -> anyhow::Result<Vec<(Prefix, Entry)>> {
    let path = dir.join(FILE);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let stored: Stored = serde_json::from_slice(&text)
        .with_context(|| format!("{} is damaged; remove it to be rid of this message", path.display()))?;
    let ago = if stored.boot_id == boot_id() {
        now.since(Time::from_nanos(stored.boot_ns))
    } else {
        // A clock that went back says nothing: then the bans last longer rather than shorter.
        Duration::from_millis(clock_ms.saturating_sub(stored.clock_ms))
    };
    Ok(stored.bans.into_iter().filter_map(|told| told.read(now, ago)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use onevip_core::NodeId;
    use onevip_core::bans::BanList;

    #[test]
    fn what_was_stored_is_there_again_for_as_long_as_was_left() {
        let dir = std::env::temp_dir().join(format!("onevip-bans-{}", std::process::id()));
        let now = Time::from_nanos(5_000_000_000_000);
        let mut book = BanList::new(NodeId::new(1).unwrap());
        let hour = Duration::from_secs(3600);
        book.ban("192.0.2.1".parse().unwrap(), Some(hour), false, "x", (now, 1_000_000)).unwrap();
        book.ban("192.0.2.2".parse().unwrap(), None, true, "", (now, 1_000_000)).unwrap();
        assert!(load(&dir, now, 0).unwrap().is_empty(), "there is no file yet");
        let told =
            book.changes(0, 99).0.iter().map(|(prefix, entry)| BanRecord::of(prefix, entry, now)).collect();
        save(&dir, told, now, 1_000_000).unwrap();
        let until = |now, clock_ms| load(&dir, now, clock_ms).unwrap()[0].1.until;
        assert_eq!(
            until(now + hour / 4, 9_000_000),
            now + hour,
            "the same boot: the time of day does not matter"
        );
        let text = fs::read_to_string(dir.join(FILE)).unwrap();
        fs::write(dir.join(FILE), text.replace(&boot_id(), "another")).unwrap();
        let early = Time::from_nanos(7);
        assert_eq!(until(early, 1_000_000 + 1_800_000), early + hour / 2, "another boot, half an hour later");
        assert_eq!(until(early, 0), early + hour, "with a clock that was set back");
        assert_eq!(until(early, u64::MAX), Time::ZERO, "long ago");
        assert_eq!(load(&dir, early, u64::MAX).unwrap()[1].1.until, Time::NEVER);
        fs::write(dir.join(FILE), "{").unwrap();
        assert!(load(&dir, now, 0).unwrap_err().to_string().contains("is damaged"));
        fs::remove_dir_all(&dir).unwrap();
    }
}

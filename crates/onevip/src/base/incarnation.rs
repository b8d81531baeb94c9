//! Which life of this node's daemon it is: a number that never goes back, not even over a reboot or when the clock was
//! set back. Beats are sealed with it, so using one twice would reuse nonces.

use super::clock::unix_time;
use anyhow::Context;
use onevip_core::beat::Incarnation;
use std::fs;
use std::io::Write;
use std::path::Path;

/// The file in the state directory.
const FILE: &str = "incarnation";

/// Takes the next incarnation and stores it in `state_dir` before it is used.
///
/// It is the time in seconds since 1970, or one more than the last one where the clock says less.
///
/// # Errors
/// The directory or the file in it cannot be read or written durably, or there is no larger number.
pub fn next(state_dir: &Path) -> anyhow::Result<Incarnation> {
    // A clock beyond 2106 says nothing; counting goes on.
    let seconds = unix_time().as_secs();
    let now = u32::try_from(seconds).unwrap_or(0);
    take(state_dir, |last| Some(now.max(last.checked_add(1)?)))
}

/// Takes and stores an incarnation larger than `known`, which others know of this node, and than the last one stored.
///
/// # Errors
/// As [`next`].
pub fn beyond(state_dir: &Path, known: Incarnation) -> anyhow::Result<Incarnation> {
    take(state_dir, |last| last.max(known.0).checked_add(1))
}

fn take(state_dir: &Path, choose: impl Fn(u32) -> Option<u32>) -> anyhow::Result<Incarnation> {
    fs::create_dir_all(state_dir).with_context(|| format!("cannot create {}", state_dir.display()))?;
    let path = state_dir.join(FILE);
    let last = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        text => {
            let text = text.with_context(|| format!("cannot read {}", path.display()))?;
            text.trim().parse::<u32>().with_context(|| {
                format!(
                    "{} should hold a number, but says {:?}; if no onevip ran here in the last hour, remove it",
                    path.display(),
                    text.trim()
                )
            })?
        }
    };
    let incarnation = choose(last).with_context(|| {
        format!(
            "the numbers of this node's lives are used up ({}), because a clock was once far in the future: stop the \
             daemons of all nodes, remove {} here, and start them again",
            u32::MAX,
            path.display()
        )
    })?;
    store(&path, &format!("{incarnation}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Incarnation(incarnation))
}

/// Replaces a file durably: after a power loss it has the new text, or the old one if this had not returned.
pub fn store(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = fs::File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    match path.parent() {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back_whatever_the_clock_says() {
        let dir = std::env::temp_dir().join(format!("onevip-incarnation-{}", std::process::id()));
        let first = next(&dir).unwrap();
        assert!(next(&dir).unwrap() > first, "twice within a second");
        fs::write(dir.join("incarnation"), "4000000000\n").unwrap();
        assert_eq!(next(&dir).unwrap(), Incarnation(4_000_000_001), "the clock was set back by decades");
        assert_eq!(beyond(&dir, Incarnation(7)).unwrap(), Incarnation(4_000_000_002), "nor what others say");
        assert_eq!(beyond(&dir, Incarnation(4_100_000_000)).unwrap(), Incarnation(4_100_000_001));
        assert!(beyond(&dir, Incarnation(u32::MAX)).unwrap_err().to_string().contains("used up"));
        fs::write(dir.join("incarnation"), format!("{}\n", u32::MAX)).unwrap();
        assert!(next(&dir).unwrap_err().to_string().contains("used up"), "it does not wrap");
        fs::write(dir.join("incarnation"), "yesterday\n").unwrap();
        assert!(next(&dir).unwrap_err().to_string().contains("yesterday"));
        fs::remove_dir_all(&dir).unwrap();
    }
}

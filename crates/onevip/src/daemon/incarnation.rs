//! Which life of this node's daemon it is: a number that never goes back, not even over a reboot or when the clock was
//! set back. Beats are sealed with it, so using one twice would reuse nonces.

use anyhow::Context;
use onevip_core::beat::Incarnation;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Takes the next incarnation and stores it in `state_dir` before it is used.
///
/// It is the time in seconds since 1970, or one more than the last one where the clock says less.
///
/// # Errors
/// The directory or the file in it cannot be read or written durably.
pub fn next(state_dir: &Path) -> anyhow::Result<Incarnation> {
    fs::create_dir_all(state_dir).with_context(|| format!("cannot create {}", state_dir.display()))?;
    let path = state_dir.join("incarnation");
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
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32);
    let incarnation = now.max(last.saturating_add(1));
    store(&path, incarnation).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Incarnation(incarnation))
}

/// Durably: after a power loss the number must not be an older one.
fn store(path: &Path, incarnation: u32) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = fs::File::create(&draft)?;
    writeln!(file, "{incarnation}")?;
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
        fs::write(dir.join("incarnation"), "yesterday\n").unwrap();
        assert!(next(&dir).unwrap_err().to_string().contains("yesterday"));
        fs::remove_dir_all(&dir).unwrap();
    }
}

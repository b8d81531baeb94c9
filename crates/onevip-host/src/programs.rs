//! Programs of this host that run with our rights: which may, and how.
//!
//! Nothing is run because a process or a variable names it. Programs are found in fixed places, and only those count
//! that root alone can change. Whatever runs has an end: its time, and a bound on what it prints.

use super::bounded::{self, Bounds, Capture, Ran};
use std::fs;
use std::io::{self, Error, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Where programs are, the distribution's first. The `PATH` of whoever starts us is not asked.
const PLACES: [&str; 6] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];
/// A program that has not said what it has to say by now will not.
const SPEAKS_WITHIN: Duration = Duration::from_secs(5);
/// The most that a program may print, in bytes: a ruleset of nftables with some ten thousand elements has a few million.
const PRINTED_MAX: usize = 8 << 20;
/// So many that do not die may there be; then no more are started.
const UNDEAD_MAX: usize = 8;

/// Those that were killed and did not die in time.
static UNDEAD: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// A program that may be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it was found. Some are several in one, and tell by this which is meant.
    place: PathBuf,
    /// Where that leads to.
    real: PathBuf,
}

impl Program {
    /// Its file, without symbolic links in the path.
    pub fn file(&self) -> &Path {
        &self.real
    }

    /// A command that runs it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.real);
        command.arg0(&self.place);
        command
    }
}

/// The programs of this name that may be run, in the order of their places.
pub fn all(name: &str) -> impl Iterator<Item = Program> {
    PLACES.iter().filter_map(move |place| {
        let place = Path::new(place).join(name);
        Some(Program { real: of_root_alone(&place).ok()?, place })
    })
}

/// The first of them.
pub fn find(name: &str) -> Option<Program> {
    all(name).next()
}

/// The real path of a file that nobody but root can change or replace: it and each directory above it belong to root,
/// and neither group nor others may write there. Since that holds for the whole of the path, which has no symbolic
/// links, it still leads to the same file when it is used. (An access list that lets others write shows in the mode of
/// the group.)
///
/// # Errors
/// There is no such regular file, or `PermissionDenied` with what somebody else could change.
pub fn of_root_alone(path: &Path) -> io::Result<PathBuf> {
    if !path.is_absolute() {
        return Err(Error::new(ErrorKind::InvalidInput, format!("{} is no absolute path", path.display())));
    }
    let real = fs::canonicalize(path)?;
    for part in real.ancestors() {
        let found = fs::symlink_metadata(part)?;
        let kind_fits = if part == real { found.is_file() } else { found.is_dir() };
        if !kind_fits || found.uid() != 0 || found.mode() & 0o022 != 0 {
            let words = format!("{} is not root's alone", part.display());
            return Err(Error::new(ErrorKind::PermissionDenied, words));
        }
    }
    Ok(real)
}

/// What a program prints, if it succeeds in time.
pub fn output_of(command: &mut Command) -> Option<String> {
    let ran = run(command, Capture::Output)?;
    ran.status?.success().then(|| text(&ran.printed))
}

/// What a program complains, whether it succeeds or not, if it ends in time.
pub fn complaint_of(command: &mut Command) -> Option<String> {
    let ran = run(command, Capture::Errors)?;
    ran.status.map(|_| text(&ran.printed))
}

/// Remembers one that was killed and does not die, so that there are not too many, and none stays when it is dead.
pub fn remember_undead(child: Option<Child>) {
    let mut undead = UNDEAD.lock().unwrap_or_else(PoisonError::into_inner);
    undead.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    undead.extend(child);
}

fn run(command: &mut Command, capture: Capture) -> Option<Ran> {
    remember_undead(None);
    if UNDEAD.lock().unwrap_or_else(PoisonError::into_inner).len() >= UNDEAD_MAX {
        return None;
    }
    let (time, bytes) = (SPEAKS_WITHIN, PRINTED_MAX);
    let bounds = Bounds { time, bytes, ends_when_full: true, spares_rest: false, ends: &|| false };
    let mut ran = bounded::run(command, capture, &bounds).ok()?;
    remember_undead(ran.undead.take());
    Some(ran)
}

fn text(printed: &[u8]) -> String {
    String::from_utf8_lossy(printed).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_program_says_is_told_apart_from_its_complaints() {
        assert_eq!(output_of(&mut sh("echo a; echo b >&2")).as_deref(), Some("a\n"));
        assert_eq!(output_of(&mut sh("echo a; exit 1")), None);
        assert_eq!(complaint_of(&mut sh("echo a; echo b >&2; exit 1")).as_deref(), Some("b\n"));
        assert_eq!(output_of(&mut Command::new("/nonexistent")), None);
    }

    #[test]
    fn a_program_without_an_end_is_ended() {
        let begun = std::time::Instant::now();
        assert_eq!(output_of(&mut sh("echo a; exec sleep 60")), None);
        assert_eq!(output_of(&mut sh("exec yes")), None, "it prints too much");
        assert!(begun.elapsed() < Duration::from_secs(40));
    }

    #[test]
    fn only_what_root_alone_can_change_may_be_run() {
        assert!(of_root_alone(Path::new("/bin/sh")).unwrap().starts_with("/usr/bin"));
        assert!(find("sh").is_some() && find("no-such-program").is_none());
        let mut told = find("sh").unwrap().command();
        let told = output_of(told.args(["-c", "echo $0"]));
        assert_eq!(told.as_deref(), Some("/usr/bin/sh\n"), "by the name under which it was found");
        assert!(of_root_alone(Path::new("bin/sh")).is_err(), "not absolute");
        assert!(of_root_alone(Path::new("/usr/bin")).is_err(), "no file");
        let dir = std::env::temp_dir().join(format!("onevip-programs-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (file, link) = (dir.join("file"), dir.join("link"));
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        symlink("/bin/sh", &link).unwrap();
        assert!(of_root_alone(&file).unwrap_err().to_string().contains("/tmp is not root's alone"));
        assert!(of_root_alone(&link).is_ok(), "what counts is where it leads");
        fs::remove_dir_all(&dir).unwrap();
    }
}

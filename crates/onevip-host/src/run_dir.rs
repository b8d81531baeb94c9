//! The run directory: one per daemon, guarded by a lock, so that no two daemons ever serve the same VIP on one host.

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a daemon that was told to end, or killed, may take until its lock is free.
const ENDING: Duration = Duration::from_secs(2);
/// How often the lock is tried meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where everything that belongs to one daemon lies.
#[derive(Clone, Debug)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// The run directory at `path`, whether it exists or not.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The BPF file system in which everything of the kernel part is pinned.
    pub fn pins(&self) -> PathBuf {
        self.0.join("bpf")
    }

    /// The daemon's control socket.
    pub fn control(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// Where a daemon that does not serve yet says what it waits for.
    pub fn waiting(&self) -> PathBuf {
        self.0.join("waiting")
    }

    /// A daemon waits for nothing any more.
    ///
    /// # Errors
    /// What it said cannot be removed.
    pub fn waits_no_more(&self) -> anyhow::Result<()> {
        gone_is_fine(fs::remove_file(self.waiting()))
            .with_context(|| format!("cannot remove {}", self.waiting().display()))
    }

    /// What the daemon that lives here waits for before it serves, in words; `None` when it waits for nothing, or when none
    /// lives.
    pub fn waits_for(&self) -> Option<String> {
        // What a killed daemon has left behind is no news: only the lock says that one lives.
        let lock = File::open(self.lock_file()).ok()?;
        Flock::lock(lock, FlockArg::LockSharedNonblock).err()?;
        let what = fs::read_to_string(self.waiting()).ok()?;
        let pid = fs::read_to_string(self.lock_file()).unwrap_or_default();
        Some(format!("the onevip daemon (pid {}) waits, and does not serve yet: {what}", pid.trim()))
    }

    /// Why no daemon answers here, in words: the one that lives waits for something, or none lives.
    pub fn no_daemon(&self) -> String {
        self.waits_for().unwrap_or_else(|| {
            format!("no onevip daemon runs here ({} is not there)", self.control().display())
        })
    }

    /// Makes sure that the directory exists, open to its owner and, for the control socket, to its group.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(&self) -> anyhow::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&self.0)
            .with_context(|| format!("cannot create the run directory {}", self.0.display()))
    }

    /// Takes the lock for as long as the returned value lives. A daemon that is just ending is waited for: a killed
    /// process keeps its lock until the kernel has taken down its last mapping.
    ///
    /// # Errors
    /// Another process has it; the message names its pid.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        let until = Instant::now() + ENDING;
        loop {
            match self.try_lock() {
                Ok(None) if Instant::now() < until => thread::sleep(LOOK_EVERY),
                Ok(None) => bail!(
                    "another onevip (pid {}) already runs here with the run directory {}; stop it first",
                    fs::read_to_string(self.lock_file()).unwrap_or_default().trim(),
                    self.0.display()
                ),
                Ok(Some(lock)) => return Ok(lock),
                Err(error) => return Err(error),
            }
        }
    }

    fn lock_file(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The lock, or `None` when another process has it.
    fn try_lock(&self) -> anyhow::Result<Option<Lock>> {
        let path = self.lock_file();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, error)) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
        };
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Some(Lock(lock)))
    }

    /// Removes the directory and what is left of ours in it; files of others stay, and so does the directory then.
    ///
    /// # Errors
    /// Something of ours cannot be removed.
    pub fn remove(&self) -> anyhow::Result<()> {
        for name in ["control.sock", "waiting", "lock"] {
            gone_is_fine(fs::remove_file(self.0.join(name)))
                .with_context(|| format!("cannot remove {name} in {}", self.0.display()))?;
        }
        for path in [self.pins(), self.0.clone()] {
            match fs::remove_dir(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
                done => gone_is_fine(done).with_context(|| format!("cannot remove {}", path.display()))?,
            }
        }
        Ok(())
    }
}

/// Proof that no other daemon uses the run directory.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its lock")] Flock<File>);

fn gone_is_fine(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_the_first_is() {
        let path = std::env::temp_dir().join(format!("onevip-lock-{}", std::process::id()));
        let dir = RunDir::new(&path);
        dir.create().unwrap();
        let first = dir.lock().unwrap();
        let refused = dir.lock().map(drop).expect_err("the lock is taken").to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        drop(first);
        dir.lock().expect("the lock is free again");
        dir.remove().unwrap();
        assert!(!path.exists());
        dir.remove().expect("removing what is not there is no error");
    }
}

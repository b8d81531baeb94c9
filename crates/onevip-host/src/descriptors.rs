//! How many descriptors this process may have.
//!
//! The usual limit of 1024 is soon used up in a daemon to which others connect. Programs that it starts get the old limit
//! back: `select` knows no more than 1024.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// More are never asked for: some containers allow a thousand million, and each costs kernel memory once it is used.
const ENOUGH: u64 = 65_536;

/// What it was before; 0 when it is as it was.
static BEFORE: AtomicU64 = AtomicU64::new(0);

/// Allows this process as many as it may allow itself, up to a bound. Returns how many it may have now.
///
/// # Errors
/// The kernel's.
pub fn raise() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.min(ENOUGH).max(soft);
    if wanted > soft {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
        BEFORE.store(soft, Ordering::Relaxed);
    }
    Ok(wanted)
}

/// Undoes [`raise`] in a child that is about to become another program. Makes system calls alone.
///
/// # Errors
/// The kernel's.
pub fn restore() -> io::Result<()> {
    let before = BEFORE.load(Ordering::Relaxed);
    if before == 0 {
        return Ok(());
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, before.min(hard), hard)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs;
    use std::process::Command;

    #[test]
    fn children_have_as_many_as_before() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 256, hard).unwrap();
        let raised = raise().unwrap();
        assert_eq!(raised, hard.clamp(256, ENOUGH));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0, raised);
        let told = programs::output_of(Command::new("/bin/sh").args(["-c", "ulimit -Sn"]));
        assert_eq!(told.as_deref(), Some("256\n"));
        setrlimit(Resource::RLIMIT_NOFILE, soft.max(256), hard).unwrap();
    }
}

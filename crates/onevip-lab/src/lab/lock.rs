//! Who may build, change or remove a lab: one command at a time, and no other program than the one it belongs to.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::plan::Name;
use crate::process::wait_until;

/// Keeps two commands from building or removing the same lab at once.
pub(crate) fn lock(name: &Name) -> Result<UnixListener> {
    take(name.as_str(), &format!("another command on lab {name} to end"))
}

/// Keeps a lab that belongs to a running program (a test, the demo) from being replaced by the `up` of another one.
pub(super) fn own(name: &Name) -> Result<UnixListener> {
    take(&format!("{name}/owner"), &format!("the program to end whose lab {name} is (use another --name)"))
}

/// A lock is an abstract socket: it needs no file, and is gone with its process.
fn take(lock: &str, what: &str) -> Result<UnixListener> {
    let address = SocketAddr::from_abstract_name(format!("onevip-lab/{lock}"))?;
    let mut listener = None;
    wait_until(Duration::from_secs(60), what, || {
        listener = UnixListener::bind_addr(&address).ok();
        listener.is_some()
    })?;
    listener.context("a lock that was taken is there")
}

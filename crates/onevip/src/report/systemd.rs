//! What the daemon tells systemd: what it waits for, that it serves, that it still does, that it ends (sd_notify(3)).
//!
//! The watchdog is fed only while the beat loop answers: a process that merely exists is no sign of life.

use crate::base::beat_loop::BeatLoopHandle;
use crate::base::supervisor::Supervisor;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Begins to feed the watchdog, if there is one.
///
/// # Errors
/// No thread can be started.
pub fn start(supervisor: &mut Supervisor, beat_loop: &BeatLoopHandle) -> anyhow::Result<()> {
    let Some(period) = watchdog(|name| std::env::var(name).ok(), std::process::id()) else { return Ok(()) };
    let beat_loop = beat_loop.clone();
    supervisor.start_until("watchdog", move |stop| {
        loop {
            if beat_loop.report().is_ok() {
                say("WATCHDOG=1");
            }
            if stop.wait(period / 3) {
                return Ok(());
            }
        }
    })
}

/// Tells systemd something; without it, nobody.
pub fn say(what: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = UnixDatagram::unbound()
        .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
        .and_then(|socket| socket.send_to_addr(what.as_bytes(), &address?));
    if let Err(error) = sent {
        tracing::debug!("cannot notify systemd of {what}: {error}");
    }
}

/// How often systemd wants to hear from this process.
fn watchdog(environment: impl Fn(&str) -> Option<String>, pid: u32) -> Option<Duration> {
    let meant = environment("WATCHDOG_PID").is_none_or(|meant| meant.parse() == Ok(pid));
    let period = environment("WATCHDOG_USEC")?.parse().ok().filter(|_| meant)?;
    (period > 0).then(|| Duration::from_micros(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_by_whom_it_watches() {
        let of = |pairs: &'static [(&str, &str)]| {
            watchdog(
                |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
                7,
            )
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("WATCHDOG_USEC", "3000000")]), Some(Duration::from_secs(3)));
        assert_eq!(of(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "7")]), Some(Duration::from_secs(3)));
        assert_eq!(of(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "8")]), None);
        assert_eq!(of(&[("WATCHDOG_USEC", "0")]), None);
    }
}

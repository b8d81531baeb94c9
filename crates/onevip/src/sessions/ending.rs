//! Ending sessions of `sshd` and `mosh-server`: the processes that have their sockets, and nothing else.

use crate::sessions::list::{Holder, Session};
use crate::sessions::processes::Processes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::thread;
use std::time::{Duration, Instant};

/// How long a session may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Ends the logins among these, by force where they do not obey; returns how many ended.
///
/// Their shells get a hangup from the kernel, as when a terminal is closed; what runs detached (`tmux`) goes on.
pub fn end(sessions: &[Session]) -> usize {
    let logins: Vec<&Session> = sessions.iter().filter(|session| session.is_login()).collect();
    signal(&logins, Signal::SIGTERM);
    let until = Instant::now() + GRACE;
    while Instant::now() < until && logins.iter().any(|session| lives(session, &Processes::look())) {
        thread::sleep(LOOK_EVERY);
    }
    signal(&logins, Signal::SIGKILL);
    let processes = Processes::look();
    logins.iter().filter(|session| !lives(session, &processes)).count()
}

fn signal(sessions: &[&Session], signal: Signal) {
    let processes = Processes::look();
    let holders = sessions.iter().flat_map(|session| &session.holders);
    for holder in holders.filter(|holder| is_there(holder, &processes)) {
        // It may end by itself in this very moment.
        let _ = kill(Pid::from_raw(holder.pid), signal);
    }
}

/// A killed process is there until its parent has noticed; its socket is closed by then. So the sockets count.
fn lives(session: &Session, processes: &Processes) -> bool {
    session.holders.iter().any(|holder| {
        is_there(holder, processes)
            && std::fs::read_dir(format!("/proc/{}/fd", holder.pid)).is_ok_and(|mut fds| fds.next().is_some())
    })
}

/// Whether the process is still the one that it was: numbers are used again.
fn is_there(holder: &Holder, processes: &Processes) -> bool {
    processes.get(holder.pid).is_some_and(|process| process.began == holder.began)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn session(holders: Vec<Holder>) -> Session {
        Session {
            node: "unix1".into(),
            vip: "login".into(),
            user: None,
            address: "198.51.100.101".parse().unwrap(),
            port: 50022,
            service: 22,
            program: Some("sshd".into()),
            since: None,
            idle_seconds: None,
            terminals: Vec::new(),
            holders,
        }
    }

    #[test]
    fn only_logins_and_only_the_very_process_are_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let began = Processes::look().get(child.id() as i32).unwrap().began;
        let holder = |began| vec![Holder { pid: child.id() as i32, began }];
        assert_eq!(end(&[session(Vec::new())]), 0);
        end(&[session(holder(began + 1))]);
        assert!(Processes::look().get(child.id() as i32).is_some_and(|p| p.began == began), "it lives");
        assert_eq!(end(&[session(holder(began))]), 1);
        assert!(!child.wait().unwrap().success());
    }
}

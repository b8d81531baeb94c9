//! Carries the examination out: looks, asks, listens; never waits for longer than a moment.

use super::course::{Ask, Course, Pace};
use super::probe::{Call, knock};
use super::sight::Eye;
use crate::toll::{Finding, Toll};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How soon the queue is looked at after a knock, and again while it is not empty.
const GLANCE: Duration = Duration::from_millis(5);
/// The same once the knock has been waiting for a while, and while clients wait.
const GLANCE_LATER: Duration = Duration::from_millis(50);

/// The examination of one `sshd`.
pub struct Watcher {
    target: SocketAddr,
    /// Where users find it, and the target's own.
    addresses: Vec<IpAddr>,
    eye: Eye,
    course: Course,
    call: Option<Call>,
}

impl Watcher {
    /// Begins, with the verdict of an examination before this one. Users find this `sshd` at `addresses`, it is asked at
    /// `target`.
    pub fn new(target: SocketAddr, mut addresses: Vec<IpAddr>, pace: Pace, verdict: Toll) -> Self {
        let course = Course::new(pace, verdict, Instant::now());
        addresses.push(target.ip());
        Self { target, addresses, eye: Eye::new(target.port()), course, call: None }
    }

    /// Does what is due.
    pub fn turn(&mut self) {
        // Answers before deadlines: this thread may itself have been late.
        if let Some(answer) = self.call.as_mut().and_then(Call::proceed) {
            self.call = None;
            self.course.answered(Instant::now(), answer);
        }
        self.glance();
        let (ask, give_up) = self.course.timeout(Instant::now());
        if give_up {
            self.call.take().into_iter().for_each(Call::give_up);
        }
        ask.into_iter().for_each(|ask| self.ask(ask));
        if Instant::now() >= self.course.next_look() {
            // Without sock_diag (it may be missing from a kernel) questions alone have to do.
            let sight = self
                .eye
                .look()
                .unwrap_or_else(|_| super::sight::Sight { listens: true, ..Default::default() });
            if let Some(ask) = self.course.looked(Instant::now(), &sight) {
                self.ask(ask);
            }
        }
    }

    /// Looks at the accept queue, and only if somebody is in it, who. Without sock_diag nothing is seen.
    fn glance(&mut self) {
        let Ok(sight) = self.eye.glance() else { return };
        let waiting = if sight.queue == 0 { Ok(HashSet::new()) } else { self.eye.waiting(&self.addresses) };
        if let Ok(waiting) = waiting {
            self.course.queued(Instant::now(), waiting);
        }
        if sight.listens && sight.queue == 0 {
            self.course.taken(Instant::now());
        }
    }

    fn ask(&mut self, ask: Ask) {
        self.course.asked(Instant::now(), ask);
        let outcome = match ask {
            Ask::Knock => knock(self.target),
            Ask::Call => Call::begin(self.target).map(|call| self.call = Some(call)),
        };
        if let Err(answer) = outcome {
            self.course.answered(Instant::now(), answer);
        }
    }

    /// Waits until something is due or has arrived, at most for `most`.
    pub fn wait(&self, most: Duration) {
        let now = Instant::now();
        let mut wait = most.min(self.course.next_look().saturating_duration_since(now));
        if let Some(since) = self.course.knocking_since() {
            let later = now.duration_since(since) > GLANCE * 10;
            wait = wait.min(if later { GLANCE_LATER } else { GLANCE });
        } else if self.call.is_some() || self.course.is_queueing() {
            wait = wait.min(GLANCE_LATER);
        }
        let mut fds: Vec<PollFd<'_>> =
            self.call.iter().map(|call| PollFd::new(call.as_fd(), PollFlags::POLLIN)).collect();
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, PollTimeout::from(wait.as_millis().clamp(1, 1000) as u16));
    }

    /// What is known.
    pub fn finding(&self) -> Finding {
        self.course.finding()
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher")
            .field("target", &self.target)
            .field("course", &self.course)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toll::DEAD;
    use std::io::Write;
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    const PACE: Pace = Pace {
        interval: Duration::from_millis(100),
        timeout: Duration::from_millis(300),
        fall: 2,
        rise: 2,
        banner_every: Duration::from_millis(500),
    };

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Watches until it has this toll.
    #[track_caller]
    fn until(watcher: &mut Watcher, toll: Toll) -> Finding {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            watcher.turn();
            let finding = watcher.finding();
            // What it begins with is no answer.
            if finding.toll == toll && finding.words != "not asked yet" {
                return finding;
            }
            assert!(Instant::now() < deadline, "{watcher:?}");
            watcher.wait(Duration::from_millis(50));
        }
    }

    /// Something like `sshd`, which begins to accept after a while and goes on until `stop`.
    fn serve(listener: TcpListener, after: Duration, stop: &'static AtomicBool) -> thread::JoinHandle<()> {
        thread::spawn(move || {
            thread::sleep(after);
            listener.set_nonblocking(true).unwrap();
            while !stop.load(Ordering::Relaxed) {
                if let Ok((mut stream, _)) = listener.accept() {
                    // A knock cannot be written to.
                    let _ = stream.write_all(b"SSH-2.0-test\r\n");
                }
                thread::sleep(Duration::from_millis(1));
            }
        })
    }

    #[test]
    fn an_open_port_alone_proves_nothing() {
        let (_listener, address) = listener();
        let finding = until(&mut Watcher::new(address, Vec::new(), PACE, Toll::None), Toll::Out(DEAD));
        assert!(
            finding.words.contains("no banner") || finding.words.contains("none is taken"),
            "{finding:?}"
        );
    }

    #[test]
    fn an_sshd_that_is_started_by_the_first_connection_is_well() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let (listener, address) = listener();
        let server = serve(listener, Duration::from_millis(150), &STOP);
        let mut watcher = Watcher::new(address, Vec::new(), PACE, Toll::None);
        until(&mut watcher, Toll::None);
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            watcher.turn();
            assert_eq!(watcher.finding().toll, Toll::None, "{watcher:?}");
            watcher.wait(Duration::from_millis(50));
        }
        STOP.store(true, Ordering::Relaxed);
        server.join().unwrap();
    }

    #[test]
    fn it_falls_with_the_listener_and_rises_with_the_next() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let (listener, address) = listener();
        let mut watcher = Watcher::new(address, Vec::new(), PACE, Toll::None);
        let server = serve(listener, Duration::ZERO, &STOP);
        until(&mut watcher, Toll::None);
        STOP.store(true, Ordering::Relaxed);
        server.join().unwrap();
        assert_eq!(until(&mut watcher, Toll::Out(DEAD)).words, "nothing listens");
        STOP.store(false, Ordering::Relaxed);
        let server = serve(TcpListener::bind(address).unwrap(), Duration::ZERO, &STOP);
        assert!(until(&mut watcher, Toll::None).words.starts_with("SSH-2.0-test"));
        STOP.store(true, Ordering::Relaxed);
        server.join().unwrap();
    }

    #[test]
    fn it_falls_when_nobody_is_taken_from_the_queue() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let (listener, address) = listener();
        // Patient, so that nothing else can be what makes it fall.
        let pace = Pace { timeout: Duration::from_secs(4), interval: Duration::from_secs(60), ..PACE };
        let mut watcher = Watcher::new(address, Vec::new(), pace, Toll::None);
        let frozen = listener.try_clone().unwrap();
        let server = serve(listener, Duration::ZERO, &STOP);
        until(&mut watcher, Toll::None);
        STOP.store(true, Ordering::Relaxed);
        server.join().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let words = until(&mut watcher, Toll::Out(DEAD)).words;
        assert!(words.starts_with("takes nobody from its queue (1 wait) for 1."), "{words}");
        drop(frozen);
    }
}

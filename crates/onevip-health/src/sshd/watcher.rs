//! Carries the check out: looks, asks, listens; never waits for longer than a moment.

use super::check::{CheckPace, CheckRun, SshdAsk};
use super::probe::{BannerProbe, ProbeOutcome, connect};
use super::socket_snapshot::{IpFamily, Snapshotter};
use crate::impact::{Finding, Impact};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How soon the queue is looked at after a probe, and again while it is not empty.
const GLANCE: Duration = Duration::from_millis(5);
/// The same once the probe has been waiting for a while, and while clients wait.
const GLANCE_LATER: Duration = Duration::from_millis(50);

/// The check of one `sshd`.
pub struct Watcher {
    target: SocketAddr,
    /// Where users find it, and the target's own.
    addresses: Vec<IpAddr>,
    snapshotter: Snapshotter,
    check_run: CheckRun,
    call: Option<BannerProbe>,
    /// The call is the second one, from another source.
    again: bool,
    /// The sources that were used for such calls.
    sources: u16,
}

impl Watcher {
    /// Begins, with the verdict of an check before this one. Users find this `sshd` at `addresses`, it is asked at
    /// `target`.
    pub fn new(target: SocketAddr, mut addresses: Vec<IpAddr>, pace: CheckPace, verdict: Impact) -> Self {
        let check_run = CheckRun::new(pace, verdict, Instant::now());
        addresses.push(target.ip());
        let snapshotter = Snapshotter::new(target.port());
        Self { target, addresses, snapshotter, check_run, call: None, again: false, sources: 0 }
    }

    /// The same, of connections in the target's family alone.
    pub fn of_its_family(mut self) -> Self {
        let family = self.family();
        self.addresses.retain(|address| IpFamily::of(*address) == family);
        Self { snapshotter: self.snapshotter.only(family), ..self }
    }

    /// The family of the target.
    pub fn family(&self) -> IpFamily {
        IpFamily::of(self.target.ip())
    }

    /// Does what is due.
    pub fn turn(&mut self) {
        // Answers before deadlines: this thread may itself have been late.
        if let Some(answer) = self.call.as_mut().and_then(BannerProbe::proceed) {
            self.call = None;
            if let Some(answer) = self.told_apart(answer) {
                self.check_run.answered(Instant::now(), answer);
            }
        }
        self.glance();
        let (ask, give_up) = self.check_run.timeout(Instant::now());
        if give_up {
            self.again = false;
            self.call.take().into_iter().for_each(BannerProbe::give_up);
        }
        ask.into_iter().for_each(|ask| self.ask(ask));
        if Instant::now() >= self.check_run.next_look() {
            // Without sock_diag (it may be missing from a kernel) questions alone have to do.
            let snapshot = self.snapshotter.look().unwrap_or_else(|_| {
                super::socket_snapshot::SocketSnapshot { listens: true, blind: true, ..Default::default() }
            });
            if let Some(ask) = self.check_run.looked(Instant::now(), &snapshot) {
                self.ask(ask);
            }
        }
    }

    /// OpenSSH 10 says the same to a penalised source and at `MaxStartups`. A source that never asked before cannot be
    /// penalised: what it hears says which. None while that is being asked.
    fn told_apart(&mut self, answer: ProbeOutcome) -> Option<ProbeOutcome> {
        let again = std::mem::take(&mut self.again);
        match answer {
            ProbeOutcome::Penalised if again => Some(ProbeOutcome::Full),
            ProbeOutcome::Penalised => match BannerProbe::begin_from(self.another_source(), self.target) {
                Ok(call) => {
                    (self.call, self.again) = (Some(call), true);
                    None
                }
                Err(_) => Some(ProbeOutcome::Penalised),
            },
            ProbeOutcome::Banner(_) if again => Some(ProbeOutcome::Penalised),
            answer => Some(answer),
        }
    }

    /// A loopback address of this host; of IPv4 another one each time. (IPv6 has one alone.)
    fn another_source(&mut self) -> IpAddr {
        if self.family() == IpFamily::V6 {
            return Ipv6Addr::LOCALHOST.into();
        }
        self.sources = self.sources.wrapping_add(1);
        let [high, low] = self.sources.to_be_bytes();
        Ipv4Addr::new(127, 22, high, low).into()
    }

    /// Looks at the accept queue, and only if somebody is in it, who. Without sock_diag nothing is seen.
    fn glance(&mut self) {
        let Ok(snapshot) = self.snapshotter.glance() else { return };
        let waiting =
            if snapshot.queue == 0 { Ok(HashSet::new()) } else { self.snapshotter.waiting(&self.addresses) };
        if let Ok(waiting) = waiting {
            self.check_run.queued(Instant::now(), waiting);
        }
        if snapshot.listens && snapshot.queue == 0 {
            self.check_run.taken(Instant::now());
        }
    }

    fn ask(&mut self, ask: SshdAsk) {
        self.again = self.again && ask != SshdAsk::Banner;
        self.check_run.asked(Instant::now(), ask);
        let outcome = match ask {
            SshdAsk::Connect => connect(self.target),
            SshdAsk::Banner => BannerProbe::begin(self.target).map(|call| self.call = Some(call)),
        };
        if let Err(answer) = outcome {
            self.check_run.answered(Instant::now(), answer);
        }
    }

    /// Asks for the banner as soon as can be.
    pub fn doubt(&mut self) {
        self.check_run.call_soon(Instant::now());
    }

    /// How long nothing is due, at most `most`, if nothing arrives.
    pub fn pause(&self, most: Duration) -> Duration {
        let now = Instant::now();
        let mut wait = most.min(self.check_run.next_look().saturating_duration_since(now));
        if let Some(since) = self.check_run.connected_since() {
            let later = now.duration_since(since) > GLANCE * 10;
            wait = wait.min(if later { GLANCE_LATER } else { GLANCE });
        } else if self.call.is_some() || self.check_run.is_queueing() {
            wait = wait.min(GLANCE_LATER);
        }
        wait
    }

    /// Where the answer to a call arrives.
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        self.call.as_ref().map(AsFd::as_fd)
    }

    /// What is known.
    pub fn finding(&self) -> Finding {
        self.check_run.finding()
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher")
            .field("target", &self.target)
            .field("check_run", &self.check_run)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::impact::DEAD;
    use std::io::Write;
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    const PACE: CheckPace = CheckPace {
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

    /// Watches until it has this impact.
    #[track_caller]
    fn until(watcher: &mut Watcher, impact: Impact) -> Finding {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            watcher.turn();
            let finding = watcher.finding();
            // What it begins with is no answer.
            if finding.impact == impact && finding.words != "not asked yet" {
                return finding;
            }
            assert!(Instant::now() < deadline, "{watcher:?}");
            thread::sleep(watcher.pause(Duration::from_millis(50)));
        }
    }

    /// Something like `sshd`, which begins to accept after a while and goes on until `stop`.
    fn serve(listener: TcpListener, after: Duration, stop: &'static AtomicBool) -> thread::JoinHandle<()> {
        thread::spawn(move || {
            thread::sleep(after);
            listener.set_nonblocking(true).unwrap();
            while !stop.load(Ordering::Relaxed) {
                if let Ok((mut stream, _)) = listener.accept() {
                    // A probe cannot be written to.
                    let _ = stream.write_all(b"SSH-2.0-test\r\n");
                }
                thread::sleep(Duration::from_millis(1));
            }
        })
    }

    #[test]
    fn an_open_port_alone_proves_nothing() {
        let (_listener, address) = listener();
        let finding = until(&mut Watcher::new(address, Vec::new(), PACE, Impact::None), Impact::Out(DEAD));
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
        let mut watcher = Watcher::new(address, Vec::new(), PACE, Impact::None);
        until(&mut watcher, Impact::None);
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            watcher.turn();
            assert_eq!(watcher.finding().impact, Impact::None, "{watcher:?}");
            thread::sleep(watcher.pause(Duration::from_millis(50)));
        }
        STOP.store(true, Ordering::Relaxed);
        server.join().unwrap();
    }

    #[test]
    fn it_falls_with_the_listener_and_rises_with_the_next() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let (listener, address) = listener();
        let mut watcher = Watcher::new(address, Vec::new(), PACE, Impact::None);
        let server = serve(listener, Duration::ZERO, &STOP);
        until(&mut watcher, Impact::None);
        STOP.store(true, Ordering::Relaxed);
        server.join().unwrap();
        assert_eq!(until(&mut watcher, Impact::Out(DEAD)).words, "nothing listens");
        STOP.store(false, Ordering::Relaxed);
        let server = serve(TcpListener::bind(address).unwrap(), Duration::ZERO, &STOP);
        assert!(until(&mut watcher, Impact::None).words.starts_with("SSH-2.0-test"));
        STOP.store(true, Ordering::Relaxed);
        server.join().unwrap();
    }

    #[test]
    fn it_falls_when_nobody_is_taken_from_the_queue() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let (listener, address) = listener();
        // Patient, so that nothing else can be what makes it fall.
        let pace = CheckPace { timeout: Duration::from_secs(4), interval: Duration::from_secs(60), ..PACE };
        let mut watcher = Watcher::new(address, Vec::new(), pace, Impact::None);
        let frozen = listener.try_clone().unwrap();
        let server = serve(listener, Duration::ZERO, &STOP);
        until(&mut watcher, Impact::None);
        STOP.store(true, Ordering::Relaxed);
        server.join().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let words = until(&mut watcher, Impact::Out(DEAD)).words;
        assert!(words.starts_with("takes nobody from its queue (1 wait) for 1."), "{words}");
        drop(frozen);
    }

    /// Says this to whoever comes from the first source, and that to all others.
    fn says(listener: TcpListener, first: &'static str, others: &'static str, stop: &'static AtomicBool) {
        let home = listener.local_addr().unwrap().ip();
        listener.set_nonblocking(true).unwrap();
        while !stop.load(Ordering::Relaxed) {
            if let Ok((mut stream, from)) = listener.accept() {
                let _ = stream.write_all(if from.ip() == home { first } else { others }.as_bytes());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_full_sshd_is_told_from_a_penalty_by_another_source() {
        const NOT_ALLOWED: &str = "Not allowed at this time\r\n";
        static STOP: AtomicBool = AtomicBool::new(false);
        let [(full, to_full), (penal, to_penal)] = [listener(), listener()];
        let servers = [
            thread::spawn(|| says(full, NOT_ALLOWED, NOT_ALLOWED, &STOP)),
            thread::spawn(|| says(penal, NOT_ALLOWED, "SSH-2.0-x\r\n", &STOP)),
        ];
        let mut watcher = Watcher::new(to_full, Vec::new(), PACE, Impact::None);
        let finding = until(&mut watcher, Impact::Out(crate::impact::POORLY));
        assert!(finding.words.contains("MaxStartups"), "{finding:?}");
        let finding = until(&mut Watcher::new(to_penal, Vec::new(), PACE, Impact::None), Impact::None);
        assert!(finding.words.contains("PerSourcePenaltyExemptList"), "{finding:?}");
        STOP.store(true, Ordering::Relaxed);
        servers.into_iter().for_each(|server| server.join().unwrap());
    }
}

//! Carries the examination out: looks, asks, listens; never waits for longer than a moment.

use super::course::{Ask, Course, Pace};
use super::probe::{Call, knock};
use super::sight::Eye;
use crate::health::toll::{Finding, Toll};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How soon the queue is looked at after a knock, and again while it is not empty.
const GLANCE: Duration = Duration::from_millis(5);
/// The same once the knock has been waiting for a while.
const GLANCE_LATER: Duration = Duration::from_millis(50);

/// The examination of one `sshd`.
pub struct Watcher {
    target: SocketAddr,
    eye: Eye,
    course: Course,
    call: Option<Call>,
}

impl Watcher {
    /// Begins, with the verdict of an examination before this one.
    pub fn new(target: SocketAddr, pace: Pace, verdict: Toll) -> Self {
        let course = Course::new(pace, verdict, Instant::now());
        Self { target, eye: Eye::new(target.port()), course, call: None }
    }

    /// Does what is due.
    pub fn turn(&mut self) {
        // Answers before deadlines: this thread may itself have been late.
        if let Some(answer) = self.call.as_mut().and_then(Call::proceed) {
            self.call = None;
            self.course.answered(Instant::now(), answer);
        }
        if self.course.knocking_since().is_some()
            && self.eye.glance().is_ok_and(|sight| sight.listens && sight.queue == 0)
        {
            self.course.taken(Instant::now());
        }
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
        } else if self.call.is_some() {
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

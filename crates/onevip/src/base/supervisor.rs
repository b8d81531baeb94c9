//! How threads begin and end: in order, and backwards.
//!
//! A service is a thread with one business that is told to end and then waited for. The [`Supervisor`] starts services one
//! after another and stops them in the opposite order, so that whoever uses another service ends before it: the law that
//! the journal of the host's changes follows as well. What may hang in somebody else's hands (a hook, a client that reads
//! slowly) is put in the [`background`]: nobody waits for it.

use anyhow::{Context, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Stack of each thread, in bytes. Only touched pages are locked in memory.
const STACK: usize = 512 * 1024;
/// The shortest wait that `poll` knows.
const SHORTEST: Duration = Duration::from_millis(1);

/// Says to a service that it shall end: a flag, and a descriptor that can be waited for.
#[derive(Clone, Debug)]
pub struct StopSignal(Arc<(AtomicBool, EventFd)>);

impl StopSignal {
    /// A new one.
    ///
    /// # Errors
    /// The kernel has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let bell = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self(Arc::new((AtomicBool::new(false), bell))))
    }

    /// Says it.
    pub fn set(&self) {
        self.0.0.store(true, Ordering::Release);
        // A bell that cannot ring louder has rung already.
        let _ = self.0.1.write(1);
    }

    /// Whether it was said.
    pub fn is_set(&self) -> bool {
        self.0.0.load(Ordering::Acquire)
    }

    /// Waits for so long, or until it is said; whether it was.
    pub fn wait(&self, span: Duration) -> bool {
        let end = Instant::now() + span;
        while !self.is_set() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
            // An interrupted wait is a short one; a millisecond more than none, so that the end comes.
            let _ = poll(&mut fds, PollTimeout::try_from(left.max(SHORTEST)).unwrap_or(PollTimeout::MAX));
        }
        true
    }
}

impl AsFd for StopSignal {
    /// Readable once it was said.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.1.as_fd()
    }
}

/// A running service.
struct Service {
    name: &'static str,
    tell: Box<dyn FnOnce() + Send>,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// The running services, in the order in which they were started. Dropping it stops them.
#[derive(Default)]
pub struct Supervisor(Vec<Service>);

impl Supervisor {
    /// Starts a service: `work` runs on a thread of its own, and ends soon after `tell` was called.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        &mut self,
        name: &'static str,
        tell: impl FnOnce() + Send + 'static,
        work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let thread = spawn(name, work)?;
        self.0.push(Service { name, tell: Box::new(tell), thread });
        Ok(())
    }

    /// Starts a service that looks at a [`StopSignal`].
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start_until(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&StopSignal) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let stop = StopSignal::new().with_context(|| format!("cannot start the {name} thread"))?;
        let told = stop.clone();
        self.start(name, move || stop.set(), move || work(&told))
    }

    /// Stops all services, the youngest first, and waits for each before the next is told.
    ///
    /// # Errors
    /// What the first of them to fail said; the others are stopped all the same.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        while let Some(Service { name, tell, thread }) = self.0.pop() {
            tell();
            let ended = thread.join().unwrap_or_else(|_| Err(anyhow!("it panicked")));
            outcome = outcome.and(ended.with_context(|| format!("the {name} thread failed")));
        }
        outcome
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!("{error:#}");
        }
    }
}

/// Runs something that nobody waits for: it ends by itself, or with the process.
///
/// # Errors
/// The thread cannot be started.
pub fn background(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    spawn(name, work).map(drop)
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    thread::Builder::new()
        .name(format!("onevip-{name}"))
        .stack_size(STACK)
        .spawn(work)
        .with_context(|| format!("cannot start the {name} thread"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;
    use std::sync::mpsc::channel;

    #[test]
    fn services_end_backwards_each_before_the_next_is_told() {
        let (said, heard) = channel();
        let mut supervisor = Supervisor::default();
        for name in ["first", "second", "third"] {
            let (told, tell, ended) = (StopSignal::new().unwrap(), said.clone(), said.clone());
            let stop = told.clone();
            let tell = move || {
                let _ = tell.send(format!("{name} is told"));
                stop.set();
            };
            let work = move || {
                while !told.wait(Duration::from_secs(60)) {}
                let _ = ended.send(format!("{name} has ended"));
                if name == "second" { bail!("it is tired") } else { Ok(()) }
            };
            supervisor.start(name, tell, work).unwrap();
        }
        let error = format!("{:#}", supervisor.stop().unwrap_err());
        assert_eq!(error, "the second thread failed: it is tired");
        let order: Vec<String> = heard.try_iter().collect();
        let pair = |name| [format!("{name} is told"), format!("{name} has ended")];
        assert_eq!(order, [pair("third"), pair("second"), pair("first")].concat());
        assert!(supervisor.stop().is_ok(), "nothing is left to stop");
    }

    #[test]
    fn what_was_started_is_stopped_when_the_rest_cannot_be() {
        let (said, heard) = channel();
        let mut supervisor = Supervisor::default();
        supervisor
            .start_until("only", move |stop| {
                while !stop.wait(Duration::from_secs(60)) {}
                Ok(said.send(())?)
            })
            .unwrap();
        drop(supervisor);
        assert!(heard.try_recv().is_ok());
    }
}

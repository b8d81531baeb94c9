//! How other threads speak to the beat loop: a queue, and a descriptor that wakes it from `poll`.

use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc;

/// The sending end; clone it for every thread.
pub struct Mailbox<T> {
    queue: mpsc::Sender<T>,
    bell: Arc<EventFd>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), bell: Arc::clone(&self.bell) }
    }
}

/// The receiving end.
pub struct Inbox<T> {
    queue: mpsc::Receiver<T>,
    bell: Arc<EventFd>,
}

/// A new pair.
///
/// # Errors
/// The kernel has no descriptor left.
pub fn mailbox<T>() -> io::Result<(Mailbox<T>, Inbox<T>)> {
    let bell = Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    let (sender, receiver) = mpsc::channel();
    Ok((Mailbox { queue: sender, bell: Arc::clone(&bell) }, Inbox { queue: receiver, bell }))
}

impl<T> Mailbox<T> {
    /// Puts a message into the queue and wakes the receiver; false when the receiver is gone.
    pub fn send(&self, message: T) -> bool {
        // A bell that cannot ring louder has rung already.
        self.queue.send(message).is_ok() && self.bell.write(1).is_ok_and(|_| true)
    }
}

impl<T> Inbox<T> {
    /// The next message, if there is one. Never waits.
    pub fn next(&self) -> Option<T> {
        self.queue.try_recv().ok()
    }

    /// Silences the bell; read the queue afterwards.
    pub fn quiet(&self) {
        // An error only says that it had not rung.
        let _ = self.bell.read();
    }
}

impl<T> AsFd for Inbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    #[test]
    fn a_message_rings_until_it_is_silenced() {
        let (mailbox, inbox) = mailbox().unwrap();
        let ringing = |inbox: &Inbox<u8>| {
            let mut fds = [PollFd::new(inbox.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
        };
        assert!(!ringing(&inbox));
        assert!(mailbox.send(1) && mailbox.clone().send(2));
        assert!(ringing(&inbox));
        inbox.quiet();
        assert_eq!((inbox.next(), inbox.next(), inbox.next()), (Some(1), Some(2), None));
        assert!(!ringing(&inbox));
        drop(inbox);
        assert!(!mailbox.send(3));
    }
}

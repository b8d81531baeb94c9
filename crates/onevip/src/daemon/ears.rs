//! Whether anything arrives on an interface: what tells a node that all others are gone from one that hears nothing.
//!
//! Looked at by the beat loop, and only while nobody speaks to it. The kernel's own count is read through a file that
//! stays open; nothing here waits for a disk or another process.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Counts of all interfaces, of the network namespace of whoever opens it.
const COUNTS: &str = "/proc/thread-self/net/dev";
/// Room for the counts of some eighty interfaces, in bytes.
const ROOM: usize = 10 * 1024;

/// Listens on one interface.
pub struct Ears {
    counts: Option<File>,
    interface: String,
    /// Frames received when we began to listen.
    before: Option<u64>,
}

impl Ears {
    /// On this interface.
    pub fn new(interface: &str) -> Self {
        Self { counts: File::open(COUNTS).ok(), interface: interface.to_owned(), before: None }
    }

    /// Whether anything has arrived since this was first called after [`Ears::rest`]. Where that cannot be found out, it
    /// is taken for granted.
    pub fn hear_anything(&mut self) -> bool {
        let Some(count) = self.received() else { return true };
        *self.before.get_or_insert(count) != count
    }

    /// Nobody wants to know.
    pub fn rest(&mut self) {
        self.before = None;
    }

    fn received(&self) -> Option<u64> {
        let mut text = [0; ROOM];
        let length = self.counts.as_ref()?.read_at(&mut text, 0).ok()?;
        frames_of(std::str::from_utf8(&text[..length]).ok()?, &self.interface)
    }
}

/// The second number after an interface's name: the frames that it has received (the first one counts bytes).
fn frames_of(counts: &str, interface: &str) -> Option<u64> {
    let mut lines = counts.lines().filter_map(|line| line.split_once(':'));
    let (_, numbers) = lines.find(|(name, _)| name.trim() == interface)?;
    numbers.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: &str = "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n\
             lo:  104242     310    0    0    0     0          0         0   104242     310    0\n\
          eth10:       1       2    0    0    0     0          0         0        0       0    0\n\
           eth1: 9988776    4711    0    0    0     0          0        12    55555     444    0\n";

    #[test]
    fn the_right_number_of_the_right_interface_counts() {
        assert_eq!(frames_of(COUNTS, "eth1"), Some(4711));
        assert_eq!(frames_of(COUNTS, "eth10"), Some(2));
        assert_eq!(frames_of(COUNTS, "eth0"), None);
    }

    #[test]
    fn what_cannot_be_found_out_is_taken_for_granted() {
        assert!(Ears::new("no-such-interface").hear_anything());
    }

    #[test]
    fn only_news_count() {
        let mut ears = Ears::new("lo");
        let deaf = !ears.hear_anything();
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", "127.0.0.1:9").unwrap();
        assert!(deaf && ears.hear_anything());
        ears.rest();
        assert!(ears.before.is_none());
    }
}

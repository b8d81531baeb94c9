//! Whether anything arrives on an interface: what tells a node that all others are gone from one that hears nothing.
//!
//! Looked at by the beat loop, and only while nobody speaks to it. The kernel's own count is read through a file that
//! stays open; nothing here waits for a disk or another process.

use onevip_core::Time;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Counts of all interfaces, of the network namespace of whoever opens it.
const COUNTS: &str = "/proc/thread-self/net/dev";
/// Room for the counts of some eighty interfaces, in bytes.
const ROOM: usize = 10 * 1024;

/// Watches one interface.
pub struct LinkActivity {
    counts: Option<File>,
    interface: String,
    /// Frames received when we began to watch.
    before: Option<u64>,
    /// How often somebody was asked to make themselves heard since then, and when that may be done again.
    asked: u32,
    ask_again: Time,
}

/// So many times in a row other hosts are asked at every beat, then every [`PATIENT_BEATS`].
const ASKED_OFTEN: u32 = 5;
/// For as long as nothing arrives: at the default beat once a second.
const PATIENT_BEATS: u32 = 20;

impl LinkActivity {
    /// On this interface.
    pub fn new(interface: &str) -> Self {
        Self {
            counts: File::open(COUNTS).ok(),
            interface: interface.to_owned(),
            before: None,
            asked: 0,
            ask_again: Time::ZERO,
        }
    }

    /// Whether anything has arrived since this was first called after [`LinkActivity::rest`]. Where the kernel does not tell, it
    /// is taken for granted; on an interface that is not there nothing arrives, and one that was made anew counts anew.
    pub fn anything_arrives(&mut self) -> bool {
        let mut text = [0; ROOM];
        let Some(counts) = self.read(&mut text) else { return true };
        let Some(count) = frames_of(counts, &self.interface) else {
            self.before = None;
            return false;
        };
        let before = *self.before.get_or_insert(count);
        if count < before {
            self.before = Some(count);
        }
        count > before
    }

    /// Whether it is time to ask somebody to make themselves heard.
    pub fn want_probe(&mut self, now: Time, beat: Duration) -> bool {
        if now < self.ask_again {
            return false;
        }
        self.ask_again = now + beat * if self.asked < ASKED_OFTEN { 1 } else { PATIENT_BEATS };
        self.asked = self.asked.saturating_add(1);
        true
    }

    /// Nobody wants to know.
    pub fn rest(&mut self) {
        (self.before, self.asked) = (None, 0);
    }

    /// The kernel's counts of all interfaces.
    fn read<'a>(&self, text: &'a mut [u8; ROOM]) -> Option<&'a str> {
        let length = self.counts.as_ref()?.read_at(text, 0).ok()?;
        std::str::from_utf8(&text[..length]).ok()
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
    fn other_hosts_are_asked_often_at_first_and_then_seldom() {
        let (mut activity, beat) = (LinkActivity::new("no-such-interface"), Duration::from_millis(50));
        let at = |ms: u64| Time::from_nanos(1_000_000 * ms);
        let asked = (0..10_000).step_by(10).filter(|&ms| activity.want_probe(at(ms), beat)).count();
        assert_eq!(asked, 5 + 10);
        activity.rest();
        assert!(activity.want_probe(at(11_000), beat));
    }

    #[test]
    fn what_cannot_be_found_out_is_taken_for_granted() {
        let mut activity = LinkActivity::new("lo");
        activity.counts = None;
        assert!(activity.anything_arrives());
    }

    #[test]
    fn on_an_interface_that_is_not_there_nothing_arrives_and_one_made_anew_counts_anew() {
        let mut activity = LinkActivity::new("no-such-interface");
        assert!(!activity.anything_arrives() && !activity.anything_arrives());
        let mut activity = LinkActivity::new("lo");
        activity.before = Some(u64::MAX);
        assert!(!activity.anything_arrives(), "a lower count says that it is another interface");
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", "127.0.0.1:9").unwrap();
        assert!(activity.anything_arrives());
    }

    #[test]
    fn only_news_count() {
        let mut activity = LinkActivity::new("lo");
        let deaf = !activity.anything_arrives();
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", "127.0.0.1:9").unwrap();
        assert!(deaf && activity.anything_arrives());
        activity.rest();
        assert!(activity.before.is_none());
    }
}

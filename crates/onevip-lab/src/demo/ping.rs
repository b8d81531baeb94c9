//! What `ping` saw, read from what it printed.

use std::collections::BTreeMap;

/// Requests that are counted. One more is sent, for `ping` ends with the first answer to its last request.
const COUNTED: u32 = 3;

/// The command, in iputils' words.
pub fn words(target: &str) -> [&str; 6] {
    ["ping", "-n", "-i0.3", "-c", "4", target]
}

/// Answers by request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PingReplies {
    /// The lines that report an answer, in order.
    pub lines: Vec<String>,
    /// Number of answers to each request (`icmp_seq`).
    pub answers: BTreeMap<u32, usize>,
}

impl PingReplies {
    /// Reads the output of iputils' `ping -n`.
    pub fn parse(output: &str) -> Self {
        let mut replies = Self::default();
        for line in output.lines() {
            let number = line.split("icmp_seq=").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
            if let Some(number) = number.filter(|_| line.contains("bytes from")) {
                *replies.answers.entry(number).or_default() += 1;
                replies.lines.push(line.to_owned());
            }
        }
        replies
    }

    /// True when every request that is counted was answered exactly `times` times.
    pub fn each_answered(&self, times: usize) -> bool {
        (1..=COUNTED).all(|number| self.answers.get(&number) == Some(&times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_counted_by_request() {
        let replies = PingReplies::parse(
            "PING 198.51.100.10 (198.51.100.10) 56(84) bytes of data.\n\
             64 bytes from 198.51.100.10: icmp_seq=1 ttl=64 time=0.05 ms\n\
             64 bytes from 198.51.100.10: icmp_seq=1 ttl=64 time=0.07 ms (DUP!)\n\
             64 bytes from 198.51.100.10: icmp_seq=2 ttl=64 time=0.05 ms\n\
             From 198.51.100.101 icmp_seq=3 Destination Host Unreachable\n\
             2 packets transmitted, 2 received, +1 duplicates\n",
        );
        assert_eq!(replies.answers, BTreeMap::from([(1, 2), (2, 1)]));
        assert_eq!(replies.lines.len(), 3);
        assert!(!replies.each_answered(1));
    }

    #[test]
    fn the_request_that_ends_ping_is_not_counted() {
        let line = |number, end| format!("64 bytes from x: icmp_seq={number} ttl=64{end}\n");
        let twice: String = (1..=3).map(|n| line(n, "") + &line(n, " (DUP!)")).collect();
        assert!(PingReplies::parse(&(twice.clone() + &line(4, ""))).each_answered(2));
        assert!(
            !PingReplies::parse(&twice.replace(" (DUP!)", " (DUP!)\n64 bytes from x: icmp_seq=2 ttl=64"))
                .each_answered(2)
        );
    }
}

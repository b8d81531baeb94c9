//! What `ping` saw, read from what it printed.

use std::collections::BTreeMap;

/// Answers by request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The lines that report an answer, in order.
    pub lines: Vec<String>,
    /// Number of answers to each request (`icmp_seq`).
    pub answers: BTreeMap<u32, usize>,
}

impl Seen {
    /// Reads the output of iputils' `ping -n`.
    pub fn parse(output: &str) -> Self {
        let mut seen = Self::default();
        for line in output.lines() {
            let number = line.split("icmp_seq=").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
            if let Some(number) = number.filter(|_| line.contains("bytes from")) {
                *seen.answers.entry(number).or_default() += 1;
                seen.lines.push(line.to_owned());
            }
        }
        seen
    }

    /// True when every request from 1 to `requests` was answered exactly `times` times.
    pub fn each_answered(&self, requests: u32, times: usize) -> bool {
        (1..=requests).all(|number| self.answers.get(&number) == Some(&times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_counted_by_request() {
        let seen = Seen::parse(
            "PING 198.51.100.10 (198.51.100.10) 56(84) bytes of data.\n\
             64 bytes from 198.51.100.10: icmp_seq=1 ttl=64 time=0.05 ms\n\
             64 bytes from 198.51.100.10: icmp_seq=1 ttl=64 time=0.07 ms (DUP!)\n\
             64 bytes from 198.51.100.10: icmp_seq=2 ttl=64 time=0.05 ms\n\
             From 198.51.100.101 icmp_seq=3 Destination Host Unreachable\n\
             2 packets transmitted, 2 received, +1 duplicates\n",
        );
        assert_eq!(seen.answers, BTreeMap::from([(1, 2), (2, 1)]));
        assert_eq!(seen.lines.len(), 3);
        assert!(seen.each_answered(1, 2) && !seen.each_answered(2, 1) && !seen.each_answered(3, 1));
    }
}

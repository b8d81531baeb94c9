//! How much of their leases the daemons of a lab had left when they renewed them, as their metrics tell it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::Lab;
use crate::netns;
use crate::plan::Host;

/// Where each daemon serves its metrics, on its own loopback.
const LISTEN: &str = "127.0.0.1:9108";
/// A daemon that has not answered by now does not.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// A configuration with metrics.
pub fn with_metrics(config: String) -> String {
    format!("{config}\n[metrics]\nlisten = \"{LISTEN}\"\n")
}

/// The metrics of a node, as Prometheus would get them.
///
/// # Errors
/// When nobody answers.
pub fn scrape(lab: &Lab, node: u8) -> Result<String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(LISTEN)?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    };
    netns::inside(lab.name(), Host::Node(node), ask)?.with_context(|| format!("unix{node} tells no metrics"))
}

/// The histogram of one node at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlackHistogram {
    /// Upper bounds in milliseconds (`u64::MAX` for none), and how many renewals came within each.
    up_to: BTreeMap<u64, u64>,
    /// How often the lease ran out.
    lapsed: u64,
}

impl SlackHistogram {
    /// Of a node, now.
    ///
    /// # Errors
    /// As [`scrape`].
    pub fn read(lab: &Lab, node: u8) -> Result<Self> {
        Ok(Self::parse(&scrape(lab, node)?))
    }

    fn parse(page: &str) -> Self {
        let mut found = Self::default();
        for line in page.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let count = value.parse::<f64>().unwrap_or(0.0) as u64;
            let bound = name.strip_prefix("onevip_lease_margin_seconds_bucket{le=\"");
            if let Some(bound) = bound.and_then(|rest| rest.strip_suffix("\"}")) {
                let ms = bound.parse::<f64>().ok().filter(|bound| bound.is_finite());
                found.up_to.insert(ms.map_or(u64::MAX, |seconds| (seconds * 1000.0).round() as u64), count);
            }
            if name.starts_with("onevip_events_total{") && name.contains("event=\"lapsed\"") {
                found.lapsed += count;
            }
        }
        found
    }

    /// What has come since an earlier moment.
    pub fn since(&self, before: &Self) -> Self {
        let less = |bound: &u64, count: u64| count - before.up_to.get(bound).copied().unwrap_or(0).min(count);
        Self {
            up_to: self.up_to.iter().map(|(bound, count)| (*bound, less(bound, *count))).collect(),
            lapsed: self.lapsed - before.lapsed.min(self.lapsed),
        }
    }

    /// How many renewals there were.
    pub fn renewals(&self) -> u64 {
        self.up_to.get(&u64::MAX).copied().unwrap_or(0)
    }

    /// How many came when the lease had run out: beats that were too late.
    pub fn too_late(&self) -> u64 {
        self.up_to.get(&0).copied().unwrap_or(0) + self.lapsed
    }

    /// More than this was left at every renewal, in milliseconds; as fine as the histogram is.
    pub fn least_ms(&self) -> u64 {
        self.up_to.iter().take_while(|(_, count)| **count == 0).map(|(bound, _)| *bound).last().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(counts: [u64; 4], lapsed: u64) -> SlackHistogram {
        let bounds = ["0.0", "0.1", "0.15", "+Inf"];
        let mut text = format!("onevip_events_total{{vip=\"login\",event=\"lapsed\"}} {lapsed}\n");
        for (bound, count) in bounds.iter().zip(counts) {
            text += &format!("onevip_lease_margin_seconds_bucket{{le=\"{bound}\"}} {count}\n");
        }
        SlackHistogram::parse(&text)
    }

    #[test]
    fn the_least_slack_is_that_since_the_beginning() {
        let (before, after) = (page([0, 2, 5, 100], 0), page([0, 2, 5, 180], 0));
        let since = after.since(&before);
        assert_eq!((since.renewals(), since.too_late(), since.least_ms()), (80, 0, 150));
        assert_eq!(after.least_ms(), 0, "one of all came with less than 100 ms left");
        assert_eq!(page([1, 3, 5, 180], 1).since(&before).too_late(), 2);
    }
}

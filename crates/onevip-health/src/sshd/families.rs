//! One service at addresses of both families, each asked for itself: an `sshd` may listen at one of them alone.

use super::check::CheckPace;
use super::socket_snapshot::IpFamily;
use super::watcher::Watcher;
use crate::impact::{Finding, Impact, POORLY};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// The checks of one `sshd`, one for each family it is to be found in.
#[derive(Debug)]
pub struct FamilyWatchers {
    watchers: Vec<Watcher>,
    /// Since when they have disagreed.
    disagree: Option<Instant>,
    /// So long one may need to find what the other found.
    patience: Duration,
    finding: Finding,
}

impl FamilyWatchers {
    /// Begins, with the verdict of a check before this one. Users find this `sshd` at `addresses`, it is asked at each of
    /// `targets`.
    pub fn new(targets: &[SocketAddr], addresses: &[IpAddr], pace: CheckPace, verdict: Impact) -> Self {
        let watchers = targets.iter().map(|&target| {
            let watcher = Watcher::new(target, addresses.to_vec(), pace, verdict);
            if targets.len() > 1 { watcher.of_its_family() } else { watcher }
        });
        let watchers: Vec<_> = watchers.collect();
        let patience = pace.timeout * pace.fall + pace.interval;
        let finding = join(watchers.iter().map(|watcher| (watcher.family(), watcher.finding())).collect());
        Self { watchers, disagree: None, patience, finding }
    }

    /// Does what is due.
    pub fn turn(&mut self) {
        self.watchers.iter_mut().for_each(Watcher::turn);
        let findings: Vec<_> = self.watchers.iter().map(|one| (one.family(), one.finding())).collect();
        let ill = findings.iter().filter(|(_, finding)| finding.impact != Impact::None).count();
        let now = Instant::now();
        if ill == 0 || ill == findings.len() {
            self.disagree = None;
        } else if self.disagree.is_none() {
            // What one found may well be so in the other, which is asked rarely while all is quiet.
            self.disagree = Some(now);
            self.watchers.iter_mut().for_each(Watcher::doubt);
        }
        if self.disagree.is_none_or(|since| now.duration_since(since) >= self.patience) {
            self.finding = join(findings);
        }
    }

    /// Waits until something is due or has arrived, at most for `most`.
    pub fn wait(&self, most: Duration) {
        let wait = self.watchers.iter().map(|watcher| watcher.pause(most)).min().unwrap_or(most);
        let awaited = self.watchers.iter().filter_map(Watcher::awaited);
        let mut fds: Vec<PollFd<'_>> = awaited.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, PollTimeout::from(wait.as_millis().clamp(1, 1000) as u16));
    }

    /// What is known.
    pub fn finding(&self) -> Finding {
        self.finding.clone()
    }
}

/// Who fails a part of the users is better than who fails all, and worse than who fails nobody. If no node serves a
/// family, all are equally ill, and all go on.
fn join(mut findings: Vec<(IpFamily, Finding)>) -> Finding {
    let ill: Vec<_> = findings.iter().filter(|(_, finding)| finding.impact != Impact::None).collect();
    if ill.len() == 1 && findings.len() > 1 {
        let (family, finding) = ill[0];
        let impact = finding.impact.min(Impact::Out(POORLY));
        return Finding::ill(impact, format!("{family}: {}", finding.words)).after(finding.took);
    }
    let mildest = findings.iter().map(|(_, finding)| finding.impact).min().unwrap_or_default();
    Finding { impact: mildest, ..findings.swap_remove(0).1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::impact::DEAD;

    #[test]
    fn an_sshd_in_one_family_is_ill_and_says_which_it_lacks() {
        let dead = || Finding::ill(Impact::Out(DEAD), "nothing listens");
        let of = |v4, v6| join(vec![(IpFamily::V4, v4), (IpFamily::V6, v6)]);
        let half = of(Finding::well("SSH-2.0-x"), dead());
        assert_eq!((half.impact, half.words.as_str()), (Impact::Out(POORLY), "IPv6: nothing listens"));
        let none = of(dead(), dead());
        assert_eq!(none.impact, Impact::Out(DEAD));
        assert_eq!(none.words, "nothing listens");
        assert_eq!(of(Finding::well("a"), Finding::well("b")), Finding::well("a"));
    }
}

//! The invariants, looked at after every step.
//!
//! A *strict* life has neither loss, nor broken links, nor paused machines: there I1 holds for any two kernels at any
//! instant. Otherwise it holds for two nodes that hear each other, after two beat times.

use super::host::Host;
use super::net::Net;
use crate::beat::{Health, NodeState};
use crate::ids::{BucketSet, NodeId};
use crate::membership::Timing;
use crate::time::Time;

/// What went wrong first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `I1` to `I8`.
    pub invariant: &'static str,
    /// When, in nanoseconds.
    pub at: u64,
    /// Who and what.
    pub what: String,
}

/// Watches a cluster.
#[derive(Debug)]
pub struct Checker {
    /// The first violation.
    pub violation: Option<Violation>,
    /// Nothing excuses two claims.
    pub strict: bool,
    /// Frames may be lost, so that word takes longer to get around.
    pub lossy: bool,
    /// Planned moves are the only changes: then a bucket never changes hands without its claimer agreeing.
    timing: Timing,
    /// `overlap[a][b]`: since when these two, who hear each other, claim the same bucket.
    overlap: Vec<Vec<Option<u64>>>,
    /// Since when somebody who was voted out has claimed something.
    unjust_since: Option<u64>,
    /// `beside[a][b]`: since when the first, who hears nobody, has claimed what the second one claims and says.
    beside: Vec<Vec<Option<u64>>>,
    /// Steps looked at.
    pub steps: u64,
    /// Longest overlap of two nodes that heard each other, in nanoseconds.
    pub overlap_max: u64,
}

impl Checker {
    /// For a cluster of this size.
    pub fn new(nodes: usize, timing: Timing) -> Self {
        Self {
            violation: None,
            strict: false,
            lossy: false,
            timing,
            overlap: vec![vec![None; nodes]; nodes],
            unjust_since: None,
            beside: vec![vec![None; nodes]; nodes],
            steps: 0,
            overlap_max: 0,
        }
    }

    fn beats(&self, n: u64) -> u64 {
        self.timing.beat.as_nanos() as u64 * n
    }

    fn violated(&mut self, invariant: &'static str, at: u64, what: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, at, what });
        }
    }

    /// After something changed at `node`, or (`None`) anywhere.
    pub(super) fn step(&mut self, now: u64, nodes: &[Host], net: &Net, node: Option<usize>) {
        self.steps += 1;
        let range = node.map_or(0..nodes.len(), |node| node..node + 1);
        for a in range {
            let claims = nodes[a].answers(now);
            for b in (0..nodes.len()).filter(|b| *b != a) {
                let both = claims.and(&nodes[b].answers(now));
                self.one_claims(now, nodes, net, (a, b), both);
            }
        }
        self.elsewhere(now, nodes, net);
        self.alone(now, nodes, net);
    }

    /// I8: nobody claims alone who cannot speak, or who hears others that claim the same.
    fn alone(&mut self, now: u64, nodes: &[Host], net: &Net) {
        for (a, node) in nodes.iter().enumerate() {
            let answers = node.answers(now);
            let mute_since = node.mute_since.map(|since| since.max(node.running_since));
            if mute_since.is_some_and(|since| now > since + self.beats(10))
                && node.runs()
                && !answers.is_empty()
            {
                self.violated("I8", now, format!("n{} cannot speak and claims {answers:?}", a + 1));
            }
            let alone = node.runs() && node.engine.as_ref().is_some_and(|engine| engine.alive().len() == 1);
            for (b, other) in nodes.iter().enumerate().filter(|(b, _)| *b != a) {
                let both = if alone && other.runs() && net.passes(b, a) && takes_beats(node, other, b) {
                    answers.and(&other.answers(now))
                } else {
                    BucketSet::EMPTY
                };
                if both.is_empty() {
                    self.beside[a][b] = None;
                    continue;
                }
                let since = *self.beside[a][b].get_or_insert(now);
                if now - since > self.beats(10) {
                    self.violated(
                        "I8",
                        now,
                        format!("n{} claims {both:?} alone and hears n{}", a + 1, b + 1),
                    );
                }
            }
        }
    }

    /// I1.
    fn one_claims(&mut self, now: u64, nodes: &[Host], net: &Net, pair: (usize, usize), both: BucketSet) {
        let (a, b) = (pair.0.min(pair.1), pair.0.max(pair.1));
        if both.is_empty() {
            self.overlap[a][b] = None;
            return;
        }
        if self.strict {
            self.violated("I1", now, format!("n{} and n{} both claim {both:?}", a + 1, b + 1));
        }
        if !(hears(nodes, a, b) && hears(nodes, b, a) && net.connected(a, b)) {
            self.overlap[a][b] = None;
            return;
        }
        let since = *self.overlap[a][b].get_or_insert(now);
        self.overlap_max = self.overlap_max.max(now - since);
        if now - since > self.beats(2) {
            let for_ms = (now - since) / 1_000_000;
            let what = format!("n{} and n{} both claim {both:?} for {for_ms} ms", a + 1, b + 1);
            self.violated("I1", now, what);
        }
    }

    /// I3: what the table lets a healthy claimer keep, it keeps.
    pub(super) fn released(&mut self, now: u64, node: usize, nodes: &[Host], buckets: BucketSet) {
        if !self.strict || !nodes[node].runs() {
            return;
        }
        let Some(engine) = &nodes[node].engine else { return };
        let lapsed = nodes[node].clock.local(now) >= nodes[node].kernel.lease;
        let own = buckets.and(&engine.owned_by(engine_id(node))).and(&nodes[node].kernel.mine);
        if !lapsed && !own.is_empty() {
            self.violated("I3", now, format!("n{} gives up its own {own:?}", node + 1));
        }
    }

    /// I4: a lapsed lease is not renewed under old claims. True if the claims became valid by it.
    pub(super) fn leased(&mut self, now: u64, node: usize, nodes: &[Host], until: Time) -> bool {
        let local = nodes[node].clock.local(now);
        let lapsed = local >= nodes[node].kernel.lease;
        if lapsed && until > local && !nodes[node].kernel.mine.is_empty() {
            let mine = nodes[node].kernel.mine;
            self.violated("I4", now, format!("n{} renews a lapsed lease for {mine:?}", node + 1));
        }
        lapsed
    }

    /// I6: whoever would reset an orphan in a bucket must know of every living kernel that holds sessions there.
    pub(super) fn elsewhere(&mut self, now: u64, nodes: &[Host], net: &Net) {
        for (n, holder) in nodes.iter().enumerate() {
            if !holder.powered || holder.paused_until.is_some() || holder.kernel.held.is_empty() {
                continue;
            }
            for (m, other) in nodes.iter().enumerate().filter(|(m, _)| *m != n) {
                let resets = other.answers(now).minus(&other.kernel.elsewhere).and(&holder.kernel.held);
                if !resets.is_empty() && self.must_know(now, n, m, nodes, net) {
                    let what = format!("n{} would reset sessions of n{} in {resets:?}", m + 1, n + 1);
                    self.violated("I6", now, what);
                }
            }
        }
    }

    /// Whether `m` has had the time to learn that `n`'s kernel lives.
    fn must_know(&self, now: u64, n: usize, m: usize, nodes: &[Host], net: &Net) -> bool {
        if self.strict {
            return true;
        }
        let Some(since) = net.connected_since[n][m] else { return false };
        // A daemon says so itself with its next beat; of a kernel without one, it is asked now and then.
        let grace = match (nodes[n].runs(), self.lossy) {
            (true, false) => self.beats(3),
            (true, true) => self.beats(12),
            (false, false) => self.beats(22),
            (false, true) => self.beats(80),
        };
        // Loss can cut two nodes for a moment, as a cut does: then the time counts from when they heard each other again.
        let span = std::time::Duration::from_nanos(grace);
        if self.lossy
            && nodes[n].runs()
            && !(heard_for(now, nodes, n, m, span) && heard_for(now, nodes, m, n, span))
        {
            return false;
        }
        let since = since.max(nodes[m].running_since).max(nodes[n].running_since);
        nodes[m].runs() && now >= since + grace
    }

    /// I2 and I5, when nothing has happened for a while: each connected part has one claimer for every bucket, and
    /// one table. Returns what is not (yet) so: a hand-over or a word on its way takes a moment.
    pub fn unsettled(&self, now: u64, nodes: &[Host], net: &Net) -> Unsettled {
        let mut unsettled = Unsettled::default();
        for part in parts(nodes, net) {
            if is_mute(&part, nodes.len(), net) || is_chain(&part, net) || is_deaf(&part, net) {
                continue;
            }
            let mut claimed = BucketSet::EMPTY;
            for &i in &part {
                let answers = nodes[i].answers(now);
                unsettled.twice = unsettled.twice.or(&claimed.and(&answers));
                claimed = claimed.or(&answers);
            }
            unsettled.missing = unsettled.missing.or(&BucketSet::FULL.minus(&claimed));
            let views: Vec<u32> =
                part.iter().filter_map(|&i| nodes[i].engine.as_ref()).map(|engine| engine.view()).collect();
            unsettled.views_differ |= views.windows(2).any(|pair| pair[0] != pair[1]);
        }
        unsettled
    }

    /// Complains about buckets that stayed unsettled from one look to the next.
    pub fn settled(&mut self, now: u64, before: &Unsettled, after: &Unsettled) {
        let missing = before.missing.and(&after.missing);
        if !missing.is_empty() {
            self.violated("I2", now, format!("nobody claims {missing:?}"));
        }
        let twice = before.twice.and(&after.twice);
        if !twice.is_empty() {
            self.violated("I2", now, format!("two of one part claim {twice:?}"));
        }
    }

    /// I7: in a part in which everybody hears everybody, whom a majority found not to serve claims nothing while
    /// somebody is left against whom there is none, and who is well. Whoever has just become so needs a while to take over.
    pub fn justice(&mut self, now: u64, nodes: &[Host], net: &Net) {
        let mut unjust = None;
        for part in parts(nodes, net) {
            let whole = part.iter().all(|&a| part.iter().all(|&b| a == b || net.connected(a, b)));
            if !whole || is_mute(&part, nodes.len(), net) || is_deaf(&part, net) {
                continue;
            }
            let is_out = |i: usize| {
                let judges: Vec<_> =
                    part.iter().filter(|j| **j != i).filter_map(|&j| nodes[j].suspects).collect();
                let against = judges.iter().filter(|suspects| suspects.contains(engine_id(i))).count();
                against * 2 > judges.len()
            };
            let serves = |i: usize| {
                nodes[i].engine.as_ref().is_some_and(|engine| {
                    let standing = engine.status(nodes[i].clock.local(now)).standing;
                    standing.state == NodeState::Serving && standing.health < Health::WORST
                })
            };
            let somebody_is_left = part.iter().any(|&i| !is_out(i) && serves(i));
            for &i in part.iter().filter(|&&i| somebody_is_left && is_out(i)) {
                let claims = nodes[i].answers(now);
                if !claims.is_empty() {
                    unjust = Some(format!("n{} was voted out and claims {claims:?}", i + 1));
                }
            }
        }
        let Some(what) = unjust else {
            self.unjust_since = None;
            return;
        };
        let since = *self.unjust_since.get_or_insert(now);
        if now - since > self.beats(8) {
            self.violated("I7", now, what);
        }
    }

    /// Complains that nodes of one part went on disagreeing.
    pub fn views_differ(&mut self, now: u64) {
        self.violated("I5", now, "nodes of one part differ in what they know".into());
    }
}

/// What is not as it should be in a cluster at rest.
#[derive(Clone, Debug, Default)]
pub struct Unsettled {
    /// Buckets that nobody of some part claims.
    pub missing: BucketSet,
    /// Buckets that two of one part claim.
    pub twice: BucketSet,
    /// Nodes of one part disagree about who is there.
    pub views_differ: bool,
}

fn engine_id(index: usize) -> NodeId {
    NodeId::from_index(index).expect("at most 64 nodes")
}

/// Whether `a` hears `b`; a stopped daemon hears nobody.
fn hears(nodes: &[Host], a: usize, b: usize) -> bool {
    nodes[a].runs() && nodes[a].engine.as_ref().is_some_and(|engine| engine.hears(engine_id(b)))
}

/// Whether `a` has heard `b` for as long as `span`.
fn heard_for(now: u64, nodes: &[Host], a: usize, b: usize, span: std::time::Duration) -> bool {
    let local = nodes[a].clock.local(now);
    let status = nodes[a].engine.as_ref().map(|engine| engine.status(local));
    let peer = status.and_then(|status| status.peers.into_iter().find(|peer| peer.node == engine_id(b)));
    peer.is_some_and(|peer| peer.heard && local.since(peer.since) >= span)
}

/// Whether `node` takes the beats of `other`, and not for recordings of an earlier life: those are no evidence, since
/// anybody could play them for ever.
fn takes_beats(node: &Host, other: &Host, index: usize) -> bool {
    let (Some(engine), Some(other)) = (&node.engine, &other.engine) else { return false };
    engine.newest_of(engine_id(index)) <= Some((other.incarnation(), other.seq()))
}

/// Whether a part hears nodes outside that do not hear it: it must fall silent rather than serve.
fn is_mute(part: &[usize], nodes: usize, net: &Net) -> bool {
    let outside = |node: &usize| !part.contains(node);
    (0..nodes).filter(outside).any(|from| part.iter().any(|&to| net.passes(from, to)))
}

/// Whether a part is a node that hears nothing at all: it cannot know that it is alone, and must fall silent.
fn is_deaf(part: &[usize], net: &Net) -> bool {
    part.iter().any(|&node| !net.hears(node))
}

/// Whether two nodes of a part have neither a link nor a common neighbour: they cannot know of each other.
fn is_chain(part: &[usize], net: &Net) -> bool {
    let linked = |a: usize, b: usize| a == b || net.connected(a, b);
    let near = |a: usize, b: usize| part.iter().any(|&c| linked(a, c) && linked(c, b));
    part.iter().any(|&a| part.iter().any(|&b| !near(a, b)))
}

/// The connected parts: nodes that are linked both ways, directly or over others. Deaf and mute nodes are alone.
fn parts(nodes: &[Host], net: &Net) -> Vec<Vec<usize>> {
    let mut parts: Vec<Vec<usize>> = Vec::new();
    let mut seen = vec![false; nodes.len()];
    for start in 0..nodes.len() {
        if seen[start] || !nodes[start].runs() {
            continue;
        }
        let mut part = vec![start];
        seen[start] = true;
        let mut at = 0;
        while at < part.len() {
            for next in 0..nodes.len() {
                if !seen[next] && nodes[next].runs() && net.connected(part[at], next) {
                    seen[next] = true;
                    part.push(next);
                }
            }
            at += 1;
        }
        parts.push(part);
    }
    parts
}

//! The passive peer check: whether a node answers its clients, as what they send shows.
//!
//! Every node hears every packet of every client. A client that goes on acknowledging nothing but the SYN-ACK has had
//! nothing from its server, one that repeats its SYN not even that. From such clues follows a suspicion against the node
//! that claims the bucket, and no more: clients may lie, or never answer. What is made of it is the daemon's business,
//! which asks the node itself, and that of the votes (`membership::votes`).

use crate::ids::{BUCKETS, Bucket, BucketSet, NodeId};
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Clues older than this count for nothing.
pub const WINDOW: Duration = Duration::from_secs(10);
/// So many clients in a row that got nothing, and none that came later and got something, are suspicious.
const IN_A_ROW: usize = 2;
/// So many are if they are half of all clients.
const HALF_OF: usize = 3;

/// How far a connection has got, as its client shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// One SYN. That says nothing.
    Begun,
    /// The SYN came again: no SYN-ACK reached the client, or it is no client.
    Repeated,
    /// The handshake is complete, and nothing more was acknowledged.
    Open {
        /// Since when.
        since: Time,
        /// When the client gave up.
        ended: Option<Time>,
    },
    /// The client acknowledged something that the server said.
    Served,
}

/// One connection of another node's client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientFlow {
    /// Of its client.
    pub bucket: Bucket,
    /// That it goes to.
    pub port: u16,
    /// Tells clients apart.
    pub source: u32,
    /// When its SYN came.
    pub begun: Time,
    /// How far it has got.
    pub progress: Progress,
}

impl ClientFlow {
    /// Whether the client was served; none while that cannot be told. `patience` is how long the first word may take.
    pub fn is_served(&self, now: Time, patience: Duration) -> Option<bool> {
        match self.progress {
            Progress::Served => Some(true),
            Progress::Begun => None,
            Progress::Repeated => Some(false),
            Progress::Open { since, ended } => {
                (ended.unwrap_or(now).since(since) >= patience).then_some(false)
            }
        }
    }
}

/// What the clients of one node show.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClientCounters {
    /// Clients of whom it is known whether they were served.
    pub clients: usize,
    /// Those of them who got no answer.
    pub unserved: usize,
    /// Whether that is reason to ask the node.
    pub suspicious: bool,
}

/// Who has claimed which bucket since when, as far as beats say.
#[derive(Clone, Debug)]
pub struct Claimers(Vec<(Option<NodeId>, Time)>);

impl Default for Claimers {
    fn default() -> Self {
        Self(vec![(None, Time::ZERO); BUCKETS])
    }
}

impl Claimers {
    /// Takes in what everybody else claims now.
    pub fn update(&mut self, now: Time, claims: &[(NodeId, BucketSet)]) {
        let mut claimers = vec![None; BUCKETS];
        for (node, buckets) in claims {
            buckets.iter().for_each(|bucket| claimers[bucket.index()] = Some(*node));
        }
        for (known, claimer) in self.0.iter_mut().zip(claimers) {
            if known.0 != claimer {
                *known = (claimer, now);
            }
        }
    }

    /// The buckets of others.
    pub fn foreign(&self) -> BucketSet {
        Bucket::all().filter(|bucket| self.0[bucket.index()].0.is_some()).collect()
    }

    /// Whose connection it is, if the bucket has been the node's from its beginning.
    fn of(&self, seen: &ClientFlow) -> Option<NodeId> {
        let (claimer, since) = self.0[seen.bucket.index()];
        claimer.filter(|_| seen.begun >= since)
    }
}

#[derive(Default)]
struct Clients {
    served: BTreeSet<u32>,
    /// When the newest connection began that was served.
    newest: Time,
    /// By client, when its newest connection began that was not.
    unserved: BTreeMap<u32, Time>,
}

impl Clients {
    fn counters(&self) -> ClientCounters {
        // Who was served as well only has a connection that hangs.
        let never = || self.unserved.iter().filter(|(source, _)| !self.served.contains(source));
        let unserved = never().count();
        let clients = unserved + self.served.len();
        let in_a_row = self.unserved.values().filter(|begun| **begun > self.newest).count();
        let suspicious = in_a_row >= IN_A_ROW || unserved >= HALF_OF && unserved * 2 >= clients;
        ClientCounters { clients, unserved: unserved.max(in_a_row), suspicious }
    }
}

/// Counts the clients of all nodes by their connections to `port`.
pub fn count_clients(
    now: Time,
    flows: impl Iterator<Item = ClientFlow>,
    claimers: &Claimers,
    port: u16,
    patience: Duration,
) -> BTreeMap<NodeId, ClientCounters> {
    let mut clients_of: BTreeMap<NodeId, Clients> = BTreeMap::new();
    for seen in flows.filter(|seen| seen.port == port && now.since(seen.begun) < WINDOW) {
        let (Some(node), Some(served)) = (claimers.of(&seen), seen.is_served(now, patience)) else {
            continue;
        };
        let about = clients_of.entry(node).or_default();
        if served {
            about.served.insert(seen.source);
            about.newest = about.newest.max(seen.begun);
        } else {
            let begun = about.unserved.entry(seen.source).or_insert(seen.begun);
            *begun = (*begun).max(seen.begun);
        }
    }
    clients_of.iter().map(|(node, clients)| (*node, clients.counters())).collect()
}

/// Which buckets are looked at: all of them while that is cheap, else a part that changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sampler {
    /// Of 1024.
    size: usize,
    turn: usize,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { size: BUCKETS, turn: 0 }
    }
}

impl Sampler {
    /// Segments a second that may be looked at more closely: at 50 to 100 ns each, 0.2 % of a processor.
    pub const BUDGET: u64 = 20_000;
    /// There are always some.
    const LEAST: usize = 16;

    /// Makes the part smaller or larger after a second in which so many segments were looked at.
    pub fn adapt(&mut self, segments: u64) {
        if segments > Self::BUDGET {
            self.size = (self.size / 2).max(Self::LEAST);
        } else if segments < Self::BUDGET / 4 {
            self.size = (self.size * 2).min(BUCKETS);
        }
    }

    /// Goes on to other buckets, if not all are looked at.
    pub fn move_on(&mut self) {
        self.turn = (self.turn + self.size) % BUCKETS;
    }

    /// The buckets of others that are looked at.
    pub fn choose(&self, foreign: &BucketSet) -> BucketSet {
        // An odd factor: neighbours in the table's order are not neighbours here.
        let place = |bucket: &Bucket| (bucket.index() * 421 + BUCKETS - self.turn) % BUCKETS;
        foreign.iter().filter(|bucket| place(bucket) < self.size).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Time {
        Time::from_nanos((100_000 + ms) * 1_000_000)
    }

    fn node() -> NodeId {
        NodeId::new(3).unwrap()
    }

    fn claimers() -> Claimers {
        let mut claimers = Claimers::default();
        claimers.update(at(0), &[(node(), BucketSet::FULL)]);
        claimers
    }

    fn seen(source: u32, begun: u64, progress: Progress) -> ClientFlow {
        ClientFlow { bucket: Bucket::new(5).unwrap(), port: 22, source, begun: at(begun), progress }
    }

    fn open(source: u32, begun: u64) -> ClientFlow {
        seen(source, begun, Progress::Open { since: at(begun + 1), ended: None })
    }

    fn counters(now: u64, flows: &[ClientFlow]) -> ClientCounters {
        let counted = count_clients(at(now), flows.iter().copied(), &claimers(), 22, PATIENCE);
        counted.get(&node()).copied().unwrap_or_default()
    }

    #[test]
    fn clients_in_a_row_that_get_nothing_are_suspicious() {
        let served = seen(1, 100, Progress::Served);
        let both = [served, open(2, 1000), open(3, 1200)];
        assert!(!counters(2100, &both).suspicious, "the second has not waited for long enough");
        assert_eq!(counters(2300, &both), ClientCounters { clients: 3, unserved: 2, suspicious: true });
        let later = [served, open(2, 1000), open(3, 1200), seen(4, 1300, Progress::Served)];
        assert!(!counters(2300, &later).suspicious, "somebody came later and was served");
        assert!(
            !counters(2300, &[open(2, 1000), open(2, 1200)]).suspicious,
            "one client twice is one client"
        );
    }

    #[test]
    fn half_of_all_clients_are_suspicious_whoever_comes_later() {
        let served = |source| seen(source, 2000, Progress::Served);
        let mut all = vec![open(1, 100), open(2, 100), open(3, 100), served(4), served(5), served(6)];
        assert_eq!(counters(3000, &all), ClientCounters { clients: 6, unserved: 3, suspicious: true });
        all.push(served(7));
        assert!(!counters(3000, &all).suspicious);
    }

    #[test]
    fn what_proves_nothing_is_not_counted() {
        let flood: Vec<_> = (0..1000).map(|source| seen(source, 500, Progress::Begun)).collect();
        assert_eq!(counters(5000, &flood), ClientCounters::default(), "a flood of single SYNs");
        let brief = |source| seen(source, 500, Progress::Open { since: at(501), ended: Some(at(600)) });
        assert_eq!(
            counters(5000, &[brief(1), brief(2), brief(3)]),
            ClientCounters::default(),
            "gone before it was due"
        );
        let elsewhere = |source| ClientFlow { port: 80, ..open(source, 500) };
        assert_eq!(
            counters(5000, &[elsewhere(1), elsewhere(2)]),
            ClientCounters::default(),
            "another service"
        );
        assert_eq!(counters(20_000, &[open(1, 500), open(2, 500)]), ClientCounters::default(), "long ago");
    }

    #[test]
    fn repeated_syns_are_clues() {
        let repeated = |source| seen(source, 500, Progress::Repeated);
        assert!(counters(1600, &[repeated(1), repeated(2)]).suspicious);
    }

    #[test]
    fn a_node_is_not_blamed_for_connections_from_before_it_had_the_bucket() {
        let mut claimers = claimers();
        let other = NodeId::new(4).unwrap();
        claimers.update(at(2000), &[(other, BucketSet::FULL)]);
        let counted = |begun| {
            let flows = [open(1, begun), open(2, begun)];
            count_clients(at(begun + 2000), flows.into_iter(), &claimers, 22, PATIENCE)
        };
        assert!(counted(1000).is_empty());
        assert!(counted(2000)[&other].suspicious);
    }

    #[test]
    fn the_sample_is_everything_until_it_costs_too_much_and_then_goes_round() {
        let mut sampler = Sampler::default();
        assert_eq!(sampler.choose(&BucketSet::FULL), BucketSet::FULL);
        for _ in 0..20 {
            sampler.adapt(Sampler::BUDGET + 1);
        }
        let mut met = BucketSet::EMPTY;
        for _ in 0..BUCKETS / 16 {
            let now = sampler.choose(&BucketSet::FULL);
            assert_eq!(now.len(), 16);
            met = met.or(&now);
            sampler.move_on();
        }
        assert_eq!(met, BucketSet::FULL, "everybody's turn comes");
        for _ in 0..20 {
            sampler.adapt(0);
        }
        assert_eq!(sampler.choose(&BucketSet::FULL), BucketSet::FULL);
    }
}

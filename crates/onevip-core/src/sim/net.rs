//! The segment between the nodes: which frame arrives, and when.

use super::rng::Rng;

/// The segment.
#[derive(Clone, Debug)]
pub struct Net {
    /// Shortest way, in nanoseconds.
    pub delay_ns: u64,
    /// Added at random, up to this.
    pub jitter_ns: u64,
    /// Frames that come twice, per million.
    pub duplicate_ppm: u32,
    /// Frames that come much later (up to a beat), per million.
    pub late_ppm: u32,
    /// Frames lost, per million, by sender or receiver.
    pub loss_ppm: Vec<u32>,
    /// Nothing it sends arrives.
    pub mute: Vec<bool>,
    /// It cannot send.
    pub cannot_send: Vec<bool>,
    /// It hears nothing.
    pub deaf: Vec<bool>,
    /// Its cable is out: mute and deaf.
    pub unplugged: Vec<bool>,
    /// Which side of a split it is on.
    pub side: Vec<u8>,
    /// `blocked[from][to]`: this one way does not work.
    pub blocked: Vec<Vec<bool>>,
    /// `since[a][b]`: since when frames pass both ways, if they do.
    pub connected_since: Vec<Vec<Option<u64>>>,
}

impl Net {
    /// A good segment for `nodes` nodes.
    pub fn new(nodes: usize, rng: &mut Rng) -> Self {
        Self {
            delay_ns: rng.between(20_000, 300_000),
            jitter_ns: rng.between(10_000, 300_000),
            duplicate_ppm: 0,
            late_ppm: 0,
            loss_ppm: vec![0; nodes],
            mute: vec![false; nodes],
            cannot_send: vec![false; nodes],
            deaf: vec![false; nodes],
            unplugged: vec![false; nodes],
            side: vec![0; nodes],
            blocked: vec![vec![false; nodes]; nodes],
            connected_since: vec![vec![Some(0); nodes]; nodes],
        }
    }

    /// Whether frames get from `from` to `to` at all.
    pub fn passes(&self, from: usize, to: usize) -> bool {
        let speaks = !self.mute[from] && !self.cannot_send[from] && !self.unplugged[from];
        speaks && self.hears(to) && self.side[from] == self.side[to] && !self.blocked[from][to]
    }

    /// Whether anything arrives there: clients, if nobody else.
    pub fn hears(&self, node: usize) -> bool {
        !self.deaf[node] && !self.unplugged[node]
    }

    /// Whether frames get there and back.
    pub fn connected(&self, a: usize, b: usize) -> bool {
        self.passes(a, b) && self.passes(b, a)
    }

    /// Whether this frame is lost by chance.
    pub fn loses(&self, from: usize, to: usize, rng: &mut Rng) -> bool {
        rng.chance_ppm(self.loss_ppm[from].max(self.loss_ppm[to]))
    }

    /// How long this frame takes.
    pub fn delay(&self, beat_ns: u64, rng: &mut Rng) -> u64 {
        let late = if rng.chance_ppm(self.late_ppm) { rng.below(beat_ns) } else { 0 };
        self.delay_ns + rng.below(self.jitter_ns + 1) + late
    }

    /// After a change: notes since when which pairs are connected.
    pub fn note_connections(&mut self, now: u64) {
        for a in 0..self.mute.len() {
            for b in 0..self.mute.len() {
                let before = self.connected_since[a][b];
                self.connected_since[a][b] = self.connected(a, b).then(|| before.unwrap_or(now));
            }
        }
    }

    /// Ends all faults but the loss that is part of the segment's nature.
    pub fn heal(&mut self) {
        self.mute.fill(false);
        self.cannot_send.fill(false);
        self.deaf.fill(false);
        self.unplugged.fill(false);
        self.side.fill(0);
        for row in &mut self.blocked {
            row.fill(false);
        }
    }
}

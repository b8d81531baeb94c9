//! What may befall a cluster, and how it ends. What then happens to the hosts: `inflict.rs`.

use super::rng::Rng;

/// Something that happens to a cluster. Nodes by index.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The host loses power, sessions and all.
    PowerOff(usize),
    /// The host gets power and its daemon starts.
    PowerOn(usize),
    /// The daemon dies; the kernel lives.
    Crash(usize),
    /// The daemon starts.
    Start(usize),
    /// The daemon does nothing for so many nanoseconds.
    Stop(usize, u64),
    /// The machine does nothing for so many nanoseconds; true: its clock stops as well.
    Pause(usize, u64, bool),
    /// Nothing it sends arrives (or does again).
    Mute(usize, bool),
    /// It hears nothing (or does again).
    Deaf(usize, bool),
    /// Its cable is out (or in again).
    Unplug(usize, bool),
    /// One way of one link fails (or works again).
    Block(usize, usize, bool),
    /// The nodes whose bit is set are on the other side of a cut; 0 heals it.
    Split(u64),
    /// Frames from and to this node are lost, per million.
    Loss(usize, u32),
    /// Drain it.
    Drain(usize),
    /// End the drain.
    Undrain(usize),
    /// Say goodbye, then stop the daemon.
    Leave(usize),
    /// Give it this weight.
    Weight(usize, u16),
    /// It feels like this.
    Feel(usize, u8),
    /// Somebody asks for a rebalance here.
    Rebalance(usize),
    /// The nodes whose bit is set find that this one does not serve, all others that it does.
    Blame(usize, u64),
    /// Its kernel answers no questions, as behind a filter (or does again).
    Unaskable(usize, bool),
    /// Its beats cannot be sent, and its daemon is told so (or can again).
    CannotSend(usize, bool),
    /// The number of its life that it stored goes back.
    Amnesia(usize),
}

/// Which kinds of faults a life has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Hosts and daemons come, go and stop; the network is perfect and clocks go on.
    Hosts,
    /// Frames are lost, late and doubled.
    Lossy,
    /// Links fail, also one way, also not transitively; some stay so.
    Links,
    /// The segment is cut and heals.
    Splits,
    /// Machines pause, with or without their clocks.
    Pauses,
    /// All of it.
    Mixed,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Hosts, Self::Lossy, Self::Links, Self::Splits, Self::Pauses, Self::Mixed];

    /// One fault of this kind and what ends it, for node `i` of `nodes`. Spans in nanoseconds.
    pub fn fault(self, rng: &mut Rng, nodes: usize, beat: u64) -> Vec<(u64, Fault)> {
        let i = rng.below(nodes as u64) as usize;
        let span = beat / 10 + rng.below(beat * 30);
        let kind = match self {
            Self::Mixed => *rng.pick(&Self::ALL[..5]),
            Self::Hosts => self,
            _ if rng.one_in(3) => Self::Hosts,
            _ => self,
        };
        match kind {
            Self::Hosts | Self::Mixed => host_fault(rng, i, span, beat),
            Self::Lossy => {
                let ppm = *rng.pick(&[20_000, 50_000, 100_000, 200_000, 300_000]);
                // Now and then for so long that it is noticed.
                let span = if rng.one_in(4) { span + beat * 100 } else { span };
                vec![(0, Fault::Loss(i, ppm)), (span, Fault::Loss(i, 0))]
            }
            Self::Links => link_fault(rng, i, nodes, span),
            Self::Splits => vec![(0, Fault::Split(rng.number())), (span, Fault::Split(0))],
            Self::Pauses => vec![(0, Fault::Pause(i, span / 2, rng.one_in(2)))],
        }
    }
}

impl FaultKind {
    /// The beginnings of faults of links, without an end.
    pub fn standing(self, rng: &mut Rng, nodes: usize) -> Vec<(u64, Fault)> {
        if self == Self::Splits {
            return vec![(0, Fault::Split(rng.number()))];
        }
        let i = rng.below(nodes as u64) as usize;
        let faults = link_fault(rng, i, nodes, 1);
        faults.into_iter().filter(|(span, _)| *span == 0).collect()
    }
}

fn host_fault(rng: &mut Rng, i: usize, span: u64, beat: u64) -> Vec<(u64, Fault)> {
    match rng.below(11) {
        0 => vec![(0, Fault::PowerOff(i)), (span, Fault::PowerOn(i))],
        1 => vec![(0, Fault::Crash(i)), (span, Fault::Start(i))],
        2 => vec![(0, Fault::Crash(i)), (rng.below(beat), Fault::Start(i))],
        3 | 4 => vec![(0, Fault::Stop(i, span / 2))],
        5 => vec![(0, Fault::Stop(i, beat + rng.below(beat * 6)))],
        6 => vec![(0, Fault::Drain(i)), (span, Fault::Undrain(i))],
        7 => vec![(0, Fault::Leave(i)), (span, Fault::Start(i))],
        8 => vec![(0, Fault::Weight(i, *rng.pick(&[1, 50, 100, 200, 1000])))],
        9 => vec![(0, Fault::Feel(i, rng.below(4) as u8)), (span, Fault::Feel(i, 0))],
        _ => vec![(0, Fault::Rebalance(i))],
    }
}

/// Somebody is suspected, by all or by anybody, rightly or not; and what ends it.
pub fn blame(rng: &mut Rng, nodes: usize, beat: u64) -> Vec<(u64, Fault)> {
    let (i, span) = (rng.below(nodes as u64) as usize, beat / 10 + rng.below(beat * 30));
    let by = if rng.one_in(2) { u64::MAX } else { rng.number() };
    vec![(0, Fault::Blame(i, by)), (span, Fault::Blame(i, 0))]
}

/// What hosts are like that no lab has, and what befalls them: they lose their state, or their beats cannot be sent, or
/// others do not take them from the beginning; and what ends it. Without `links` frames always pass.
pub fn odd(rng: &mut Rng, nodes: usize, beat: u64, links: bool) -> Vec<(u64, Fault)> {
    let (i, span) = (rng.below(nodes as u64) as usize, beat / 10 + rng.below(beat * 30));
    match rng.below(if links { 4 } else { 1 }) {
        0 => vec![(0, Fault::Crash(i)), (0, Fault::Amnesia(i)), (rng.below(beat * 12), Fault::Start(i))],
        1 => {
            let begin = [(0, Fault::Crash(i)), (0, Fault::Mute(i, true)), (beat * 2, Fault::Start(i))];
            begin.into_iter().chain([(beat * 10 + span, Fault::Mute(i, false))]).collect()
        }
        2 => vec![(0, Fault::CannotSend(i, true)), (span, Fault::CannotSend(i, false))],
        _ => {
            let all = |on, after| (0..nodes).map(move |i| (after, Fault::CannotSend(i, on)));
            all(true, 0).chain(all(false, span)).collect()
        }
    }
}

fn link_fault(rng: &mut Rng, i: usize, nodes: usize, span: u64) -> Vec<(u64, Fault)> {
    let j = (i + 1 + rng.below(nodes.max(2) as u64 - 1) as usize) % nodes;
    match rng.below(5) {
        4 => vec![(0, Fault::Unplug(i, true)), (span, Fault::Unplug(i, false))],
        0 => vec![(0, Fault::Mute(i, true)), (span, Fault::Mute(i, false))],
        1 => vec![(0, Fault::Deaf(i, true)), (span, Fault::Deaf(i, false))],
        2 if i != j => vec![(0, Fault::Block(i, j, true)), (span, Fault::Block(i, j, false))],
        _ if i != j => vec![
            (0, Fault::Block(i, j, true)),
            (0, Fault::Block(j, i, true)),
            (span, Fault::Block(i, j, false)),
            (span, Fault::Block(j, i, false)),
        ],
        _ => vec![],
    }
}

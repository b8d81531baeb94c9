//! How a beat is written: one layout, and exactly one way to write each beat in it.
//!
//! All numbers are little-endian, so that the bucket bitmaps are plain too: bucket `b` is bit `b % 8` of byte `b / 8`.
//! What names the beat ([`Origin`]) travels in the clear, in the header ([`super::envelope`]); this is the body,
//! which travels encrypted:
//!
//! | offset | bytes | meaning |
//! | ---: | ---: | --- |
//! | 0 | 1 | bits 0–1 state, 2–3 health, 4 "answer at once", 5–7 zero |
//! | 1 | 1 | number of peer reports, 0 to 63 |
//! | 2 | 2 | weight, 0 to 10,000 |
//! | 4 | 4 | view: digest of what the table is made of |
//! | 8 | 4 | rebalance count |
//! | 12 | 8 | digest of the configuration |
//! | 20 | 8 | digest of the SSH host keys |
//! | 28 | 4 | sessions |
//! | 32 | 2 | load in percent |
//! | 34 | 2 | rulings: first bucket looked at |
//! | 36 | 2 | rulings: first bucket after those, at most 1024 |
//! | 38 | 2 | number of rulings |
//! | 40 | 128 | claims |
//! | 168 | 128 | intents |
//! | 296 | 128 | buckets with sessions |
//! | 424 | 8 | testimony: nodes about which the sender has a say, node `n` is bit `n − 1` of a number of 64 bits |
//! | 432 | 8 | of those, the ones that do not serve |
//! | 440 | 8 | nodes against which the sender counts a majority |
//! | 448 | 12 each | peer reports, ascending by node, never of the sender |
//! | then | 2 each | rulings, ascending by bucket: bits 0–9 bucket, 10–15 node − 1 |
//!
//! A peer report:
//!
//! | offset | bytes | meaning |
//! | ---: | ---: | --- |
//! | 0 | 1 | node, 1 to 64 |
//! | 1 | 1 | bits 0–1 state, 2–3 health, 4 heard, 5 lossy, 6–7 zero |
//! | 2 | 2 | weight, 0 to 10,000 |
//! | 4 | 4 | incarnation |
//! | 8 | 4 | number of the newest beat heard, at least 1 |
//!
//! A field that is added, or means something else, needs a new [`super::envelope::VERSION`].

use super::envelope::{DATAGRAM_MAX, DATAGRAM_SENT_MAX, OVERHEAD};
use super::{Beat, Facts, Health, Incarnation, NodeState, PeerReport, Rulings, Seq, Standing, Testimony};
use crate::ids::{BUCKETS, Bucket, BucketSet, NODES_MAX, NodeId, NodeSet};
use crate::table::Weight;

/// The body of a beat without reports and rulings, in bytes.
pub const BODY_MIN: usize = 40 + 3 * BITMAP + 3 * NODES;

const BITMAP: usize = BUCKETS / 8;
const NODES: usize = NODES_MAX / 8;
const REPORT: usize = 12;
const RULING: usize = 2;
const PEERS_MAX: usize = NODES_MAX - 1;

/// How many rulings a beat carries that reports on `peers` nodes (at most 63): 365 with none, 71 with 49 and more.
///
/// As many as fit into [`DATAGRAM_SENT_MAX`], but never fewer than fit into [`DATAGRAM_MAX`] beside 63 reports.
pub const fn rulings_room(peers: usize) -> usize {
    let (fixed, least) = (OVERHEAD + BODY_MIN + reports(peers) * REPORT, rulings_read(PEERS_MAX));
    let room = DATAGRAM_SENT_MAX.saturating_sub(fixed) / RULING;
    if room > least { room } else { least }
}

/// How many rulings are read beside the reports on `peers` nodes: what fits into [`DATAGRAM_MAX`], which earlier
/// versions filled.
const fn rulings_read(peers: usize) -> usize {
    (DATAGRAM_MAX - OVERHEAD - BODY_MIN - reports(peers) * REPORT) / RULING
}

const fn reports(peers: usize) -> usize {
    if peers > PEERS_MAX { PEERS_MAX } else { peers }
}

/// What names a beat: no two have the same, whoever sends them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Origin {
    /// The sender.
    pub from: NodeId,
    /// Tells hosts with the same node number apart; see [`Beat::host`].
    pub host: u32,
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// The number of the beat, at least 1.
    pub seq: Seq,
}

impl Origin {
    /// What names `beat`.
    pub const fn of(beat: &Beat) -> Self {
        Self { from: beat.from, host: beat.host, incarnation: beat.incarnation, seq: beat.seq }
    }
}

/// Why a body cannot be read. Only somebody who has the key can bring one about: a node of another build, or a bug.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum DecodeError {
    /// It is shorter or longer than its own counts say, or too long for a beat.
    #[error("its length does not fit what it contains")]
    Length,
    /// Bits are set that mean nothing.
    #[error("bits are set that have no meaning")]
    ReservedBits,
    /// A weight above 10,000.
    #[error("a weight is above 10000")]
    Weight,
    /// A node number outside 1 to 64, or a report of the sender itself.
    #[error("a node number is out of place")]
    Node,
    /// A beat numbered 0.
    #[error("a beat is numbered 0")]
    Seq,
    /// Reports or rulings are not in strictly ascending order.
    #[error("reports or rulings are out of order")]
    Order,
    /// A node testifies about itself, or against one about which it has no say.
    #[error("a testimony is about a node that its sender cannot judge")]
    Testimony,
    /// The range of the rulings is none, or a ruling lies outside it.
    #[error("a ruling is out of range")]
    Range,
}

/// Writes the body of `beat`.
///
/// The beat must be as its types document it: reports ascending by node, at most 63 and none of the sender, rulings
/// ascending by bucket, within their range, and no more than [`rulings_room`]. Anything else is written, but will not
/// be read.
pub fn encode(beat: &Beat) -> Vec<u8> {
    let mut body = Vec::with_capacity(DATAGRAM_MAX);
    encode_into(beat, &mut body);
    body
}

/// Appends the body of `beat` to `out`; see [`encode`].
pub fn encode_into(beat: &Beat, out: &mut Vec<u8>) {
    debug_assert!(beat.peers.len() <= PEERS_MAX, "a beat reports on at most 63 nodes");
    debug_assert!(
        beat.rulings.first.len() <= rulings_room(beat.peers.len()),
        "more rulings than there is room"
    );
    out.push(standing_bits(beat.standing, beat.answer));
    out.push(beat.peers.len() as u8);
    out.extend(beat.standing.weight.get().to_le_bytes());
    out.extend(beat.view.to_le_bytes());
    out.extend(beat.rebalance.to_le_bytes());
    out.extend(beat.facts.config_digest.to_le_bytes());
    out.extend(beat.facts.host_keys_digest.to_le_bytes());
    out.extend(beat.facts.sessions.to_le_bytes());
    out.extend(beat.facts.load_percent.to_le_bytes());
    out.extend(beat.rulings.from.to_le_bytes());
    out.extend(beat.rulings.to.to_le_bytes());
    out.extend((beat.rulings.first.len() as u16).to_le_bytes());
    for set in [&beat.claims, &beat.intents, &beat.sessions] {
        out.extend(set.words().iter().flat_map(|word| word.to_le_bytes()));
    }
    let Testimony { able, suspects, convicted } = beat.testimony;
    for set in [able, suspects, convicted] {
        out.extend(set.word().to_le_bytes());
    }
    for report in &beat.peers {
        out.push(report.node.get());
        out.push(standing_bits(report.standing, report.heard) | if report.lossy { LOSSY } else { 0 });
        out.extend(report.standing.weight.get().to_le_bytes());
        out.extend(report.incarnation.0.to_le_bytes());
        out.extend(report.seq.0.to_le_bytes());
    }
    for (bucket, node) in &beat.rulings.first {
        out.extend((bucket.get() | (node.index() as u16) << 10).to_le_bytes());
    }
}

/// Reads the body of the beat that `origin` names.
///
/// Accepts exactly what [`encode`] writes for a beat as its types document it, so that two beats never mean the same,
/// and as many rulings as earlier versions sent.
/// Its work is bounded by the length of the body, its memory by the counts after they were checked against it.
///
/// # Errors
///
/// Says what is wrong with the first thing that is.
pub fn decode(origin: Origin, body: &[u8]) -> Result<Beat, DecodeError> {
    if origin.seq == Seq(0) {
        return Err(DecodeError::Seq);
    }
    let mut rest = Reader(body);
    let bits = rest.u8()?;
    let peers = usize::from(rest.u8()?);
    let weight = rest.weight()?;
    let (standing, answer) = read_standing(bits, weight)?;
    let (view, rebalance) = (rest.u32()?, rest.u32()?);
    let facts = Facts {
        config_digest: rest.u64()?,
        host_keys_digest: rest.u64()?,
        sessions: rest.u32()?,
        load_percent: rest.u16()?,
    };
    let (from, to, rulings) = (rest.u16()?, rest.u16()?, usize::from(rest.u16()?));
    let (claims, intents, sessions) = (rest.buckets()?, rest.buckets()?, rest.buckets()?);
    let testimony = rest.testimony(origin.from)?;
    if peers > PEERS_MAX || rulings > rulings_read(peers) || rest.0.len() != peers * REPORT + rulings * RULING
    {
        return Err(DecodeError::Length);
    }
    let peers = read_reports(&mut rest, peers, origin.from)?;
    let rulings = read_rulings(&mut rest, rulings, from, to)?;
    let Origin { from, host, incarnation, seq } = origin;
    Ok(Beat {
        from,
        incarnation,
        seq,
        host,
        standing,
        answer,
        view,
        rebalance,
        facts,
        claims,
        intents,
        sessions,
        testimony,
        peers,
        rulings,
    })
}

fn read_reports(rest: &mut Reader<'_>, count: usize, sender: NodeId) -> Result<Vec<PeerReport>, DecodeError> {
    let mut reports: Vec<PeerReport> = Vec::with_capacity(count);
    for _ in 0..count {
        let node = NodeId::new(rest.u8()?).filter(|node| *node != sender).ok_or(DecodeError::Node)?;
        if reports.last().is_some_and(|before| before.node >= node) {
            return Err(DecodeError::Order);
        }
        let bits = rest.u8()?;
        let (standing, heard) = read_standing(bits & !LOSSY, rest.weight()?)?;
        let lossy = bits & LOSSY != 0;
        let (incarnation, seq) = (Incarnation(rest.u32()?), Seq(rest.u32()?));
        if seq == Seq(0) {
            return Err(DecodeError::Seq);
        }
        reports.push(PeerReport { node, incarnation, seq, heard, lossy, standing });
    }
    Ok(reports)
}

fn read_rulings(rest: &mut Reader<'_>, count: usize, from: u16, to: u16) -> Result<Rulings, DecodeError> {
    if from > to || usize::from(to) > BUCKETS {
        return Err(DecodeError::Range);
    }
    let mut first: Vec<(Bucket, NodeId)> = Vec::with_capacity(count);
    for _ in 0..count {
        let packed = rest.u16()?;
        let bucket = Bucket::new(packed & 0x3ff).ok_or(DecodeError::Range)?;
        let node = NodeId::from_index(usize::from(packed >> 10)).ok_or(DecodeError::Node)?;
        if first.last().is_some_and(|(before, _)| *before >= bucket) {
            return Err(DecodeError::Order);
        }
        if !(from..to).contains(&bucket.get()) {
            return Err(DecodeError::Range);
        }
        first.push((bucket, node));
    }
    Ok(Rulings { from, to, first })
}

const FLAG: u8 = 1 << 4;
/// In peer reports only.
const LOSSY: u8 = 1 << 5;
const RESERVED: u8 = 0b1110_0000;

/// State, health and a flag in one byte.
fn standing_bits(standing: Standing, flag: bool) -> u8 {
    standing.state as u8 | standing.health.level() << 2 | if flag { FLAG } else { 0 }
}

fn read_standing(bits: u8, weight: Weight) -> Result<(Standing, bool), DecodeError> {
    if bits & RESERVED != 0 {
        return Err(DecodeError::ReservedBits);
    }
    let state = NodeState::from_wire(bits & 3).ok_or(DecodeError::ReservedBits)?;
    Ok((Standing { state, health: Health::new(bits >> 2 & 3), weight }, bits & FLAG != 0))
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Length)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.take().map(u64::from_le_bytes)
    }

    fn weight(&mut self) -> Result<Weight, DecodeError> {
        Weight::new(self.u16()?).ok_or(DecodeError::Weight)
    }

    fn nodes(&mut self) -> Result<NodeSet, DecodeError> {
        self.u64().map(NodeSet::from_word)
    }

    fn testimony(&mut self, sender: NodeId) -> Result<Testimony, DecodeError> {
        let said = Testimony { able: self.nodes()?, suspects: self.nodes()?, convicted: self.nodes()? };
        if said.able.contains(sender) || !said.suspects.minus(said.able).is_empty() {
            return Err(DecodeError::Testimony);
        }
        Ok(said)
    }

    fn buckets(&mut self) -> Result<BucketSet, DecodeError> {
        let mut words = [0; BUCKETS / 64];
        for word in &mut words {
            *word = self.u64()?;
        }
        Ok(BucketSet::from_words(words))
    }
}

//! How a beat is written: a fixed little-endian layout, so that a reader needs no loop it cannot bound.
//!
//! ```text
//! header, in the clear                       body, sealed
//!  0  magic "1VIP"                            0  state, health, flags (bit 0: answer), 0
//!  4  version (1)                             4  weight u16, load u16
//!  5  node number                             8  view u32, rebalance u32, sessions u32
//!  6  key id u16                             20  config digest u64, host keys digest u64
//!  8  cluster u32                            36  claims, intents, guests: 128 bytes each
//! 12  host u32                              420  number of peers u8, then 12 bytes each:
//! 16  incarnation u32                             node, flags (bits 0-1 state, 2-3 health, 7 heard), weight u16,
//! 20  sequence number u32                         incarnation u32, sequence number u32
//!                                             …  rulings: from u16, to u16, number u16, then 2 bytes each:
//!                                                 bucket << 6 | node - 1
//! ```
//!
//! What follows the rulings is ignored: a later version may say more there. Sealing ([`super::seal`]) adds 16 bytes.

use super::{Beat, Facts, Health, Incarnation, NodeState, PeerReport, Rulings, Seq, Standing};
use crate::ids::{BUCKETS, Bucket, BucketSet, NODES_MAX, NodeId};
use crate::table::Weight;

/// The first four bytes of every beat.
pub const MAGIC: [u8; 4] = *b"1VIP";
/// The version of this layout.
pub const VERSION: u8 = 1;
/// Bytes of the header.
pub const HEADER_LEN: usize = 24;
/// Bytes that sealing adds.
pub const TAG_LEN: usize = 16;
/// No beat is longer than this, sealed: it fits one Ethernet frame with its IPv6 and UDP headers.
pub const BEAT_MAX: usize = 1400;
/// Bytes of a body without peers and rulings.
const BODY_FIXED: usize = 36 + 3 * 128 + 1 + 6;
/// Bytes of a peer's report.
const REPORT_LEN: usize = 12;
/// The shortest beat, sealed.
pub const BEAT_MIN: usize = HEADER_LEN + BODY_FIXED + TAG_LEN;

/// How many rulings fit into a beat that reports on `peers` nodes.
pub const fn rulings_room(peers: usize) -> usize {
    (BEAT_MAX - BEAT_MIN - peers * REPORT_LEN) / 2
}

/// What stands in the clear.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header {
    /// The sender.
    pub from: NodeId,
    /// Which key sealed the rest.
    pub key: u16,
    /// Which cluster it belongs to.
    pub cluster: u32,
    /// The sender's host number.
    pub host: u32,
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// The number of the beat.
    pub seq: Seq,
}

/// Why bytes are no beat.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Malformed {
    /// The magic number or the length is wrong.
    #[error("not a beat of onevip")]
    NotABeat,
    /// A version we do not know.
    #[error("a beat of version {0}, this is version {VERSION}: upgrade the older of the two nodes")]
    Version(u8),
    /// A field has a value that it cannot have.
    #[error("{0} is out of range")]
    Field(&'static str),
    /// It ends too early.
    #[error("it ends too early")]
    Truncated,
}

impl Header {
    /// Writes the header.
    pub fn write(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.from.get();
        bytes[6..8].copy_from_slice(&self.key.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.cluster.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.host.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.incarnation.0.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.seq.0.to_le_bytes());
        bytes
    }

    /// Reads the header of a sealed beat, and judges its length.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() < BEAT_MIN || bytes.len() > BEAT_MAX || bytes[0..4] != MAGIC {
            return Err(Malformed::NotABeat);
        }
        let mut reader = Reader(&bytes[4..HEADER_LEN]);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let from = NodeId::new(reader.u8()?).ok_or(Malformed::Field("node number"))?;
        Ok(Self {
            from,
            key: reader.u16()?,
            cluster: reader.u32()?,
            host: reader.u32()?,
            incarnation: Incarnation(reader.u32()?),
            seq: Seq(reader.u32()?),
        })
    }
}

/// Writes the body.
pub fn write_body(beat: &Beat) -> Vec<u8> {
    let mut out = Vec::with_capacity(BEAT_MAX - HEADER_LEN);
    let standing = &beat.standing;
    out.extend([standing.state as u8, standing.health.level(), u8::from(beat.answer), 0]);
    out.extend(standing.weight.get().to_le_bytes());
    out.extend(beat.facts.load_percent.to_le_bytes());
    out.extend(beat.view.to_le_bytes());
    out.extend(beat.rebalance.to_le_bytes());
    out.extend(beat.facts.sessions.to_le_bytes());
    out.extend(beat.facts.config_digest.to_le_bytes());
    out.extend(beat.facts.host_keys_digest.to_le_bytes());
    for set in [&beat.claims, &beat.intents, &beat.guests] {
        out.extend(set.words().iter().flat_map(|word| word.to_le_bytes()));
    }
    out.push(beat.peers.len() as u8);
    for report in &beat.peers {
        write_report(&mut out, report);
    }
    out.extend(beat.rulings.from.to_le_bytes());
    out.extend(beat.rulings.to.to_le_bytes());
    out.extend((beat.rulings.first.len() as u16).to_le_bytes());
    for (bucket, node) in &beat.rulings.first {
        out.extend((bucket.get() << 6 | node.index() as u16).to_le_bytes());
    }
    out
}

fn write_report(out: &mut Vec<u8>, report: &PeerReport) {
    let standing = &report.standing;
    let flags = standing.state as u8 | standing.health.level() << 2 | u8::from(report.heard) << 7;
    out.extend([report.node.get(), flags]);
    out.extend(standing.weight.get().to_le_bytes());
    out.extend(report.incarnation.0.to_le_bytes());
    out.extend(report.seq.0.to_le_bytes());
}

/// Reads a body.
pub fn read_body(header: &Header, body: &[u8]) -> Result<Beat, Malformed> {
    let mut reader = Reader(body);
    let state = NodeState::from_wire(reader.u8()?).ok_or(Malformed::Field("state"))?;
    let health = reader.u8()?;
    if health > Health::WORST.level() {
        return Err(Malformed::Field("health"));
    }
    let flags = reader.u8()?;
    reader.u8()?;
    let standing = Standing { state, health: Health::new(health), weight: reader.weight()? };
    let load_percent = reader.u16()?;
    let (view, rebalance, sessions) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let (config_digest, host_keys_digest) = (reader.u64()?, reader.u64()?);
    Ok(Beat {
        from: header.from,
        incarnation: header.incarnation,
        seq: header.seq,
        host: header.host,
        standing,
        answer: flags & 1 != 0,
        view,
        rebalance,
        facts: Facts { config_digest, host_keys_digest, sessions, load_percent },
        claims: reader.buckets()?,
        intents: reader.buckets()?,
        guests: reader.buckets()?,
        peers: read_reports(&mut reader)?,
        rulings: read_rulings(&mut reader)?,
    })
}

fn read_reports(reader: &mut Reader) -> Result<Vec<PeerReport>, Malformed> {
    let count = usize::from(reader.u8()?);
    if count > NODES_MAX {
        return Err(Malformed::Field("number of peers"));
    }
    let mut reports: Vec<PeerReport> = Vec::with_capacity(count);
    for _ in 0..count {
        let node = NodeId::new(reader.u8()?).ok_or(Malformed::Field("number of a peer"))?;
        if reports.last().is_some_and(|last| last.node >= node) {
            return Err(Malformed::Field("order of peers"));
        }
        let flags = reader.u8()?;
        let state = NodeState::from_wire(flags & 3).ok_or(Malformed::Field("state of a peer"))?;
        let standing = Standing { state, health: Health::new(flags >> 2 & 3), weight: reader.weight()? };
        let incarnation = Incarnation(reader.u32()?);
        let seq = Seq(reader.u32()?);
        reports.push(PeerReport { node, incarnation, seq, heard: flags & 0x80 != 0, standing });
    }
    Ok(reports)
}

fn read_rulings(reader: &mut Reader) -> Result<Rulings, Malformed> {
    let (from, to, count) = (reader.u16()?, reader.u16()?, reader.u16()?);
    if from > to || usize::from(to) > BUCKETS || count > to - from {
        return Err(Malformed::Field("range of rulings"));
    }
    let mut first: Vec<(Bucket, NodeId)> = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let word = reader.u16()?;
        let bucket = Bucket::new(word >> 6).ok_or(Malformed::Field("bucket of a ruling"))?;
        let node = NodeId::from_index(usize::from(word & 63)).ok_or(Malformed::Field("node of a ruling"))?;
        let ascends = first.last().is_none_or(|(last, _)| *last < bucket);
        if !ascends || !(from..to).contains(&bucket.get()) {
            return Err(Malformed::Field("order of rulings"));
        }
        first.push((bucket, node));
    }
    Ok(Rulings { from, to, first })
}

/// Takes numbers from the front of bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.take().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_le_bytes)
    }

    fn weight(&mut self) -> Result<Weight, Malformed> {
        Weight::new(self.u16()?).ok_or(Malformed::Field("weight"))
    }

    fn buckets(&mut self) -> Result<BucketSet, Malformed> {
        let mut words = [0; BUCKETS / 64];
        for word in &mut words {
            *word = self.u64()?;
        }
        Ok(BucketSet::from_words(words))
    }
}

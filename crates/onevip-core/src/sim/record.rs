//! What engines said, as one number: two builds that decide alike have the same digest of the same life.
//!
//! Everything that leaves an engine goes in, in order: each output with its time, the next timeout, datagrams, and now
//! and then what people see. The digest depends on values and on the order of fields and variants, but on no name. It
//! is made for machines whose numbers are little-endian. `tests/recorded/main.rs` says how to record anew.

use crate::membership::Engine;
use crate::time::Time;
use sha2::{Digest as _, Sha256};
use std::hash::{Hash, Hasher};

/// SHA-256 of everything that was recorded.
pub type Digest = [u8; 32];

/// Takes in what engines say.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Sha256);

impl Recorder {
    /// Something that was said at `now`, of or by the node with this index.
    pub fn note(&mut self, now: u64, node: usize, what: &impl Hash) {
        let mut feed = Feed(&mut self.0);
        (now, node).hash(&mut feed);
        what.hash(&mut feed);
    }

    /// Everything that can be asked of an engine without changing it.
    pub fn look(&mut self, now: u64, node: usize, engine: &Engine, local: Time) {
        self.note(now, node, &engine.status(local));
        self.note(now, node, &engine.peer_check_view());
        self.note(now, node, &(engine.claims(), engine.intents(), engine.elsewhere(), engine.testimony()));
        self.note(now, node, &(engine.deaf_to(), engine.lease_until(), engine.seq(), engine.incarnation()));
        self.note(now, node, &engine.doubts_reception(local));
    }

    /// The digest of what was taken in so far.
    pub fn digest(&self) -> Digest {
        self.0.clone().finalize().into()
    }
}

/// Lets values be hashed by SHA-256.
struct Feed<'a>(&'a mut Sha256);

impl Hasher for Feed<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("the digest is taken from the recorder")
    }
}

/// One digest for the lives of all these seeds, in this order.
pub fn block(seeds: impl Iterator<Item = u64>, live: impl Fn(u64) -> Digest) -> Digest {
    let mut all = Sha256::new();
    seeds.for_each(|seed| all.update(live(seed)));
    all.finalize().into()
}

/// A digest as people compare it: its first eight bytes, in hexadecimal.
pub fn short(digest: &Digest) -> String {
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

//! The nouns everything else is made of: nodes, buckets, and sets of either.
//!
//! They are newtypes so that a node number cannot be mistaken for a bucket. Sets are fixed bitmaps: they never
//! allocate, compare in a few instructions, and travel in beats as they are.

use std::fmt;

/// How many slices the hash space has. A packet's source selects exactly one.
///
/// 1024 keeps a bitmap of all buckets at 128 bytes, so three of them fit into one beat, and still divides evenly
/// enough among 64 nodes (16 each).
pub const BUCKETS: usize = 1024;

/// The largest node number, and so the largest cluster.
pub const NODES_MAX: usize = 64;

/// The number of a node, 1 to [`NODES_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u8);

impl NodeId {
    /// The node with this number, or `None` outside 1..=64.
    pub const fn new(number: u8) -> Option<Self> {
        if number >= 1 && number as usize <= NODES_MAX { Some(Self(number)) } else { None }
    }

    /// The number, 1 to 64.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The number counted from 0, to index arrays of [`NODES_MAX`] entries.
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// The node at this index (0 to 63) of such an array.
    pub const fn from_index(index: usize) -> Option<Self> {
        if index < NODES_MAX { Some(Self(index as u8 + 1)) } else { None }
    }

    /// All possible node numbers, ascending.
    pub fn all() -> impl DoubleEndedIterator<Item = NodeId> {
        (1..=NODES_MAX as u8).map(NodeId)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// One of the [`BUCKETS`] slices of the hash space, 0 to 1023.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u16);

impl Bucket {
    /// The bucket with this number, or `None` above 1023.
    pub const fn new(number: u16) -> Option<Self> {
        if (number as usize) < BUCKETS { Some(Self(number)) } else { None }
    }

    /// The number, 0 to 1023.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The number, to index arrays of [`BUCKETS`] entries.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All buckets, ascending.
    pub fn all() -> impl DoubleEndedIterator<Item = Bucket> {
        (0..BUCKETS as u16).map(Bucket)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0)
    }
}

/// A set of buckets, as a bitmap of 128 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BucketSet([u64; BUCKETS / 64]);

impl BucketSet {
    /// No bucket.
    pub const EMPTY: Self = Self([0; BUCKETS / 64]);
    /// Every bucket.
    pub const FULL: Self = Self([u64::MAX; BUCKETS / 64]);

    /// The set made of these words; bucket `b` is bit `b % 64` of word `b / 64`.
    pub const fn from_words(words: [u64; BUCKETS / 64]) -> Self {
        Self(words)
    }

    /// The bitmap; bucket `b` is bit `b % 64` of word `b / 64`.
    pub const fn words(&self) -> &[u64; BUCKETS / 64] {
        &self.0
    }

    /// Whether `bucket` is in the set.
    pub const fn contains(&self, bucket: Bucket) -> bool {
        self.0[bucket.index() / 64] >> (bucket.index() % 64) & 1 == 1
    }

    /// Adds `bucket`; true when it was not there before.
    pub fn insert(&mut self, bucket: Bucket) -> bool {
        let new = !self.contains(bucket);
        self.0[bucket.index() / 64] |= 1 << (bucket.index() % 64);
        new
    }

    /// Takes `bucket` out; true when it was there.
    pub fn remove(&mut self, bucket: Bucket) -> bool {
        let old = self.contains(bucket);
        self.0[bucket.index() / 64] &= !(1 << (bucket.index() % 64));
        old
    }

    /// How many buckets are in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no bucket is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// The buckets in both sets.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// The buckets in either set.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// The buckets of this set that are not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    /// The members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.0
            .iter()
            .enumerate()
            .flat_map(|(i, &word)| bits(word).map(move |bit| Bucket((i * 64) as u16 + bit as u16)))
    }
}

impl Default for BucketSet {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl FromIterator<Bucket> for BucketSet {
    fn from_iter<I: IntoIterator<Item = Bucket>>(buckets: I) -> Self {
        let mut set = Self::EMPTY;
        for bucket in buckets {
            set.insert(bucket);
        }
        set
    }
}

impl fmt::Debug for BucketSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} buckets ", self.len())?;
        f.debug_set().entries(self.iter().take(8)).finish()
    }
}

/// A set of nodes, as a bitmap of one word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NodeSet(u64);

impl NodeSet {
    /// No node.
    pub const EMPTY: Self = Self(0);

    /// The set made of this word; node `n` is bit `n - 1`.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The bitmap; node `n` is bit `n - 1`.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// Whether `node` is in the set.
    pub const fn contains(self, node: NodeId) -> bool {
        self.0 >> node.index() & 1 == 1
    }

    /// Adds `node`; true when it was not there before.
    pub fn insert(&mut self, node: NodeId) -> bool {
        let new = !self.contains(node);
        self.0 |= 1 << node.index();
        new
    }

    /// Takes `node` out; true when it was there.
    pub fn remove(&mut self, node: NodeId) -> bool {
        let old = self.contains(node);
        self.0 &= !(1 << node.index());
        old
    }

    /// The set with `node` added.
    #[must_use]
    pub const fn with(self, node: NodeId) -> Self {
        Self(self.0 | 1 << node.index())
    }

    /// The set without `node`.
    #[must_use]
    pub const fn without(self, node: NodeId) -> Self {
        Self(self.0 & !(1 << node.index()))
    }

    /// The nodes in either set.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The nodes in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The nodes of this set that are not in `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// How many nodes are in the set.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether no node is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members, ascending.
    pub fn iter(self) -> impl Iterator<Item = NodeId> {
        bits(self.0).map(|bit| NodeId(bit as u8 + 1))
    }
}

impl FromIterator<NodeId> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        nodes.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The positions of the set bits of `word`, ascending.
fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let bit = word.trailing_zeros();
        word &= word - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_numbers_start_at_one_and_end_at_sixty_four() {
        assert_eq!(NodeId::new(0), None);
        assert_eq!(NodeId::new(65), None);
        assert_eq!(NodeId::new(64).map(NodeId::index), Some(63));
        assert_eq!(NodeId::all().count(), NODES_MAX);
        assert_eq!(NodeId::from_index(63), NodeId::new(64));
        assert_eq!(NodeId::from_index(64), None);
    }

    #[test]
    fn a_bucket_set_is_a_set() {
        let three: BucketSet = [0, 64, 1023].into_iter().filter_map(Bucket::new).collect();
        assert_eq!(three.len(), 3);
        assert_eq!(three.iter().map(Bucket::get).collect::<Vec<_>>(), [0, 64, 1023]);
        assert_eq!(BucketSet::FULL.minus(&three).len(), BUCKETS - 3);
        assert_eq!(BucketSet::FULL.minus(&three).and(&three), BucketSet::EMPTY);
        assert_eq!(BucketSet::FULL.minus(&three).or(&three), BucketSet::FULL);
        let mut two = three;
        assert!(two.remove(Bucket::new(64).unwrap()));
        assert!(!two.remove(Bucket::new(64).unwrap()));
        assert!(two.insert(Bucket::new(64).unwrap()));
        assert_eq!(two, three);
    }

    #[test]
    fn a_node_set_is_a_set() {
        let (one, last) = (NodeId::new(1).unwrap(), NodeId::new(64).unwrap());
        let both: NodeSet = [last, one].into_iter().collect();
        assert_eq!(both.iter().collect::<Vec<_>>(), [one, last]);
        assert_eq!(both.without(one), NodeSet::EMPTY.with(last));
        assert_eq!(both.minus(NodeSet::EMPTY.with(last)), NodeSet::EMPTY.with(one));
    }
}

//! How a beat is written.

/// How many rulings fit into a beat that reports on `peers` nodes.
pub const fn rulings_room(peers: usize) -> usize {
    (1400 - 500 - peers * 13) / 2
}

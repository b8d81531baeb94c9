//! Nothing: this crate is its tests, in `tests/tidy`, so that building onevip builds nothing of it.

//! `onevip-lab bench KIND`: figures, and the page that is made of them.
//!
//! One module a kind. [`failover`] tells what users notice of faults and of planned changes, and has a report of its
//! own. All others fill [`results::BenchResults`]: samples of contestants that took turns in one run ([`rounds`]), of which
//! [`stats`] makes medians, spreads and ratios. [`page`] writes `docs/benchmarks.md` from the raw results that are kept
//! under `bench/results`; no figure gets onto it in another way.

pub mod access;
pub mod balance;
pub mod build;
pub mod connect;
pub mod failover;
pub mod health;
pub mod load;
pub mod page;
pub mod peers;
pub mod program;
pub mod reject;
pub mod resident;
pub mod results;
pub mod rolling;
pub mod rounds;
pub mod scale;
pub mod stats;
pub mod throughput;
pub mod total;

pub use resident::resident_kb;

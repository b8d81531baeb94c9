//! The decisions of onevip, and nothing else.
//!
//! This crate never sees a socket, a clock or a random number: time and packets are arguments, decisions are return
//! values. That is why it can be simulated, model-checked and fuzzed. The daemon (`onevip`) does the I/O around it;
//! the kernel part (`onevip-bpf`) is tested against the reference verdict kept here.
#![forbid(unsafe_code)]

pub mod bans;
pub mod beat;
pub mod checksum;
pub mod hash;
pub mod ids;
pub mod limit;
mod mac;
pub mod membership;
pub mod packet;
pub mod peer_check;
pub mod prefix;
pub mod rpc;
mod seal;
pub mod selector;
#[cfg(feature = "sim")]
pub mod sim;
pub mod slice;
pub mod table;
pub mod time;
pub mod verdict;
pub mod words;

pub use hash::{AddressOrder, HashMode, Hasher};
pub use ids::{BUCKETS, Bucket, BucketSet, NODES_MAX, NodeId, NodeSet};
pub use mac::{MacAddr, NotAMac};
pub use packet::{Flow, Packet, VipView};
pub use prefix::Prefix;
pub use selector::{Answerer, Exception, Instead, Other, Ports, Selector, Service, Transport};
pub use slice::Slice;
pub use table::{Clocks, Layout, Mapping, Reserve, Table, Weight};
pub use time::Time;
pub use verdict::{Action, Flags, NodeView, Reason, Socket, judge, judge_frame};

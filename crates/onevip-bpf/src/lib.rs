//! The kernel part of onevip, and the daemon's grip on it.
//!
//! `bpf/` holds three small programs in C: the authority at tc ingress, the guard at tc egress, and an early dropper
//! for XDP. This crate compiles them, loads them, shares maps with them, attaches them to interfaces and pins them, so
//! that sessions survive a daemon that crashes, restarts or is upgraded. What a packet's verdict *should* be is said by
//! `onevip_core::judge`; a test here holds the programs against it.
//!
//! The daemon's way: [`ensure_bpffs`], [`Kernel::open`], [`Kernel::set_config`], flags, [`Kernel::attach`]; then the
//! lease, flags and beats for as long as it lives, and [`Kernel::ensure_attached`] now and then. `onevip teardown` ends
//! it all with [`Kernel::detach_and_unpin`] and [`unmount_bpffs`].

mod attach;
mod bans;
mod beats;
mod chain;
mod config;
mod counters;
#[doc(hidden)]
mod encoding;
mod error;
mod explain;
mod features;
mod first;
mod flows;
mod kernel;
pub mod layout;
mod mapped;
mod maps;
mod netlink;
mod object;
mod pins;
mod ports;
mod refusals;
mod sources;
mod sys;
mod trace;
mod words;

pub use attach::{Accelerate, AttachMode, AttachPreference, Cause, Repair, TcMode};
pub use bans::Bans;
pub use beats::{Beat, Beats};
pub use chain::{Neighbour, before_ours};
pub use config::{KernelConfig, VipConfig};
pub use counters::{Counters, counter_read};
pub use error::{Error, Result};
pub use explain::Explainer;
pub use features::{Feature, KernelFeatures};
pub use flows::Flows;
pub use kernel::{Kernel, Origin, PinnedView, boot_time_ns};
pub use layout::VIPS_MAX;
pub use maps::LEASE_MAX;
pub use pins::{ensure_bpffs, is_bpffs, unmount_bpffs};
pub use ports::{guard_ports, release_ports};
pub use refusals::{Refusals, Refused};
pub use sources::{Counted, Sources};
pub use sys::{TestRun, load_empty, test_run};
pub use trace::{Scope, Trace, TracedBy, Tracer};
pub use words::Words;

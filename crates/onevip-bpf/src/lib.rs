//! The kernel part of onevip, and the daemon's handle on it.
//!
//! `bpf/` holds three small programs in C: the authority at tc ingress, the guard at tc egress, and an early dropper
//! for XDP. This crate compiles them, loads them, shares maps with them, attaches them to interfaces and pins them, so
//! that sessions survive a daemon that crashes, restarts or is upgraded. What a packet's verdict *should* be is said by
//! onevip-core; a test here holds the programs against it.
//!
//! Three rooms, each of which needs only those before it: `sys/` speaks to the kernel in its own words, `maps/` knows
//! what is in the maps, and `load/` brings programs into the kernel and keeps them there.
//!
//! The order in which the daemon calls: [`ensure_bpffs`], [`Kernel::open`], [`Kernel::set_config`], flags,
//! [`Kernel::attach`]. Then, for as long as it lives, the lease, flags and beats, and [`Kernel::ensure_attached`] now
//! and then. `onevip teardown` ends it all with [`Kernel::detach_and_unpin`] and [`unmount_bpffs`].

mod clock;
mod config;
mod error;
mod load;
mod maps;
mod neighbour;
mod sys;

pub use clock::boot_time_ns;
pub use config::{KernelConfig, VipConfig};
pub use error::{Error, Result};
pub use load::chain::before_ours;
pub use load::explain::Explainer;
pub use load::features::{Feature, KernelFeatures};
pub use load::kernel::{Kernel, OpenOutcome};
pub use load::mode::{Accelerate, AttachMode, AttachPreference, NoSuchAccelerate, TcMode};
pub use load::pins::{ensure_bpffs, is_bpffs, unmount_bpffs};
pub use load::ports::{guard_ports, release_ports};
pub use load::repair::{AttachRepair, Cause};
pub use load::view::PinnedView;
pub use maps::bans::Bans;
pub use maps::beats::{BeatDatagram, Beats};
pub use maps::counters::{Counters, counter_read};
pub use maps::effects::{ClientKind, EffectCounters, EffectCounts, Effects};
pub use maps::flows::Flows;
pub use maps::layout;
pub use maps::layout::VIPS_MAX;
pub use maps::refusals::{Refusals, Refused};
pub use maps::set::LEASE_MAX;
pub use maps::sources::{Counted, Sources};
pub use maps::trace::{Trace, TraceFilter, TracedBy, Tracer};
pub use maps::words::Words;
pub use neighbour::Neighbour;
pub use sys::{TestRun, load_empty, test_run};

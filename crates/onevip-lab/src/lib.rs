//! A onevip cluster in a box: network namespaces on one bridge, a real `sshd` and the real daemon on every node, and
//! clients with dozens of addresses. For the demo, for end-to-end tests, and for benchmarks.
//!
//! Everything lives in namespaces without a route out and below `/run/onevip-lab/NAME`; the machine's own interfaces
//! are never touched. A test reads as a story:
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use onevip_lab::{Lab, Options};
//!
//! let lab = Lab::up(Options::new("story").nodes(2))?; // taken down when dropped
//! let landed = lab.ssh(None, "hostname")?;
//! assert_eq!(landed.stdout, b"unix1\n");
//! # Ok(())
//! # }
//! ```
//!
//! What lives where: [`plan`] names and addresses, [`net`] wires, [`netns`] entering a host, [`cgroup`] stopping one.
//! [`ssh`], [`daemon`] and [`service`] are what runs there, [`ssh_session`] is a user. [`lab`] is the whole and its nodes,
//! [`cleanup`] the end of it. [`fault`] and [`switch`] are what goes wrong on purpose, [`stressor`] what takes too much.
//! [`wire`] is what is seen on the network, [`dial`] connects to it. [`load`] has clients at work, [`testbed`] a lab
//! together with them. [`kind`] has hosts as people have them, [`matrix`] the same stories for each. [`demo`] is the story, [`mod@bench`] the figures.

pub mod bench;
pub mod cgroup;
pub mod cleanup;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod dial;
pub mod fault;
mod inject;
pub mod kind;
pub mod lab;
pub mod lease_slack;
pub mod load;
pub mod matrix;
pub mod neighbour;
pub mod net;
pub mod netns;
pub mod plan;
pub mod process;
pub mod random;
pub mod service;
pub mod ssh;
pub mod ssh_session;
pub mod status;
pub mod stressor;
pub mod switch;
pub mod testbed;
pub mod wire;

pub use fault::LabFault;
pub use lab::{Lab, LabNode, Options};
pub use plan::{Host, Name};
pub use process::wait_until;
pub use ssh_session::SshSession;

//! Clients at work: what says, to the millisecond, whether a cluster serves its users while something happens to it.
//!
//! Three kinds of clients, because no one of them sees everything. [`syn_prober`] probes from every address fifty times
//! a second and sees each single frame, so two answers to one SYN do not escape it. [`connections`] makes whole
//! connections with the kernel's own TCP, retransmissions included. [`sessions`] keeps connections open and data
//! flowing. All of them speak with [`echo`](crate::service::echo), a service of the lab that every node runs beside
//! `sshd`. So neither `MaxStartups` nor key exchange is what is measured.
//!
//! With real `ssh`, [`interactive`] users are what sessions are there, and [`banner_clients`] what connections are;
//! [`ssh_load`] is as many sessions as the machine carries. [`background`] is what arrives besides users,
//! [`short_sessions`] begin and end all the time, [`attempts`] tell whether somebody lets anybody in.
//!
//! Used by the benchmarks and by tests; what a figure means is decided there.

pub mod attempts;
pub mod background;
pub mod banner_clients;
pub mod connections;
pub mod interactive;
pub mod segment;
pub mod sessions;
pub mod short_sessions;
pub mod ssh_load;
pub mod syn_prober;

pub use background::BackgroundTraffic;
pub use banner_clients::{BannerAttempt, BannerClients};
pub use connections::{TcpConnection, TcpConnector};
pub use interactive::InteractiveUser;
pub use sessions::{SessionLog, Sessions};
pub use ssh_load::SshLoad;
pub use syn_prober::{ProbeOutcome, SynProbe, SynProber};

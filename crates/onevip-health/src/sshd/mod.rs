//! Whether `sshd` answers connections, with as few questions as can be, and without lines in its log.
//!
//! [`socket_snapshot`] looks at the sockets of the service port: real connections tell most. [`queue`] knows whether those who wait
//! to be accepted are. [`probe`] asks, where that says nothing. [`check`] decides which of them when, and what the answers
//! mean; it has neither socket nor clock. [`watcher`] joins them, and [`families`] the watchers of
//! IPv4 and IPv6.
//!
//! The questions are two. A *probe* is a connection that is reset before `sshd` accepts it: it proves that the accept
//! queue drains, and OpenSSH says nothing about it, not even at `LogLevel VERBOSE` (its child finds that the peer is gone
//! and ends). A *call* waits for the banner and costs one line in the log, `Connection closed by … [preauth]`: with every
//! other way of ending there are one or two as well (measured with 9.2; docs/health.md). So a call is made in doubt only,
//! while `sshd` is ill, and once in `banner_every`.

pub mod check;
pub mod families;
pub mod probe;
pub mod queue;
pub mod socket_snapshot;
pub mod watcher;

//! The control socket: how commands of this host reach the daemon.
//!
//! One line of JSON each way. A command is a type with the [`Request`](protocol::Request) trait; whoever can carry it out
//! hands a [`Handler`](server::Handler) to the [`server`]; whoever asks for it uses the [`client`].

pub mod client;
pub mod protocol;
pub mod reload;
pub mod server;

//! The reference verdict: how frames are read, and what a node does with them. The same rows of the table run through
//! the real programs in `onevip-bpf`.
#![allow(clippy::unwrap_used)] // A test may panic, its helpers included.

mod frames;
mod table;

use onevip_core::packet::Place;
use onevip_core::{Bucket, Flags, Flow, NodeView, Socket};
use std::net::{IpAddr, Ipv4Addr};

/// What a node knows.
struct Node {
    flags: Flags,
    lease: bool,
    recent: bool,
    waited: bool,
    socket: Option<Socket>,
}

impl NodeView for Node {
    fn flags(&self, _: usize, _: Bucket) -> Flags {
        self.flags
    }
    fn lease_live(&self) -> bool {
        self.lease
    }
    fn syn_recently(&self, _: usize, _: Bucket) -> bool {
        self.recent
    }
    fn socket(&self, _: &Flow) -> Socket {
        self.socket.expect("this row must not cost a socket lookup")
    }
    fn udp_socket(&self, _: &Flow) -> bool {
        self.socket.expect("this row must not cost a socket lookup") == Socket::Connected
    }
    fn orphan_waited(&self, _: usize, _: &Flow) -> bool {
        self.waited
    }
    fn banned(&self, _: IpAddr, _: bool) -> bool {
        false
    }
    fn limited(&self, _: usize, _: usize, _: IpAddr) -> bool {
        false
    }
}

fn place() -> Place {
    Place::new(0, Bucket::new(7).unwrap())
}

fn flow() -> Flow {
    let ip = |last| IpAddr::V4(Ipv4Addr::new(198, 51, 100, last));
    Flow { remote: ip(100), remote_port: 40000, local: ip(10), local_port: 22 }
}

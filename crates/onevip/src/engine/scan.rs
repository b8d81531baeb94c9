//! Which buckets of a VIP have sockets on this host: what the kernel's socket tables say of it.

use crate::base::command::LocalSessions;
use crate::base::plan::{Plan, VipPlan};
use onevip_core::{Ports, Selector, Transport};
use onevip_host::sockets::{self, Bound, Connection};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How to tell the sockets of one VIP, and what was found.
pub struct Scanned {
    addresses: Vec<IpAddr>,
    selector: Selector,
    /// Established connections found by the newest scan.
    pub sessions: Arc<AtomicUsize>,
}

impl Scanned {
    /// One entry for each VIP of the plan.
    pub fn of(plan: &Plan) -> Vec<Self> {
        let entry = |vip: &VipPlan| Self {
            addresses: vip.vip.addresses.clone(),
            selector: vip.vip.selector_of(plan.node.id),
            sessions: Arc::default(),
        };
        plan.vips.iter().map(entry).collect()
    }

    /// Whether sessions of it may live on UDP sockets.
    pub fn is_sliced(&self) -> bool {
        self.selector.is_sliced()
    }

    /// The buckets in which there are sockets; counts the sessions on the way, with those that live on UDP sockets.
    pub fn find(&self, connections: &[Connection], bound: &[Bound]) -> LocalSessions {
        // What begins and ends on this host needs no bucket: its packets never meet the kernel part.
        let ours = connections
            .iter()
            .filter(|c| self.addresses.contains(&c.flow.local) && c.flow.remote != c.flow.local);
        let mut found = LocalSessions::default();
        let mut sessions = sockets::by_socket(bound, &self.addresses, &self.selector).count();
        for connection in ours {
            let flow = connection.flow;
            let ports = Ports { transport: Transport::Tcp, source: flow.remote_port, dest: flow.local_port };
            let bucket = self.selector.bucket(flow.remote, Some(ports));
            found.sockets.insert(bucket);
            if connection.phase != sockets::TcpPhase::TimeWait {
                found.living.insert(bucket);
            }
            sessions += usize::from(connection.phase == sockets::TcpPhase::Session);
        }
        self.sessions.store(sessions, Ordering::Relaxed);
        found
    }
}

//! What threads of the daemon tell each other: orders to the beat loop and the neighbour probe, and notices for people.

use onevip_core::beat::{Facts, Health, Incarnation, Sealer};
use onevip_core::membership::{EngineConfig, EngineStatus, Event, PeerCheckView};
use onevip_core::{BucketSet, NodeId, NodeSet, Time};
use onevip_host::frames::Route;
use onevip_host::link_activity::LinkActivity;
use onevip_host::netlink::Link;
use std::net::IpAddr;
use std::sync::mpsc;

/// What the rest of the daemon tells the beat loop.
pub enum Command {
    /// A scan that began at `as_of` found these sockets of a VIP.
    Scanned {
        /// Index of the VIP.
        vip: usize,
        /// Where there are sockets.
        sessions: Box<LocalSessions>,
        /// When the scan began.
        as_of: Time,
        /// What to tell the other nodes about this one.
        facts: Facts,
    },
    /// The question for this node's kernel, which the engine of a VIP had, has left.
    KernelAsked {
        /// Index of the VIP.
        vip: usize,
        /// Which node.
        node: NodeId,
    },
    /// The kernel of this node answered a question for its own address.
    KernelAnswered(NodeId),
    /// The kernel of this node said something to others, or to all.
    KernelSpoke(NodeId),
    /// These nodes have other addresses from now on.
    AddressesChanged(NodeSet),
    /// This silent node is gone, somebody says. The answer goes there: at how many VIPs that was new.
    Forget(NodeId, mpsc::Sender<usize>),
    /// Others know a later life of this node: begin anew with this incarnation, which was stored.
    BeginAnew(Incarnation),
    /// How the node feels.
    Feel {
        /// What it announces.
        health: Health,
        /// How much of its weight it announces, in percent.
        percent: u8,
    },
    /// Claim nothing more, hand over what is claimed, hold what is held: at the VIP of this index, or at all.
    Drain(Option<usize>),
    /// The end of a drain, at the VIP of this index, or at all.
    Undrain(Option<usize>),
    /// Move now what is planned to move, busy buckets included.
    Rebalance,
    /// A new configuration of the engine of a VIP, and new keys.
    Reconfigure {
        /// Index of the VIP.
        vip: usize,
        /// The engine's configuration.
        config: Box<EngineConfig>,
        /// What the VIP's beats are sealed with.
        sealer: Box<Sealer>,
    },
    /// The interface of a VIP is another one, or has another MAC or address.
    Routes {
        /// Index of the VIP.
        vip: usize,
        /// Where its beats go from now on.
        routes: Vec<Route>,
        /// What listens on the interface.
        activity: Box<LinkActivity>,
    },
    /// Look at the connections in exactly these buckets.
    Sample {
        /// Index of the VIP.
        vip: usize,
        /// Which.
        buckets: Box<BucketSet>,
    },
    /// About whom this node has a say, and who of those does not serve.
    Testify {
        /// Index of the VIP.
        vip: usize,
        /// About whom.
        able: NodeSet,
        /// Against whom.
        suspects: NodeSet,
    },
    /// Say what the peer check has to know, by index of the VIP.
    View(mpsc::Sender<Vec<(usize, PeerCheckView)>>),
    /// Say how things stand.
    Report(mpsc::Sender<Vec<VipReport>>),
    /// Hand over and stop.
    Leave,
}

/// How a VIP stands in the eyes of the beat loop.
pub struct VipReport {
    /// The membership; `None` where it is static.
    pub membership: Option<EngineStatus>,
    /// Beats that were received and rejected, by reason, since the loop began.
    pub rejected: Vec<(&'static str, u64)>,
    /// Beats that were received and believed, second copies included.
    pub received: u64,
    /// Beats that were sent.
    pub sent: u64,
}

/// What the beat loop tells the rest of the daemon.
pub enum Notice {
    /// Something happened that people may want to know.
    Event {
        /// Index of the VIP.
        vip: usize,
        /// What.
        event: Event,
    },
    /// Beats of this VIP cannot be sent, for the first time since they could.
    CannotSend {
        /// Index of the VIP.
        vip: usize,
        /// Why.
        error: std::io::Error,
    },
    /// A kernel answered for this address, for the first time in this daemon's life.
    Answers {
        /// On which interface.
        interface: String,
        /// Which address.
        address: IpAddr,
    },
    /// A check found something else than before. From the health threads, by the same way.
    Health(onevip_health::results::HealthChange),
    /// This node found that another one does not serve its clients, or does again. From the thread that watches.
    PeerCheck {
        /// Index of the VIP.
        vip: usize,
        /// Which node.
        node: NodeId,
        /// In words.
        text: String,
        /// Whether that is good.
        good: bool,
    },
    /// Everything was handed over; the loop has ended.
    Left,
}

/// What the neighbour probe is asked to do.
pub enum ProbeRequest {
    /// Ask for this node.
    Ask {
        /// Index of the VIP whose engine wants to know.
        vip: usize,
        /// Which node.
        node: NodeId,
        /// When it wanted to know.
        since: Time,
    },
    /// Ask hosts that are not nodes, so that something arrives if anything can.
    Hosts,
    /// These are the other nodes from now on, once for each of their addresses.
    Nodes(Vec<(NodeId, IpAddr)>),
    /// From now on ask on these interfaces, in the names of these addresses.
    Interfaces(Vec<(Link, Vec<IpAddr>)>),
    /// End.
    Stop,
}

/// What a scan found of one VIP, by bucket.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalSessions {
    /// Where there is any socket: its packets must reach it, those of TIME_WAIT included.
    pub sockets: BucketSet,
    /// Where something lives that a user would miss. TIME_WAIT does not count: it keeps no bucket from moving.
    pub living: BucketSet,
}

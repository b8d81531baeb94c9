//! The reference verdict: what a node does with a packet, as a pure function of what it knows.
//!
//! One arm per row of the verdict table in `docs/kernel.md`. The kernel part makes the same decision in C;
//! the differential test in `onevip-bpf` holds the two against each other, reason by reason. What the node knows is
//! asked for through [`NodeView`], so that the cost of an answer (a socket lookup, a look at the clock) is paid only
//! where the decision rests on it.

use crate::ids::Bucket;
use crate::packet::{Flow, Packet, Place, Plain, VipView};
use std::fmt;
use std::net::IpAddr;

/// The state of a bucket on this node: one word, written by the daemon alone, read once per packet.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Flags(u32);

impl Flags {
    /// Nothing is known of the bucket and nothing claimed.
    pub const NONE: Self = Self(0);
    /// This node claims the bucket: it answers new connections while its lease lives.
    pub const MINE: Self = Self(1);
    /// A scan found sockets of this bucket here.
    pub const GUESTS: Self = Self(2);
    /// Another living kernel may hold flows of this bucket, so no orphan may be reset.
    pub const ELSEWHERE: Self = Self(4);
    /// The bucket's claimer has just fallen silent: what comes now counts as the first try of an orphan, if it becomes
    /// one when somebody else claims the bucket.
    pub const WATCHED: Self = Self(8);
    /// Another node's bucket in which connections are noted, to see whether they are served. It changes no verdict.
    pub const SAMPLED: Self = Self(16);
    /// Every bit that has a meaning; any other bit in a stored word means corruption.
    pub const ALL: Self = Self(31);

    /// The flags in this word, as it is stored.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The word as it is stored.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::MINE, "MINE"),
            (Self::GUESTS, "GUESTS"),
            (Self::ELSEWHERE, "ELSEWHERE"),
            (Self::WATCHED, "WATCHED"),
            (Self::SAMPLED, "SAMPLED"),
        ];
        let set = names.iter().filter(|(flag, _)| self.has(*flag)).map(|(_, name)| *name);
        write!(f, "Flags({})", set.collect::<Vec<_>>().join("|"))
    }
}

/// What this node's kernel knows of a TCP flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Socket {
    /// No socket at all.
    None,
    /// Only a listener; `cookie_valid` when the segment is an ACK that carries a SYN cookie issued here.
    Listener {
        /// The kernel accepts the segment's SYN cookie.
        cookie_valid: bool,
    },
    /// A connection in any state that is neither half open nor TIME_WAIT.
    Connected,
    /// A half-open connection: our SYN-ACK with this sequence number awaits its ACK.
    Request {
        /// Initial sequence number of the SYN-ACK (`snt_isn`).
        sent_isn: u32,
    },
    /// A connection in TIME_WAIT.
    TimeWait,
}

/// What the decision may ask about the node.
pub trait NodeView {
    /// The flags of a bucket. Asked once per packet.
    fn flags(&self, vip: usize, bucket: Bucket) -> Flags;
    /// Whether the lease has not yet run out.
    fn lease_live(&self) -> bool;
    /// Whether a SYN of this bucket passed here within the last [`SYN_MEMORY_SECS`].
    fn syn_recently(&self, vip: usize, bucket: Bucket) -> bool;
    /// What the kernel has for this flow.
    fn socket(&self, flow: &Flow) -> Socket;
    /// Whether a UDP socket here takes what this flow brings.
    fn udp_socket(&self, flow: &Flow) -> bool;
    /// Whether a segment of this flow has come in vain before, long enough ago and under circumstances that still hold.
    fn orphan_waited(&self, vip: usize, flow: &Flow) -> bool;
    /// Whether a source is banned; `session` when it is about a packet that may belong to a session which is here.
    fn banned(&self, source: IpAddr, session: bool) -> bool;
    /// Whether another connection of a source is one too many for this service of a VIP. Asking is an attempt, and counts.
    fn limited(&self, vip: usize, service: usize, source: IpAddr) -> bool;
}

/// How long after a passed SYN its bucket counts as having sessions, in seconds. It bridges the time until a scan has
/// seen the new socket: longer than any handshake (`tcp_synack_retries` = 5 gives up after 63 s).
pub const SYN_MEMORY_SECS: u64 = 120;

/// What happens to a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Goes on to this host's network stack.
    Pass,
    /// Disappears without an answer.
    Drop,
    /// Is handed to the daemon and never reaches the stack.
    ToDaemon,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $action:ident, $label:literal;)+) => {
        /// Why a packet met its verdict; the number is the index of its counter.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u32)]
        pub enum Reason { $($(#[doc = $doc])+ $name = $number,)+ }

        impl Reason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &[Reason] = &[$(Reason::$name),+];

            /// One more than the largest number.
            pub const END: usize = {
                let numbers = [$($number),+];
                numbers[numbers.len() - 1] + 1
            };

            /// The reason of this number.
            pub fn of_number(number: u32) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| *reason as u32 == number)
            }

            /// What happens to a packet for this reason.
            pub const fn action(self) -> Action {
                match self { $(Reason::$name => Action::$action,)+ }
            }

            /// The name in `status`, metrics and logs.
            pub const fn label(self) -> &'static str {
                match self { $(Reason::$name => $label,)+ }
            }

            /// What it means, in a sentence or two.
            pub const fn meaning(self) -> &'static str {
                match self { $(Reason::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

reasons! {
    /// Does not concern a VIP.
    NotOurs = 0, Pass, "not-ours";
    /// Names a VIP, but cannot be read.
    Malformed = 1, Drop, "malformed";
    /// A beat.
    Beat = 2, ToDaemon, "beat";
    /// A beat for which the ring buffer had no room. Only the kernel part can find that.
    BeatLost = 3, Drop, "beat-lost";
    /// ARP request of a claimed bucket: our kernel answers.
    ArpAnswer = 4, Pass, "arp-answer";
    /// ARP request that another node answers.
    ArpForeign = 5, Drop, "arp-foreign";
    /// ARP reply to the VIP: every node may have asked.
    ArpToVip = 6, Pass, "arp-to-vip";
    /// Another node's announcement of the VIP.
    ArpEcho = 7, Drop, "arp-echo";
    /// Somebody outside the cluster announces the VIP.
    ArpStranger = 8, Drop, "arp-stranger";
    /// SYN of a claimed bucket.
    SynOwn = 9, Pass, "syn-own";
    /// SYN that another node answers.
    SynForeign = 10, Drop, "syn-foreign";
    /// SYN of a bucket that would be claimed had the lease not run out.
    SynLapsed = 11, Drop, "syn-lapsed";
    /// Segment of a connection that lives here.
    TcpHeld = 12, Pass, "tcp-held";
    /// Segment of a bucket in which nothing lives here: dropped without a socket lookup.
    TcpForeign = 13, Drop, "tcp-foreign";
    /// Segment of a bucket with local sessions, but of no connection that lives here.
    TcpNotHere = 14, Drop, "tcp-not-here";
    /// The ACK that completes a handshake begun here, or the RST that ends it.
    TcpHalfOpen = 15, Pass, "tcp-half-open";
    /// A half-open socket is here, but the segment acknowledges somebody else's SYN-ACK.
    TcpHalfOpenStale = 16, Drop, "tcp-half-open-stale";
    /// Segment for a TIME_WAIT socket that may answer it.
    TcpTimeWait = 17, Pass, "tcp-time-wait";
    /// Segment for a TIME_WAIT socket of a bucket that another node claims.
    TcpTimeWaitForeign = 18, Drop, "tcp-time-wait-foreign";
    /// ACK that carries a SYN cookie which this kernel issued.
    TcpCookie = 19, Pass, "tcp-cookie";
    /// Segment of a claimed bucket's connection that lives nowhere, and not the first in vain: the stack resets it.
    TcpOrphan = 20, Pass, "tcp-orphan";
    /// Segment of a claimed bucket's connection that may live elsewhere.
    TcpElsewhere = 21, Drop, "tcp-elsewhere";
    /// ICMP error about something that is ours.
    IcmpErrorOwn = 22, Pass, "icmp-error-own";
    /// ICMP error about something that another node sent.
    IcmpErrorForeign = 23, Drop, "icmp-error-foreign";
    /// ICMP of a claimed bucket.
    IcmpOwn = 24, Pass, "icmp-own";
    /// ICMP that another node answers.
    IcmpForeign = 25, Drop, "icmp-foreign";
    /// UDP of a claimed bucket.
    UdpOwn = 26, Pass, "udp-own";
    /// UDP that another node answers.
    UdpForeign = 27, Drop, "udp-foreign";
    /// Later fragment of a claimed bucket, or of one with local sessions.
    FragmentOwn = 28, Pass, "fragment-own";
    /// Later fragment that another node reassembles.
    FragmentForeign = 29, Drop, "fragment-foreign";
    /// Other protocol of a claimed bucket.
    OtherOwn = 30, Pass, "other-own";
    /// Other protocol that another node answers.
    OtherForeign = 31, Drop, "other-foreign";
    /// First segment of a claimed bucket's connection that seems to live nowhere: its kernel may just be coming back
    /// into reach, and would say so before the client tries again.
    TcpOrphanFirst = 32, Drop, "tcp-orphan-first";
    /// Neighbour solicitation of a claimed bucket: our kernel answers.
    NdAnswer = 33, Pass, "nd-answer";
    /// Neighbour solicitation that another node answers.
    NdForeign = 34, Drop, "nd-foreign";
    /// Advertisement or redirect to the VIP: every node may have asked, or use that router.
    NdToVip = 35, Pass, "nd-to-vip";
    /// Another node's announcement of the VIP.
    NdEcho = 36, Drop, "nd-echo";
    /// Somebody outside the cluster announces the VIP.
    NdStranger = 37, Drop, "nd-stranger";
    /// SYN of a claimed bucket to a port that the VIP does not serve.
    SynUnserved = 38, Drop, "syn-unserved";
    /// Segment of a claimed bucket's connection that lives nowhere, to a port that the VIP does not serve.
    TcpUnserved = 39, Drop, "tcp-unserved";
    /// UDP of a claimed bucket to a port that the VIP does not serve.
    UdpUnserved = 40, Drop, "udp-unserved";
    /// Other protocol of a claimed bucket, which the VIP does not serve.
    OtherUnserved = 41, Drop, "other-unserved";
    /// Datagram to a port of this node's slice that has a socket here, from wherever it comes.
    UdpHeld = 42, Pass, "udp-held";
    /// Datagram to a port of this node's slice on which nothing lives.
    UdpNotHere = 43, Drop, "udp-not-here";
    /// Datagram to a port of another node's slice.
    UdpOtherSlice = 44, Drop, "udp-other-slice";
    /// It would have passed, but its source is banned.
    Banned = 45, Drop, "banned";
    /// SYN of a claimed bucket whose source opens connections too often. Only the authority counts them.
    SynLimited = 46, Drop, "syn-limited";
}

impl Reason {
    /// Whether the sender's own packets are what this reason is about, and not the cluster's or the LAN's: bans are for
    /// the former alone.
    pub const fn is_of_sender(self) -> bool {
        !matches!(self, Self::NotOurs | Self::ArpAnswer | Self::ArpToVip | Self::NdAnswer | Self::NdToVip)
    }

    /// Whether it may belong to a session that is here already, which some bans spare.
    pub const fn is_of_session(self) -> bool {
        matches!(
            self,
            Self::TcpHeld | Self::UdpHeld | Self::TcpTimeWait | Self::IcmpErrorOwn | Self::FragmentOwn
        )
    }
}

/// The verdict on a whole frame: that on the packet in it, and on its sender.
pub fn judge_frame(frame: &[u8], vips: &[VipView], facts: &impl NodeView) -> Reason {
    let packet = Packet::parse(frame, vips);
    let reason = judge(&packet, facts);
    if reason.action() != Action::Pass || !reason.is_of_sender() {
        return reason;
    }
    let Some(source) = Packet::source(frame) else { return reason };
    if facts.banned(source, reason.is_of_session()) {
        return Reason::Banned;
    }
    match packet {
        Packet::TcpSyn(Place { vip, limited: Some(service), .. }) if facts.limited(vip, service, source) => {
            Reason::SynLimited
        }
        _ => reason,
    }
}

/// The verdict on `packet` by a node for which `facts` hold.
pub fn judge(packet: &Packet, facts: &impl NodeView) -> Reason {
    let claimed = |at: &Place| claims(facts.flags(at.vip, at.bucket), facts);
    let owner = |at: &Place, own, foreign| if claimed(at) { own } else { foreign };
    let server =
        |at: &Place, own, unserved, foreign| owner(at, if at.served { own } else { unserved }, foreign);
    match packet {
        Packet::NotOurs => Reason::NotOurs,
        Packet::Malformed => Reason::Malformed,
        Packet::Beat { .. } => Reason::Beat,
        Packet::ArpRequest(at) => owner(at, Reason::ArpAnswer, Reason::ArpForeign),
        Packet::ArpReplyToVip => Reason::ArpToVip,
        Packet::ArpEcho => Reason::ArpEcho,
        Packet::ArpStranger => Reason::ArpStranger,
        Packet::NdSolicitation(at) => owner(at, Reason::NdAnswer, Reason::NdForeign),
        Packet::NdToVip => Reason::NdToVip,
        Packet::NdEcho => Reason::NdEcho,
        Packet::NdStranger => Reason::NdStranger,
        Packet::TcpSyn(at) => judge_syn(at, facts),
        Packet::Tcp { place, flow, fin, rst, ack } => {
            judge_segment(facts, *place, flow, Segment { fin: *fin, rst: *rst, ack: *ack })
        }
        Packet::IcmpErrorTcp { flow, .. } => match facts.socket(flow) {
            Socket::Connected | Socket::Request { .. } | Socket::TimeWait => Reason::IcmpErrorOwn,
            Socket::Listener { .. } | Socket::None => Reason::IcmpErrorForeign,
        },
        Packet::IcmpErrorBySocket { flow, own_slice } => match by_socket(facts, flow, *own_slice) {
            Reason::UdpHeld => Reason::IcmpErrorOwn,
            _ => Reason::IcmpErrorForeign,
        },
        Packet::BySocket { flow, own_slice } => by_socket(facts, flow, *own_slice),
        Packet::IcmpErrorOther(at) => owner(at, Reason::IcmpErrorOwn, Reason::IcmpErrorForeign),
        Packet::Fragment(at) => {
            let flags = facts.flags(at.vip, at.bucket);
            let wanted = flags.has(Flags::GUESTS) || claims(flags, facts);
            if wanted { Reason::FragmentOwn } else { Reason::FragmentForeign }
        }
        Packet::Plain(Plain::Udp, at) => server(at, Reason::UdpOwn, Reason::UdpUnserved, Reason::UdpForeign),
        Packet::Plain(Plain::Icmp, at) => owner(at, Reason::IcmpOwn, Reason::IcmpForeign),
        Packet::Plain(Plain::Other, at) => {
            server(at, Reason::OtherOwn, Reason::OtherUnserved, Reason::OtherForeign)
        }
    }
}

/// A lookup finds any wildcard socket, so it is made in this node's own slice alone.
fn by_socket(facts: &impl NodeView, flow: &Flow, own_slice: bool) -> Reason {
    match own_slice {
        false => Reason::UdpOtherSlice,
        true if facts.udp_socket(flow) => Reason::UdpHeld,
        true => Reason::UdpNotHere,
    }
}

fn claims(flags: Flags, facts: &impl NodeView) -> bool {
    flags.has(Flags::MINE) && facts.lease_live()
}

fn judge_syn(at: &Place, facts: &impl NodeView) -> Reason {
    let flags = facts.flags(at.vip, at.bucket);
    match (flags.has(Flags::MINE), claims(flags, facts)) {
        (_, true) if at.served => Reason::SynOwn,
        (_, true) => Reason::SynUnserved,
        (true, false) => Reason::SynLapsed,
        (false, false) => Reason::SynForeign,
    }
}

struct Segment {
    fin: bool,
    rst: bool,
    ack: Option<u32>,
}

/// A segment that opens nothing. MINE sends it to the socket lookup even when the lease has run out: the daemon of a
/// hung node cannot mark its buckets any more, and its sessions must live on.
fn judge_segment(facts: &impl NodeView, at: Place, flow: &Flow, segment: Segment) -> Reason {
    let flags = facts.flags(at.vip, at.bucket);
    let looked_up = [Flags::MINE, Flags::GUESTS, Flags::WATCHED].iter().any(|flag| flags.has(*flag));
    if !looked_up && !facts.syn_recently(at.vip, at.bucket) {
        return Reason::TcpForeign;
    }
    match facts.socket(flow) {
        Socket::Connected => Reason::TcpHeld,
        // A reset cannot provoke an answer, and a stale half-open socket is better gone.
        Socket::Request { sent_isn } if segment.rst || segment.ack == Some(sent_isn.wrapping_add(1)) => {
            Reason::TcpHalfOpen
        }
        Socket::Request { .. } => Reason::TcpHalfOpenStale,
        Socket::TimeWait if segment.fin || claims(flags, facts) => Reason::TcpTimeWait,
        Socket::TimeWait => Reason::TcpTimeWaitForeign,
        Socket::Listener { cookie_valid: true } => Reason::TcpCookie,
        Socket::Listener { cookie_valid: false } | Socket::None => {
            match (claims(flags, facts), flags.has(Flags::ELSEWHERE)) {
                (false, _) => Reason::TcpNotHere,
                (true, true) => Reason::TcpElsewhere,
                // A reset would tell that somebody is here.
                (true, false) if !at.served => Reason::TcpUnserved,
                // A reset provokes none, so it is no try.
                (true, false) if !segment.rst && facts.orphan_waited(at.vip, flow) => Reason::TcpOrphan,
                (true, false) => Reason::TcpOrphanFirst,
            }
        }
    }
}

//! The verdict table, row by row: what a node knows, what arrives, what it does, and the sentence that says why.

use crate::{Node, flow, place};
use onevip_core::packet::{Place, Plain};
use onevip_core::verdict::Reason::{self, *};
use onevip_core::{Flags, Packet, Socket, judge};

const NONE: Flags = Flags::NONE;
const MINE: Flags = Flags::MINE;
const GUESTS: Flags = Flags::GUESTS;
const ELSEWHERE: Flags = Flags::ELSEWHERE;

fn segment(fin: bool, rst: bool, ack: Option<u32>) -> Packet {
    Packet::Tcp { place: place(), flow: flow(), fin, rst, ack }
}

/// Why, what comes, to whom, and what becomes of it.
type Row = (&'static str, Packet, Node, Reason);

const HALF_OPEN: Option<Socket> = Some(Socket::Request { sent_isn: 1000 });
const STALE: Option<Socket> = Some(Socket::Request { sent_isn: 7777 });
const NO_SOCKET: Option<Socket> = Some(Socket::None);

fn cookie(cookie_valid: bool) -> Option<Socket> {
    Some(Socket::Listener { cookie_valid })
}

/// A node whose lease lives.
fn live(flags: Flags, socket: Option<Socket>) -> Node {
    Node { flags, lease: true, recent: false, waited: false, socket }
}

/// A node whose lease has run out.
fn lapsed(flags: Flags, socket: Option<Socket>) -> Node {
    Node { lease: false, ..live(flags, socket) }
}

/// A node that has seen a segment of the flow before.
fn again(flags: Flags, socket: Option<Socket>) -> Node {
    Node { waited: true, ..live(flags, socket) }
}

/// A node at which a SYN of the bucket came lately.
fn recent(flags: Flags, socket: Option<Socket>) -> Node {
    Node { recent: true, ..live(flags, socket) }
}

fn data() -> Packet {
    segment(false, false, Some(1001))
}

fn rst() -> Packet {
    segment(false, true, None)
}

/// What has no ports: beats, ARP, neighbour discovery.
fn rows_without_ports() -> Vec<Row> {
    let arp = Packet::ArpRequest(place());
    let nd = Packet::NdSolicitation(place());
    vec![
        ("what is not ours passes untouched", Packet::NotOurs, live(NONE, None), NotOurs),
        ("what names the VIP but cannot be read is dropped", Packet::Malformed, live(MINE, None), Malformed),
        ("a beat goes to the daemon, claimed or not", Packet::Beat { vip: 0 }, live(NONE, None), Beat),
        ("the owner of the asker's bucket answers ARP", arp, live(MINE, None), ArpAnswer),
        ("nobody else does", arp, live(GUESTS, None), ArpForeign),
        ("an owner whose lease ran out does not either", arp, lapsed(MINE, None), ArpForeign),
        ("an ARP reply to the VIP reaches every node", Packet::ArpReplyToVip, live(NONE, None), ArpToVip),
        ("our own announcement is no news", Packet::ArpEcho, live(MINE, None), ArpEcho),
        ("a stranger's claim to the VIP is not believed", Packet::ArpStranger, live(MINE, None), ArpStranger),
        ("the owner of the asker's bucket answers a solicitation", nd, live(MINE, None), NdAnswer),
        ("nobody else does", nd, live(GUESTS.with(ELSEWHERE), None), NdForeign),
        ("an owner whose lease ran out does not either", nd, lapsed(MINE, None), NdForeign),
        ("an advertisement to the VIP reaches every node", Packet::NdToVip, live(NONE, None), NdToVip),
        ("our own advertisement is no news", Packet::NdEcho, live(MINE, None), NdEcho),
        ("a stranger's advertisement is not believed", Packet::NdStranger, live(MINE, None), NdStranger),
    ]
}

/// Segments that open a connection.
fn rows_of_syns() -> Vec<Row> {
    let syn = Packet::TcpSyn(place());
    vec![
        ("a SYN is answered by the node that claims its bucket", syn, live(MINE, None), SynOwn),
        ("also while flows of the bucket live elsewhere", syn, live(MINE.with(ELSEWHERE), None), SynOwn),
        ("a SYN of another's bucket is dropped, sessions or not", syn, live(GUESTS, None), SynForeign),
        ("a claim without a lease is no claim", syn, lapsed(MINE, None), SynLapsed),
    ]
}

/// Segments of connections that are held, here or elsewhere.
fn rows_of_connections() -> Vec<Row> {
    let (data, rst, fin) = (data(), rst(), segment(true, false, Some(1)));
    vec![
        ("a foreign segment costs no lookup", data, live(NONE, None), TcpForeign),
        ("not even when flows live elsewhere", data, live(ELSEWHERE, None), TcpForeign),
        ("a held session goes on in another's bucket", data, live(GUESTS, Some(Socket::Connected)), TcpHeld),
        ("and in our own", data, live(MINE, Some(Socket::Connected)), TcpHeld),
        ("and when the daemon has hung", data, lapsed(MINE, Some(Socket::Connected)), TcpHeld),
        ("and before the first scan saw it", data, recent(NONE, Some(Socket::Connected)), TcpHeld),
        ("the ACK of our SYN-ACK completes the handshake", data, live(GUESTS, HALF_OPEN), TcpHalfOpen),
        (
            "an ACK of another's SYN-ACK does not reach a stale half-open",
            data,
            live(MINE, STALE),
            TcpHalfOpenStale,
        ),
        ("a RST may end a half-open", rst, live(GUESTS, STALE), TcpHalfOpen),
        ("TIME_WAIT of a claimed bucket may answer", data, live(MINE, Some(Socket::TimeWait)), TcpTimeWait),
        (
            "TIME_WAIT of another's bucket keeps silent",
            data,
            live(GUESTS, Some(Socket::TimeWait)),
            TcpTimeWaitForeign,
        ),
        ("except to a FIN", fin, live(GUESTS, Some(Socket::TimeWait)), TcpTimeWait),
        ("a valid cookie is honoured where it was issued", data, live(GUESTS, cookie(true)), TcpCookie),
    ]
}

/// Segments of flows that no kernel here knows.
fn rows_of_orphans() -> Vec<Row> {
    let (data, rst) = (data(), rst());
    vec![
        ("the first segment of an orphan is only remembered", data, live(MINE, NO_SOCKET), TcpOrphanFirst),
        ("when it comes again it is reset", data, again(MINE, NO_SOCKET), TcpOrphan),
        ("also in front of a listener", data, again(MINE, cookie(false)), TcpOrphan),
        ("but its reset is none, and needs no answer", rst, again(MINE, NO_SOCKET), TcpOrphanFirst),
        (
            "however often it comes, not where it may live elsewhere",
            data,
            again(MINE.with(ELSEWHERE), NO_SOCKET),
            TcpElsewhere,
        ),
        ("unless it may live elsewhere", data, live(MINE.with(ELSEWHERE), NO_SOCKET), TcpElsewhere),
        ("an unclaimed flow is never reset", data, live(GUESTS, NO_SOCKET), TcpNotHere),
        (
            "one whose claimer fell silent is looked up, and no more",
            data,
            again(Flags::WATCHED, NO_SOCKET),
            TcpNotHere,
        ),
        ("nor one whose claim lost its lease", data, lapsed(MINE, NO_SOCKET), TcpNotHere),
    ]
}

/// ICMP errors, and ping.
fn rows_of_icmp() -> Vec<Row> {
    let icmp_error = Packet::IcmpErrorTcp { vip: 0, flow: flow() };
    vec![
        ("an ICMP error reaches the holder", icmp_error, live(NONE, Some(Socket::Connected)), IcmpErrorOwn),
        ("and nobody else", icmp_error, live(MINE, NO_SOCKET), IcmpErrorForeign),
        ("a listener holds no flow", icmp_error, live(MINE, cookie(false)), IcmpErrorForeign),
        (
            "other errors go by the quoted client",
            Packet::IcmpErrorOther(place()),
            live(MINE, None),
            IcmpErrorOwn,
        ),
        ("and only there", Packet::IcmpErrorOther(place()), live(NONE, None), IcmpErrorForeign),
        ("ping is answered once", Packet::Plain(Plain::Icmp, place()), live(MINE, None), IcmpOwn),
        ("by the owner", Packet::Plain(Plain::Icmp, place()), live(GUESTS, None), IcmpForeign),
    ]
}

/// Datagrams, other protocols, fragments.
fn rows_of_others() -> Vec<Row> {
    let by_socket = |own_slice| Packet::BySocket { flow: flow(), own_slice };
    let quoted = |own_slice| Packet::IcmpErrorBySocket { flow: flow(), own_slice };
    vec![
        ("a datagram finds its socket", by_socket(true), lapsed(NONE, Some(Socket::Connected)), UdpHeld),
        ("on our port nobody lives", by_socket(true), live(MINE, NO_SOCKET), UdpNotHere),
        ("another's port costs no lookup", by_socket(false), live(MINE, None), UdpOtherSlice),
        ("an error about our datagram", quoted(true), live(NONE, Some(Socket::Connected)), IcmpErrorOwn),
        ("an error about another's", quoted(false), live(MINE, None), IcmpErrorForeign),
        ("UDP goes by bucket", Packet::Plain(Plain::Udp, place()), live(MINE, None), UdpOwn),
        ("and only there", Packet::Plain(Plain::Udp, place()), lapsed(MINE, None), UdpForeign),
        ("so do other protocols", Packet::Plain(Plain::Other, place()), live(MINE, None), OtherOwn),
        ("and only there", Packet::Plain(Plain::Other, place()), live(NONE, None), OtherForeign),
        ("a later fragment follows its bucket", Packet::Fragment(place()), live(MINE, None), FragmentOwn),
        ("or a session it may belong to", Packet::Fragment(place()), live(GUESTS, None), FragmentOwn),
        ("else it is dropped", Packet::Fragment(place()), live(ELSEWHERE, None), FragmentForeign),
    ]
}

/// What no service of the VIP wants.
fn rows_of_what_is_unserved() -> Vec<Row> {
    let idle = Place { served: false, ..place() };
    let unwanted = Packet::Tcp { place: idle, flow: flow(), fin: false, rst: false, ack: Some(1001) };
    vec![
        ("nobody is told that there is no such service", Packet::TcpSyn(idle), live(MINE, None), SynUnserved),
        ("nor by a reset, however often it is asked for", unwanted, again(MINE, NO_SOCKET), TcpUnserved),
        ("nor by an ICMP error", Packet::Plain(Plain::Udp, idle), live(MINE, None), UdpUnserved),
        ("whatever the protocol", Packet::Plain(Plain::Other, idle), live(MINE, None), OtherUnserved),
        ("what lives here was served once", unwanted, live(MINE, Some(Socket::Connected)), TcpHeld),
    ]
}

#[test]
fn every_row_of_the_verdict_table_holds() {
    let parts = [
        rows_without_ports(),
        rows_of_syns(),
        rows_of_connections(),
        rows_of_orphans(),
        rows_of_icmp(),
        rows_of_others(),
        rows_of_what_is_unserved(),
    ];
    let rows: Vec<Row> = parts.into_iter().flatten().collect();
    for (sentence, packet, node, expected) in &rows {
        assert_eq!(judge(packet, node), *expected, "{sentence}");
    }
    let covered: std::collections::BTreeSet<_> = rows.iter().map(|row| row.3).collect();
    let missing: Vec<_> = Reason::ALL.iter().filter(|reason| !covered.contains(reason)).collect();
    // Only the kernel part can lose a beat; bans and limits are asked of whole frames.
    assert_eq!(missing, [&BeatLost, &Banned, &SynLimited]);
}

#[test]
fn reasons_are_numbered_without_gaps_and_named_once() {
    for (index, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, index);
    }
    let names: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
}

//! Bans in the verdict table, a sentence per row, through the real programs and with real sockets.

#![allow(clippy::unwrap_used)]

mod common;

use common::frame::{self, ACK, FIN, SYN};
use common::host::SSH;
use common::table::*;
use common::{BEAT_PORT, VIP, VIP6, isolated, vip_for};
use onevip_bpf::{Accelerate, Kernel, OpenOutcome};
use onevip_core::Prefix;
use onevip_core::Time;
use onevip_core::bans::Stop;
use onevip_core::verdict::Reason::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const LONG: i64 = 600;
const OVER: i64 = -1;

/// The same network in the family of the table's clients.
fn of<'a>(t: &Table<'_>, v4: &'a str, v6: &'a str) -> &'a str {
    if t.ip(HELD).is_ipv4() { v4 } else { v6 }
}

#[test]
fn a_banned_source_gets_nothing() {
    with_tables(|t, _| {
        let network = of(t, "198.51.100.96/27", "2001:db8:0:0:a0::/72");
        let host = t.ip(HELD).to_string();
        let syn = frame::tcp(t.ip(HELD), 41000, SSH, SYN);
        let data = frame::tcp(t.ip(HELD), PORT, SSH, ACK);
        t.ban(&[(network, LONG, LONG)]);
        t.row("a SYN of a banned network is dropped", MINE, &syn, Banned);
        t.row("and so is every segment of its sessions", MINE, &data, Banned);
        t.row("wherever they are", GUESTS, &data, Banned);
        t.row("what others answer is dropped as always, without a look", NONE, &data, TcpForeign);
        t.row("also a SYN", NONE, &syn, SynForeign);
        let ping = if t.ip(HELD).is_ipv4() { (1, 8) } else { (58, 128) };
        let ping = frame::to_vip(t.ip(HELD), ping.0, &frame::icmp(ping.1, 0, b"payload"));
        t.row("no ping is answered", MINE, &ping, Banned);
        let udp = frame::to_vip(t.ip(HELD), 17, &frame::udp_datagram(5000, 53, b"?"));
        t.row("nor a question by UDP", MINE, &udp, Banned);
        let beat = frame::to_vip(t.ip(HELD), 17, &frame::udp_datagram(5000, BEAT_PORT, b"beat"));
        t.row("but a beat is the cluster's own", MINE, &beat, Beat);
        t.row("a priority tag changes nothing", MINE, &frame::tagged(&syn, 0x8100, 0xe000), Banned);
        t.ban(&[(&host, LONG, LONG)]);
        t.row("a single address can be banned", MINE, &syn, Banned);
        let other = frame::tcp(t.ip(STRANGER), 41000, SSH, SYN);
        t.client(t.ip(STRANGER));
        t.row("and its neighbour is not", MINE, &other, SynOwn);
        t.ban(&[]);
        t.client(t.ip(HELD));
        t.row("a ban that was lifted leaves no trace", MINE, &syn, SynOwn);
    });
}

#[test]
fn a_ban_ends_by_itself_and_the_narrowest_counts() {
    with_tables(|t, _| {
        let wide = of(t, "198.51.0.0/16", "2001:db8::/32");
        let host = t.ip(HELD).to_string();
        let syn = frame::tcp(t.ip(HELD), 41000, SSH, SYN);
        t.ban(&[(wide, OVER, OVER)]);
        t.row("what has run out keeps nobody out, though no daemon took it away", MINE, &syn, SynOwn);
        t.ban(&[(wide, LONG, LONG), (&host, OVER, OVER)]);
        t.row("the narrowest is found alone: so the daemon counts the wider one in", MINE, &syn, SynOwn);
        t.ban(&[(of(t, "0.0.0.0/1", "8000::/1"), LONG, LONG)]);
        t.row("half the world is banned, the other half not", MINE, &syn, SynOwn);
    });
}

#[test]
fn a_ban_can_spare_sessions() {
    with_tables(|t, _| {
        let host = [HELD, HALF_OPEN, WAITING].map(|client| t.ip(client).to_string());
        let bans: Vec<(&str, i64, i64)> = host.iter().map(|host| (host.as_str(), OVER, LONG)).collect();
        t.ban(&bans);
        let syn = frame::tcp(t.ip(HELD), 41000, SSH, SYN);
        t.row("it lets nothing new in", MINE, &syn, Banned);
        t.row("but sessions go on", MINE, &frame::tcp(t.ip(HELD), PORT, SSH, ACK), TcpHeld);
        t.client(t.ip(WAITING));
        t.row("and may end", MINE, &frame::tcp(t.ip(WAITING), PORT, SSH, FIN | ACK), TcpTimeWait);
        t.client(t.ip(HALF_OPEN));
        let reset = frame::tcp(t.ip(HALF_OPEN), PORT, SSH, frame::RST);
        t.row("what is half open is none yet", MINE, &reset, Banned);
        let (protocol, kind) = if t.ip(HELD).is_ipv4() { (1, 3) } else { (58, 2) };
        let sent = match (vip_for(t.ip(HELD)), t.ip(HELD)) {
            (IpAddr::V4(vip), IpAddr::V4(client)) => {
                frame::ipv4_fragment(vip, client, 6, 0, &frame::tcp_header(SSH, PORT, ACK, 1, 1))
            }
            (IpAddr::V6(vip), IpAddr::V6(client)) => {
                frame::ipv6(vip, client, 6, &frame::tcp_header(SSH, PORT, ACK, 1, 1))
            }
            _ => unreachable!("they are of one family"),
        };
        let error = frame::to_vip(t.ip(WAITING), protocol, &frame::icmp(kind, 0, &sent));
        t.row("errors about sessions come through", NONE, &error, IcmpErrorOwn);
    });
}

#[test]
fn what_is_of_the_lan_is_not_subject_to_bans() {
    with_table(false, |t, _| {
        let stranger = Ipv4Addr::new(198, 51, 100, STRANGER);
        t.ban(&[("0.0.0.0/0", LONG, LONG), ("::/0", LONG, LONG)]);
        t.client(stranger.into());
        t.row("ARP is answered", MINE, &frame::arp(1, frame::CLIENT_MAC, stranger, VIP), ArpAnswer);
        t.row("and heard", NONE, &frame::arp(2, frame::CLIENT_MAC, stranger, VIP), ArpToVip);
        let elsewhere = frame::packet(stranger.into(), Ipv4Addr::new(198, 51, 100, 1).into(), 6, &[0; 20]);
        t.row("what is not for the VIP is not ours", MINE, &elsewhere, NotOurs);
        let asker = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0xa0, 0xb1, 0xc2, 9);
        t.client(asker.into());
        let asks =
            frame::neighbour(135, asker, frame::solicited_node(VIP6), VIP6, Some((1, frame::CLIENT_MAC)));
        t.row("a solicitation is answered", MINE, &asks, NdAnswer);
    });
}

#[test]
fn bans_outlive_the_daemon_and_an_upgrade_keeps_them() {
    isolated(|dir| {
        let (mut kernel, _) = Kernel::open(dir).unwrap();
        kernel.set_config(&common::config()).unwrap();
        kernel.attach("lo", Accelerate::Off).unwrap();
        let prefixes =
            ["10.0.0.0/8", "192.0.2.7", "2001:db8:5::/48"].map(|text| text.parse::<Prefix>().unwrap());
        let until = Time::from_nanos(onevip_bpf::boot_time_ns()) + Duration::from_secs(60);
        let stop = Stop { everything_until: until, openings_until: Time::NEVER };
        let mut bans = kernel.bans().unwrap();
        prefixes.iter().for_each(|prefix| bans.put(prefix, stop).unwrap());
        bans.remove(&prefixes[1]).unwrap();
        bans.remove(&prefixes[1]).unwrap();
        drop((bans, kernel));
        let (again, origin) = Kernel::open(dir).unwrap();
        assert_eq!(origin, OpenOutcome::Adopted);
        let known = again.bans().unwrap();
        let mut found: Vec<_> = known.known().iter().map(|(prefix, stop)| (*prefix, *stop)).collect();
        found.sort_by_key(|(prefix, _)| *prefix);
        assert_eq!(found, [(prefixes[0], stop), (prefixes[2], stop)]);
        assert_eq!(Kernel::open_pinned(dir).unwrap().bans().unwrap().len(), 2);
    });
}

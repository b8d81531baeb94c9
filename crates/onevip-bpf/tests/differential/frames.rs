//! Generated frames: well-formed, truncated and mutated, many of them about what the host has.

use crate::common::frame::{self, ACK};
use crate::common::host::SSH;
use crate::common::{BEAT_PORT, CLUSTER_MAC, VIP, VIP6};
use crate::random::Random;
use crate::world::{SECOND_BEAT_PORT, SECOND_MAC, SECOND_VIP, SECOND_VIP_ALIAS, SECOND_VIP6, World};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn destination(random: &mut Random) -> Ipv4Addr {
    random.of(&[VIP, VIP, VIP, VIP, VIP, SECOND_VIP, SECOND_VIP_ALIAS, Ipv4Addr::new(198, 51, 100, 1)])
}

/// Any frame.
pub fn generate(random: &mut Random, world: &World) -> Vec<u8> {
    let mut frame = match random.below(20) {
        0..2 => arp(random, world),
        2 => random_bytes(random),
        3..9 => ip(random, world),
        9..12 => nd(random, world),
        _ => ipv6(random, world),
    };
    for _ in 0..random.of(&[0, 0, 0, 0, 0, 1, 1, 2, 3]) {
        let vlan = random.of(&[0, 0, 0, 0, 7]);
        frame = frame::tagged(&frame, random.of(&[0x8100, 0x88a8]), vlan | (random.next() as u16) << 13);
    }
    if random.chance(12) {
        frame.truncate(random.below(frame.len()));
    }
    if random.chance(15) && !frame.is_empty() {
        for _ in 0..1 + random.below(4) {
            let at = random.below(frame.len());
            frame[at] = random.next() as u8;
        }
    }
    // The kernel tests nothing shorter than an Ethernet header.
    if frame.len() < 14 {
        frame.resize(14, 0);
    }
    frame
}

fn random_bytes(random: &mut Random) -> Vec<u8> {
    let len = random.below(200);
    let mut frame = random.bytes(14 + len);
    let ethertype: u16 = random.of(&[0x0800, 0x0806, 0x86dd, 0x1234]);
    frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
    frame
}

fn arp(random: &mut Random, world: &World) -> Vec<u8> {
    let IpAddr::V4(client) = world.client(random, false).0 else { unreachable!("it was asked for") };
    let mac = random.of(&[CLUSTER_MAC, SECOND_MAC, frame::CLIENT_MAC]);
    let sender = if random.chance(25) { destination(random) } else { client };
    frame::arp(random.of(&[1, 1, 1, 2, 2, 3]), mac, sender, destination(random))
}

fn ip(random: &mut Random, world: &World) -> Vec<u8> {
    let ((client, port), dest) = (world.client(random, false), destination(random));
    let IpAddr::V4(address) = client else { unreachable!("it was asked for") };
    let (protocol, payload) = match random.below(20) {
        0..10 => (6, tcp(random, world, client, port)),
        10..13 => (17, udp(random, port)),
        13..18 => (1, icmp(random, world, dest)),
        _ => (random.next() as u8, random.bytes(24)),
    };
    let fragment = random.of(&[0, 0, 0, 0, 0, 0, 0, 0x4000, 0x2000, 0x2001, 0x00b9]);
    let packet = frame::ipv4_fragment(address, dest, protocol, fragment, &payload);
    frame::ethernet(0x0800, &with_options(random, packet))
}

fn destination6(random: &mut Random) -> Ipv6Addr {
    let others = [Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), "ff02::1".parse().unwrap()];
    random.of(&[VIP6, VIP6, VIP6, VIP6, VIP6, VIP6, SECOND_VIP6, SECOND_VIP6, others[0], others[1]])
}

fn client6(random: &mut Random, world: &World) -> (Ipv6Addr, u16) {
    let (IpAddr::V6(client), port) = world.client(random, true) else { unreachable!("it was asked for") };
    (client, port)
}

fn ipv6(random: &mut Random, world: &World) -> Vec<u8> {
    let ((client, port), dest) = (client6(random, world), destination6(random));
    let (protocol, payload) = match random.below(20) {
        0..10 => (6, tcp(random, world, client.into(), port)),
        10..13 => (17, udp(random, port)),
        13..18 => (58, icmpv6(random, world, dest)),
        _ => (random.next() as u8, random.bytes(24)),
    };
    let packet = with_extensions(random, protocol, payload, 25);
    let mut packet = frame::ipv6(client, dest, packet.0, &packet.1);
    if random.chance(2) {
        packet[0] = random.next() as u8;
    }
    frame::ethernet(0x86dd, &packet)
}

/// Sometimes puts extension headers in front: the protocol that the header before them names, and all of it.
fn with_extensions(random: &mut Random, protocol: u8, payload: Vec<u8>, percent: usize) -> (u8, Vec<u8>) {
    let (mut next, mut packet) = (protocol, payload);
    if !random.chance(percent) {
        return (next, packet);
    }
    for _ in 0..random.of(&[1, 1, 1, 2, 3, 5, 6, 7]) {
        let kind = random.of(&[0, 43, 44, 44, 60]);
        let mut header = match kind {
            44 => frame::fragment_header(next, random.of(&[0, 0, 1, 1, 6, 9, 0x0b91])),
            _ => frame::extension(next, random.of(&[1, 1, 1, 2, 3, 4, 8, 17])),
        };
        if random.chance(3) {
            header[1] = random.next() as u8;
        }
        header.extend(packet);
        (next, packet) = (kind, header);
    }
    (next, packet)
}

fn icmpv6(random: &mut Random, world: &World, dest: Ipv6Addr) -> Vec<u8> {
    let kind = {
        let any = random.next() as u8;
        random.of(&[128, 129, 2, 2, 2, 1, 3, 4, 127, 130, 133, 134, 137, any])
    };
    let (client, port) = client6(random, world);
    let local = if random.chance(85) { dest } else { destination6(random) };
    let mosh = 60_000 + random.below(72) as u16;
    let ports = frame::tcp_header(random.of(&[SSH, SSH, SSH, 53, 99, mosh]), port, ACK, 1, 1);
    let protocol = random.of(&[6, 6, 6, 6, 17, 17, 58, 50]);
    let quoted = with_extensions(random, protocol, ports, 25);
    let mut quoted = frame::ipv6(local, client, quoted.0, &quoted.1);
    if random.chance(15) {
        quoted.truncate(random.below(quoted.len()));
    }
    frame::icmp(kind, random.of(&[0, 0, 0, 1]), &quoted)
}

/// Neighbour discovery, about the VIP or not, by one of us or not.
fn nd(random: &mut Random, world: &World) -> Vec<u8> {
    let client = client6(random, world).0;
    let source = random.of(&[client, client, client, Ipv6Addr::UNSPECIFIED, VIP6, SECOND_VIP6]);
    let target = destination6(random);
    let dest = {
        let any = destination6(random);
        random.of(&[frame::solicited_node(target), target, any])
    };
    let mut options = Vec::new();
    for _ in 0..random.of(&[0, 1, 1, 1, 2, 5]) {
        let eights = random.of(&[1, 1, 1, 1, 1, 2, 4, 9, 0]);
        let mac = random.of(&[CLUSTER_MAC, SECOND_MAC, frame::CLIENT_MAC]);
        options.extend([random.of(&[1, 1, 2, 2, 14]), eights]);
        options.extend(mac);
        options.resize(options.len() + usize::from(eights.saturating_sub(1)) * 8, 0);
    }
    let kind = random.of(&[135, 135, 135, 136, 136, 133, 134, 137]);
    let mut message = frame::neighbour_message(kind, source, dest, target, &options);
    if random.chance(5) {
        message[1] = 1;
    }
    let (next, payload) = with_extensions(random, 58, message, 15);
    let mut packet = frame::ipv6(source, dest, next, &payload);
    if random.chance(5) {
        packet[7] = 64;
    }
    frame::ethernet(0x86dd, &packet)
}

/// Sometimes puts IP options in.
fn with_options(random: &mut Random, mut packet: Vec<u8>) -> Vec<u8> {
    if random.chance(10) {
        let words = 1 + random.below(10);
        packet[0] = 0x45 + words as u8;
        let options = random.bytes(words * 4);
        packet.splice(20..20, options);
    }
    packet
}

fn tcp(random: &mut Random, world: &World, client: IpAddr, port: u16) -> Vec<u8> {
    let flags = {
        let any = random.next() as u8;
        random.of(&[0x02, 0x10, 0x18, 0x11, 0x14, 0x04, 0x12, 0x01, 0xc2, any])
    };
    let right = world.half_open.get(&(client, port)).map_or(0, |isn| isn.wrapping_add(1));
    let ack = if random.chance(70) { right } else { random.next() as u32 };
    let dest_port = {
        let any = random.next() as u16;
        random.of(&[SSH, SSH, SSH, SSH, 2222, 2229, 2230, any])
    };
    let mut header = frame::tcp_header(port, dest_port, flags, random.next() as u32, ack);
    if random.chance(20) {
        header[12] = (random.below(16) as u8) << 4;
        let len = random.below(40);
        header.extend(random.bytes(len));
    }
    header
}

fn udp(random: &mut Random, port: u16) -> Vec<u8> {
    let dest_port = {
        let any = random.next() as u16;
        let mosh = 60_000 + random.below(72) as u16;
        random.of(&[BEAT_PORT, SECOND_BEAT_PORT, 53, mosh, mosh, mosh, any])
    };
    let len = random.below(60);
    frame::udp_datagram(port, dest_port, &random.bytes(len))
}

fn icmp(random: &mut Random, world: &World, dest: Ipv4Addr) -> Vec<u8> {
    let kind = {
        let any = random.next() as u8;
        random.of(&[0, 8, 3, 3, 3, 4, 5, 11, 12, any])
    };
    let (client, port) = world.client(random, false);
    let IpAddr::V4(client) = client else { unreachable!("it was asked for") };
    let local = if random.chance(85) { dest } else { destination(random) };
    let mosh = 60_000 + random.below(72) as u16;
    let ports = frame::tcp_header(random.of(&[SSH, SSH, SSH, 53, 99, mosh]), port, ACK, 1, 1);
    let fragment = random.of(&[0, 0, 0, 0, 0x4000, 0x2000, 0x0007]);
    let protocol = random.of(&[6, 6, 6, 6, 17, 17, 1, 50]);
    let quoted = frame::ipv4_fragment(local, client, protocol, fragment, &ports);
    let mut quoted = with_options(random, quoted);
    if random.chance(15) {
        quoted.truncate(random.below(quoted.len()));
    }
    frame::icmp(kind, 0, &quoted)
}

/// Whether the EtherType behind any tags is IPv6's.
pub fn is_ipv6(frame: &[u8]) -> bool {
    let is_tag = |two: &[u8]| two == [0x81, 0x00] || two == [0x88, 0xa8];
    let mut words = frame[12..].chunks(2).step_by(2);
    words.find(|two| !is_tag(two)).is_some_and(|two| two == [0x86, 0xdd])
}

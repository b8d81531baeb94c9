//! Any frame, in the eyes of any node: the reference parser and verdict never panic, and a beat goes to the daemon.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onevip_core::{
    Action, Bucket, NodeView, Flags, Flow, Hasher, Packet, Selector, Socket, VipView, judge_frame,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEAD: usize = 6;
const VIP: [u8; 4] = [198, 51, 100, 10];
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);

/// What the first bytes of the input say this node knows.
struct Node<'a>(&'a [u8]);

impl NodeView for Node<'_> {
    fn flags(&self, _: usize, _: Bucket) -> Flags {
        [Flags::MINE, Flags::GUESTS, Flags::ELSEWHERE]
            .into_iter()
            .enumerate()
            .filter(|(bit, _)| self.0[0] >> bit & 1 == 1)
            .fold(Flags::NONE, |flags, (_, flag)| flags.with(flag))
    }

    fn lease_live(&self) -> bool {
        self.0[0] & 8 != 0
    }

    fn syn_recently(&self, _: usize, _: Bucket) -> bool {
        self.0[0] & 16 != 0
    }

    fn orphan_waited(&self, _: usize, _: &Flow) -> bool {
        self.0[1] & 128 != 0
    }

    fn banned(&self, _: IpAddr, session: bool) -> bool {
        self.0[1] & 64 != 0 && !(session && self.0[1] & 32 != 0)
    }

    fn limited(&self, _: usize, _: usize, _: IpAddr) -> bool {
        self.0[0] & 32 != 0
    }

    fn udp_socket(&self, _: &Flow) -> bool {
        self.0[1] & 64 != 0
    }

    fn socket(&self, _: &Flow) -> Socket {
        match self.0[1] % 6 {
            0 => Socket::None,
            1 => Socket::Listener { cookie_valid: true },
            2 => Socket::Listener { cookie_valid: false },
            3 => Socket::Connected,
            4 => {
                Socket::Request { sent_isn: u32::from_be_bytes([self.0[2], self.0[3], self.0[4], self.0[5]]) }
            }
            _ => Socket::TimeWait,
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((head, frame)) = data.split_at_checked(HEAD) else { return };
    let vips = [VipView {
        addresses: vec![Ipv4Addr::from(VIP).into(), VIP6.into()],
        selector: Selector::uniform(Hasher::DEFAULT),
        beat_port: 7077,
        cluster_mac: [1, 0, 0x5e, 0x33, 0x64, 0x0a],
    }];
    let mut frame = frame.to_vec();
    name_the_vip(head[0] >> 5, &mut frame);
    let packet = Packet::parse(&frame, &vips);
    let action = judge_frame(&frame, &vips, &Node(head)).action();
    assert_eq!(action == Action::ToDaemon, matches!(packet, Packet::Beat { .. }));
    if packet == Packet::NotOurs {
        assert_eq!(action, Action::Pass, "what is not about a VIP is none of our business");
    }
});

/// Writes the fields without which a frame is none of ours, because the fuzzer would hardly ever guess them.
fn name_the_vip(how: u8, frame: &mut [u8]) {
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = frame.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    match how {
        0 | 1 => {
            put(12, &[0x08, 0x00]);
            put(30, &VIP);
        }
        2 => {
            put(12, &[0x08, 0x00, 0x45]);
            put(30, &VIP);
        }
        3 => {
            put(12, &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0]);
            put(38, &VIP);
        }
        4 => {
            put(12, &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0]);
            put(28, &VIP);
        }
        5 => {
            put(12, &[0x81, 0x00, 0, 0, 0x08, 0x00]);
            put(34, &VIP);
        }
        6 => {
            put(12, &[0x86, 0xdd, 0x60]);
            put(38, &VIP6.octets());
        }
        _ => {
            // Neighbour discovery.
            put(12, &[0x86, 0xdd, 0x60]);
            put(20, &[58, 255]);
            put(55, &[0]);
            put(62, &VIP6.octets());
        }
    }
}

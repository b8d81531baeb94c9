//! What the programs note of other nodes' clients, segment by segment.

#![allow(clippy::unwrap_used)]

mod common;

use common::frame::{self, ACK};
use common::reference::{kernel, set};
use common::{V, isolated, wait_until};
use onevip_bpf::{Kernel, boot_time_ns, test_run};
use onevip_core::peer_check::{ClientFlow, Progress};
use onevip_core::{Bucket, Flags, Hasher, Time};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SYN: u8 = 0x02;
const FIN: u8 = 0x01;
const PORT: u16 = 40_000;
const ISN: u32 = 1000;
/// What the server's SYN-ACK would be acknowledged with.
const FIRST: u32 = u32::MAX - 3;

/// A cluster's client as another node sees it.
struct Client<'a> {
    kernel: &'a Kernel,
    address: IpAddr,
    /// Through XDP, or through tc.
    xdp: bool,
}

impl Client<'_> {
    fn bucket(&self) -> Bucket {
        Hasher::DEFAULT.bucket(self.address, PORT, 22)
    }

    fn sends(&self, flags: u8, seq: u32, ack: u32) -> &Self {
        let header = frame::tcp_header(PORT, 22, flags, seq, ack);
        let [ingress, _, xdp] = self.kernel.program_fds();
        let run = test_run(if self.xdp { xdp } else { ingress }, &frame::to_vip(self.address, 6, &header), 1)
            .unwrap();
        assert_eq!(run.returned, if self.xdp { 1 } else { 2 }, "it is another node's, and dropped");
        self
    }

    fn seen(&self) -> Option<ClientFlow> {
        let now = Time::from_nanos(boot_time_ns());
        self.kernel
            .flows()
            .look(now)
            .find(|(vip, seen)| (*vip, seen.bucket) == (V, self.bucket()))
            .map(|(_, s)| s)
    }

    fn stage(&self) -> Progress {
        self.seen().unwrap().progress
    }
}

/// Two clients, one of each family, through either program; both buckets are sampled.
fn for_each_client(test: impl Fn(&Client<'_>) + Send + Sync) {
    let addresses: [IpAddr; 2] =
        [Ipv4Addr::new(198, 51, 100, 77).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, 0x77).into()];
    for (address, xdp) in addresses.into_iter().flat_map(|address| [(address, false), (address, true)]) {
        isolated(|dir| {
            let kernel = kernel(dir);
            let client = Client { kernel: &kernel, address, xdp };
            set(&kernel, client.bucket(), Flags::SAMPLED);
            test(&client);
        });
    }
}

#[test]
fn a_client_that_acknowledges_more_than_the_syn_ack_was_served() {
    for_each_client(|client| {
        assert!(matches!(client.sends(SYN, ISN, 0).stage(), Progress::Begun));
        client.sends(ACK, ISN + 1, FIRST).sends(ACK, ISN + 1, FIRST).sends(ACK, ISN + 20, FIRST);
        assert!(matches!(client.stage(), Progress::Open { ended: None, .. }), "speaking is not being served");
        let seen = client.sends(ACK, ISN + 20, FIRST.wrapping_add(21)).seen().unwrap();
        assert_eq!((seen.progress, seen.port), (Progress::Served, 22), "also where numbers wrap");
        client.sends(ACK | FIN, ISN + 20, FIRST);
        assert_eq!(client.stage(), Progress::Served, "and stays so");
    });
}

#[test]
fn a_client_that_gives_up_is_noted_with_the_time() {
    for_each_client(|client| {
        client.sends(SYN, ISN, 0).sends(ACK, ISN + 1, FIRST).sends(ACK | FIN, ISN + 1, FIRST);
        let Progress::Open { since, ended: Some(ended) } = client.stage() else {
            panic!("{:?}", client.seen())
        };
        assert!(ended >= since && since >= client.seen().unwrap().begun);
    });
}

#[test]
fn a_syn_that_comes_again_is_a_clue_and_another_connection_is_none() {
    for_each_client(|client| {
        client.sends(SYN, ISN, 0);
        assert_eq!(client.sends(SYN, ISN, 0).stage(), Progress::Begun, "a copy comes at once");
        assert_eq!(
            client.sends(SYN, ISN + 1, 0).stage(),
            Progress::Begun,
            "another connection from the same port"
        );
        wait_until("its SYN counts as repeated", || {
            client.sends(SYN, ISN + 1, 0).stage() == Progress::Repeated
        });
    });
}

#[test]
fn a_handshake_is_not_pushed_out_by_a_newcomer() {
    for_each_client(|client| {
        client.sends(SYN, ISN, 0).sends(ACK, ISN + 1, FIRST).sends(SYN, ISN + 5, 0);
        assert!(matches!(client.stage(), Progress::Open { .. }));
    });
}

#[test]
fn nothing_is_noted_where_nothing_is_sampled_or_the_bucket_is_ours() {
    for_each_client(|client| {
        set(client.kernel, client.bucket(), Flags::NONE);
        client.sends(SYN, ISN, 0).sends(ACK, ISN + 1, FIRST);
        assert_eq!(client.kernel.counters().unwrap().sampled_segments, 0);
        set(client.kernel, client.bucket(), Flags::SAMPLED);
        client.sends(ACK, ISN + 1, FIRST);
        assert!(client.seen().is_none(), "its beginning was not seen");
        assert_eq!(client.kernel.counters().unwrap().sampled_segments, 1);
    });
}

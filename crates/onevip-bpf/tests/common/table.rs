//! The verdict table at work: a host with sockets, rows that go through XDP, tc and the reference.

use super::host::{Host, Listener, SSH};
use super::reference::{Known, all_agree, flow, kernel, renew, views};
use super::{V, VIP, VIP6, bucket_of, config, isolated};
use aya::maps::{Array, Map, MapData};
use onevip_bpf::layout::{ORPHANS, TICK_SHIFT, WORDS};
use onevip_bpf::{Accelerate, Explainer, KernelConfig, boot_time_ns, test_run};
use onevip_core::Prefix;
use onevip_core::bans::Stop;
use onevip_core::{Bucket, Flags, Reason, Socket, Time, VipView};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

pub const NONE: Flags = Flags::NONE;
pub const MINE: Flags = Flags::MINE;
pub const GUESTS: Flags = Flags::GUESTS;
pub const ELSEWHERE: Flags = Flags::ELSEWHERE;
pub const WATCHED: Flags = Flags::WATCHED;

/// Clients, by the end of their addresses in either family.
pub const HELD: u8 = 101;
pub const HALF_OPEN: u8 = 102;
pub const WAITING: u8 = 103;
pub const OUTWARD: u8 = 104;
pub const STRANGER: u8 = 105;
pub const COOKIE: u8 = 106;
pub const PORT: u16 = 40000;

/// The table at work: a host with sockets, and what is known of it.
pub struct Table<'a> {
    /// The family of its clients.
    v6: bool,
    pub known: Known<'a>,
    views: Vec<VipView>,
    /// Whose bucket a row's flags are for.
    bucket: Bucket,
    last_syn: Array<MapData, [u64; WORDS]>,
    orphans: Array<MapData, [u64; ORPHANS]>,
    failures: Vec<String>,
}

impl Table<'_> {
    pub fn row(&mut self, sentence: &str, flags: Flags, frame: &[u8], reason: Reason) {
        self.known.kernel.words().set_flags(V, self.bucket, flags);
        let got = all_agree(&self.known, &self.views, frame);
        if got.as_ref() != Ok(&reason) {
            self.failures.push(format!("{sentence}\n  wanted {reason:?}, got {got:?}"));
        }
        self.known.kernel.words().set_flags(V, self.bucket, NONE);
        self.syn_passed(None);
        self.orphans.set(0, [0; ORPHANS], 0).unwrap();
    }

    /// A frame comes, so many seconds ago.
    pub fn came_before(&mut self, seconds_ago: u64, flags: Flags, frame: &[u8]) {
        self.known.kernel.words().set_flags(V, self.bucket, flags);
        let [ingress, ..] = self.known.kernel.program_fds();
        test_run(ingress, frame, 1).unwrap();
        let mut orphans = self.orphans.get(&0, 0).unwrap();
        for orphan in orphans.iter_mut().filter(|orphan| **orphan != 0) {
            let tick = (*orphan as u32).wrapping_sub(((seconds_ago * 1_000_000_000) >> TICK_SHIFT) as u32);
            *orphan = *orphan >> 32 << 32 | u64::from(tick);
        }
        self.orphans.set(0, orphans, 0).unwrap();
    }

    /// A row whose frame has come before, so many seconds ago.
    pub fn row_again(
        &mut self,
        sentence: &str,
        seconds_ago: u64,
        flags: Flags,
        frame: &[u8],
        reason: Reason,
    ) {
        self.came_before(seconds_ago, flags, frame);
        self.row(sentence, flags, frame, reason);
    }

    /// The address of a client.
    pub fn ip(&self, client: u8) -> IpAddr {
        ip(self.v6, client)
    }

    /// The client of the rows that follow.
    pub fn client(&mut self, client: IpAddr) {
        self.bucket = bucket_of(client);
    }

    /// The bucket of the rows that follow, where it is not that of the client's address.
    pub fn in_bucket(&mut self, bucket: Bucket) {
        self.bucket = bucket;
    }

    /// Lets the lease of the rows that follow be live or not.
    pub fn lease(&mut self, live: bool) {
        self.known.lease_live = live;
        if live {
            renew(self.known.kernel)
        } else {
            self.known.kernel.words().set_lease_deadline_ns(V, boot_time_ns())
        }
    }

    /// Bans exactly these, each until so many seconds from now: with everything, and with all but sessions.
    pub fn ban(&mut self, bans: &[(&str, i64, i64)]) {
        let now = Time::from_nanos(boot_time_ns());
        let at = |seconds: i64| {
            let span = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 { now - span } else { now + span }
        };
        let mut kernel = self.known.kernel.bans().unwrap();
        let old: Vec<Prefix> = kernel.known().keys().copied().collect();
        old.iter().for_each(|prefix| kernel.remove(prefix).unwrap());
        self.known.bans.clear();
        for &(prefix, everything, openings) in bans {
            let prefix = prefix.parse().unwrap();
            let stop = Stop { everything_until: at(everything), openings_until: at(openings) };
            kernel.put(&prefix, stop).unwrap();
            self.known.bans.push((prefix, stop));
        }
    }

    /// Lets the last SYN of the bucket have passed so long ago, in seconds.
    pub fn syn_passed(&mut self, seconds_ago: Option<u64>) {
        let then = seconds_ago.map_or(0, |seconds| boot_time_ns() - seconds * 1_000_000_000);
        let mut words = [0; WORDS];
        words[self.bucket.index()] = then;
        self.last_syn.set(0, words, 0).unwrap();
    }
}

pub fn ip(v6: bool, client: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0xa0, 0xb1, 0xc2, client.into()).into()
    } else {
        Ipv4Addr::new(198, 51, 100, client).into()
    }
}

/// Runs a test for both families.
pub fn with_tables(test: impl Fn(&mut Table<'_>, &Host) + Send + Sync) {
    with_table(false, &test);
    with_table(true, &test);
}

/// The same, whatever the host's server listens with.
pub fn with_tables_of_all_listeners(test: impl Fn(&mut Table<'_>, &Host) + Send + Sync) {
    with_tables(&test);
    for v6 in [false, true] {
        with_table_on(Listener::Mptcp, &config(), v6, &test);
    }
}

pub fn with_table(v6: bool, test: impl FnOnce(&mut Table<'_>, &Host) + Send) {
    with_table_of(&config(), v6, test);
}

pub fn with_table_of(config: &KernelConfig, v6: bool, test: impl FnOnce(&mut Table<'_>, &Host) + Send) {
    with_table_on(Listener::Tcp, config, v6, test);
}

fn with_table_on(
    listener: Listener,
    config: &KernelConfig,
    v6: bool,
    test: impl FnOnce(&mut Table<'_>, &Host) + Send,
) {
    isolated(|dir| {
        let mut host = Host::listening(listener);
        let mut kernel = kernel(dir);
        kernel.set_config(config).unwrap();
        kernel.attach("lo", Accelerate::Off).unwrap();
        let [held, half_open, waiting] = [HELD, HALF_OPEN, WAITING].map(|client| ip(v6, client));
        host.connect(held, PORT);
        let sent_isn = host.half_open(half_open, PORT);
        host.time_wait(waiting, PORT);
        let explainer = Explainer::open(dir).unwrap();
        let known = Known {
            kernel: &kernel,
            explainer: &explainer,
            lease_live: true,
            sockets: HashMap::from([
                (flow(held, PORT), Socket::Connected),
                (flow(half_open, PORT), Socket::Request { sent_isn }),
                (flow(waiting, PORT), Socket::TimeWait),
            ]),
            listeners: vec![(VIP.into(), SSH), (VIP6.into(), SSH)],
            bans: Vec::new(),
            allowed: Vec::new(),
            counts: RefCell::default(),
            datagram_ports: Vec::new(),
        };
        let last_syn = Array::try_from(Map::Array(MapData::from_pin(dir.join("last_syn")).unwrap())).unwrap();
        let orphans = Array::try_from(Map::Array(MapData::from_pin(dir.join("orphans")).unwrap())).unwrap();
        let (views, bucket) = (views(config), bucket_of(held));
        let mut table = Table { v6, known, views, bucket, last_syn, orphans, failures: Vec::new() };
        test(&mut table, &host);
        assert!(
            table.failures.is_empty(),
            "IPv{}, {listener:?}\n{}",
            if v6 { 6 } else { 4 },
            table.failures.join("\n")
        );
    });
}

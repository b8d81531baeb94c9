//! Effects: of what came in to open something, and of what left for it, as the programs count it.

use crate::error::{Error, Result};
use crate::maps::counters::possible_cpus;
use crate::maps::layout::{ADDRESSES_MAX, KINDS, ON_LINK_MAX, RawEffects, RawNetwork4, RawNetwork6};
use crate::maps::set::Maps;
use crate::sys;
use onevip_core::Prefix;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Whom openings are of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum ClientKind {
    /// Clients in a network of the VIP's interface.
    OnLink,
    /// Clients behind a router.
    Routed,
}

impl ClientKind {
    /// Both.
    pub const ALL: [Self; KINDS] = [Self::OnLink, Self::Routed];

    /// In words.
    pub const fn word(self) -> &'static str {
        match self {
            Self::OnLink => "on-link",
            Self::Routed => "routed",
        }
    }
}

/// What was counted for one address of a VIP and one kind of clients, since the maps were made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Effects {
    /// SYNs let in.
    pub syns: u64,
    /// SYN-ACKs that left.
    pub syn_acks: u64,
    /// Resets that left, of sessions as well.
    pub resets: u64,
    /// Third segments of handshakes for which a socket was there.
    pub handshakes: u64,
    /// Segments let in for the stack to reset.
    pub orphans: u64,
    /// ARP requests and neighbour solicitations let in.
    pub questions: u64,
    /// ARP replies and solicited neighbour advertisements that left.
    pub answers: u64,
}

impl Effects {
    fn of(counts: [u64; 7]) -> Self {
        let [syns, syn_acks, resets, handshakes, orphans, questions, answers] = counts;
        Self { syns, syn_acks, resets, handshakes, orphans, questions, answers }
    }
}

/// All effects at one moment. Addresses are numbered as in the configuration of the kernel part: those of all VIPs, one
/// after the other.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EffectCounts {
    counts: Vec<[Effects; KINDS]>,
    /// Whether the daemon resets orphans, because the stack's resets do not leave.
    pub daemon_resets: bool,
    newest: Vec<[[u8; 16]; KINDS]>,
}

impl EffectCounts {
    /// Those of one address and kind.
    pub fn of(&self, address: usize, kind: ClientKind) -> Effects {
        self.counts.get(address).map_or_else(Effects::default, |kinds| kinds[kind as usize])
    }

    /// Who sent the newest SYN of that kind that was let in to this address, whose family is that of `vip`.
    pub fn newest(&self, address: usize, kind: ClientKind, vip: IpAddr) -> Option<IpAddr> {
        let bytes = self.newest.get(address)?[kind as usize];
        let source = match vip {
            IpAddr::V4(_) => IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]),
            IpAddr::V6(_) => IpAddr::from(bytes),
        };
        (!source.is_unspecified()).then_some(source)
    }
}

/// A handle on the effects.
#[derive(Clone, Debug)]
pub struct EffectCounters(pub(crate) Arc<Maps>);

impl EffectCounters {
    /// What was counted until now, over all CPUs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(&self) -> Result<EffectCounts> {
        read(&self.0)
    }

    /// Says whether the daemon resets orphans itself, beside the stack: they are handed over as refused SYNs are.
    pub fn set_daemon_resets(&self, resets: bool) {
        self.0.set_daemon_resets(resets);
    }

    /// Says of which port SYNs and SYN-ACKs of an address count, by its index; 0: of all, as it is at first.
    pub fn set_port(&self, address: usize, port: u16) {
        self.0.set_counted_port(address, port);
    }

    /// Says which networks are on the link; clients of others are behind a router. Returns how many there was no room
    /// for (8 of each family fit), whose clients count as routed.
    pub fn set_on_link(&self, networks: &[Prefix]) -> usize {
        // No address meets this one: what is left of it by the mask is not its network.
        let mut v4 = [RawNetwork4 { network: [1; 4], mask: [0; 4] }; ON_LINK_MAX];
        let mut v6 = [RawNetwork6 { network: [1; 16], mask: [0; 16] }; ON_LINK_MAX];
        let (mut fours, mut sixes) = (v4.iter_mut(), v6.iter_mut());
        let mut left = 0;
        for prefix in networks {
            match prefix.address() {
                IpAddr::V4(address) => match fours.next() {
                    Some(place) => {
                        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.length())).unwrap_or(0);
                        place.network = (address.to_bits() & mask).to_be_bytes();
                        place.mask = mask.to_be_bytes();
                    }
                    None => left += 1,
                },
                IpAddr::V6(address) => match sixes.next() {
                    Some(place) => {
                        let mask = u128::MAX.checked_shl(128 - u32::from(prefix.length())).unwrap_or(0);
                        place.network = (address.to_bits() & mask).to_be_bytes();
                        place.mask = mask.to_be_bytes();
                    }
                    None => left += 1,
                },
            }
        }
        self.0.set_on_link(v4, v6);
        left
    }
}

/// What was counted until now, over all CPUs.
pub(crate) fn read(maps: &Maps) -> Result<EffectCounts> {
    let mut per_cpu = vec![RawEffects::default(); possible_cpus()];
    let words = per_cpu.as_flattened_mut().as_flattened_mut().as_flattened_mut();
    sys::array_read(maps.effects.as_fd(), 0, words).map_err(Error::system("read the effects"))?;
    let sum = |address: usize, kind: usize, effect: usize| {
        per_cpu.iter().map(|counts| counts[address][kind][effect]).sum::<u64>()
    };
    let of = |address, kind| Effects::of(std::array::from_fn(|effect| sum(address, kind, effect)));
    let counts = (0..ADDRESSES_MAX).map(|address| std::array::from_fn(|kind| of(address, kind))).collect();
    let clients = maps.clients();
    Ok(EffectCounts { counts, daemon_resets: clients.resets != 0, newest: clients.newest.to_vec() })
}

//! Bans as the programs keep them: a trie of prefixes for each family, and how many there are.

use crate::error::{Error, Result};
use crate::maps::layout::{RawBan, RawBanKey4, RawBanKey6};
use crate::maps::set::Maps;
use crate::sys;
use onevip_core::Prefix;
use onevip_core::Time;
use onevip_core::bans::Stop;
use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A handle on the bans, for the one thread that changes them.
#[derive(Debug)]
pub struct Bans {
    maps: Arc<Maps>,
    /// What the tries have. (Asked for a prefix, a trie tells of the narrowest one in which it lies, so it cannot be
    /// asked whether a prefix is there itself.)
    known: HashMap<Prefix, Stop>,
    /// How many of them are of IPv4, and of IPv6.
    counts: [u32; 2],
}

/// A prefix as one of the tries has it.
enum BanKey {
    V4(RawBanKey4),
    V6(RawBanKey6),
}

impl From<&Prefix> for BanKey {
    fn from(prefix: &Prefix) -> Self {
        let length = prefix.length().into();
        match prefix.address() {
            IpAddr::V4(v4) => Self::V4(RawBanKey4 { length, address: v4.octets() }),
            IpAddr::V6(v6) => Self::V6(RawBanKey6 { length, words: v6.octets() }),
        }
    }
}

impl Bans {
    /// Looks at what the tries have.
    pub(crate) fn of(maps: Arc<Maps>) -> Result<Self> {
        let known: HashMap<Prefix, Stop> = list(&maps)?.into_iter().collect();
        let v6 = known.keys().filter(|prefix| prefix.is_v6()).count() as u32;
        let counts = [known.len() as u32 - v6, v6];
        Ok(Self { maps, known, counts })
    }

    /// What the tries have.
    pub fn known(&self) -> &HashMap<Prefix, Stop> {
        &self.known
    }

    /// Keeps the sources of a prefix out until then, and no longer than that. Wider bans must be counted in: the
    /// programs find the narrowest.
    ///
    /// # Errors
    /// The kernel's: no memory, or no room.
    pub fn put(&mut self, prefix: &Prefix, stop: Stop) -> Result<()> {
        if self.known.get(prefix) == Some(&stop) {
            return Ok(());
        }
        let ban = RawBan {
            everything_until_ns: stop.everything_until.nanos(),
            openings_until_ns: stop.openings_until.nanos(),
        };
        let [v4, v6] = &self.maps.bans;
        let put = match BanKey::from(prefix) {
            BanKey::V4(key) => sys::map_put(v4.as_fd(), &key, &ban),
            BanKey::V6(key) => sys::map_put(v6.as_fd(), &key, &ban),
        };
        put.map_err(Error::system(format!("ban {prefix} in the kernel part")))?;
        if self.known.insert(*prefix, stop).is_none() {
            self.counts[usize::from(prefix.is_v6())] += 1;
        }
        self.tell();
        Ok(())
    }

    /// Lets the sources of a prefix in again, as far as no wider ban is in the way.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&mut self, prefix: &Prefix) -> Result<()> {
        if !self.known.contains_key(prefix) {
            return Ok(());
        }
        let [v4, v6] = &self.maps.bans;
        let removed = match BanKey::from(prefix) {
            BanKey::V4(key) => sys::map_remove(v4.as_fd(), &key),
            BanKey::V6(key) => sys::map_remove(v6.as_fd(), &key),
        };
        removed.map_err(Error::system(format!("lift the ban of {prefix} in the kernel part")))?;
        if self.known.remove(prefix).is_some() {
            self.counts[usize::from(prefix.is_v6())] -= 1;
        }
        self.tell();
        Ok(())
    }

    /// Tells the programs how many there are, so that they need not look where there are none. An earlier daemon may
    /// have died before it did.
    pub fn tell(&self) {
        for (family, count) in self.counts.into_iter().enumerate() {
            self.maps.banned.word32(family).store(count, Ordering::Release);
        }
    }
}

/// Everything that the tries have.
pub(crate) fn list(maps: &Maps) -> Result<Vec<(Prefix, Stop)>> {
    let [v4, v6] = &maps.bans;
    let mut all = Vec::new();
    let failed = || Error::system("list the bans of the kernel part");
    let mut last = None;
    while let Some(key) = sys::map_next_key::<RawBanKey4>(v4.as_fd(), last.as_ref()).map_err(failed())? {
        let ban = sys::map_get(v4.as_fd(), &key).map_err(failed())?;
        all.extend(entry(key.address.into(), key.length, ban));
        last = Some(key);
    }
    let mut last = None;
    while let Some(key) = sys::map_next_key::<RawBanKey6>(v6.as_fd(), last.as_ref()).map_err(failed())? {
        let ban = sys::map_get(v6.as_fd(), &key).map_err(failed())?;
        all.extend(entry(key.words.into(), key.length, ban));
        last = Some(key);
    }
    Ok(all)
}

fn entry(address: IpAddr, length: u32, ban: Option<RawBan>) -> Option<(Prefix, Stop)> {
    Some((Prefix::new(address, u8::try_from(length).ok()?)?, stop(ban?)))
}

fn stop(raw: RawBan) -> Stop {
    Stop {
        everything_until: Time::from_nanos(raw.everything_until_ns),
        openings_until: Time::from_nanos(raw.openings_until_ns),
    }
}

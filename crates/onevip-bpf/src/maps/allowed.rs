//! The networks whose connections the programs do not count: the `allowed` map.

use crate::config::KernelConfig;
use crate::error::{Error, Result};
use crate::maps::layout::{OWNER_V6, RawAllowedKey};
use crate::sys;
use onevip_core::Prefix;
use std::collections::HashSet;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// Tells the programs whom not to count, and forgets what it told before.
pub(super) fn write(map: BorrowedFd<'_>, config: &KernelConfig) -> Result<()> {
    let failed = || Error::system("tell the kernel part whom not to count");
    let limits = config.vips.iter().flat_map(|vip| &vip.selector.services).filter_map(|s| s.limit.as_ref());
    let numbered = limits.zip(1u32..);
    let wanted: HashSet<RawAllowedKey> =
        numbered.flat_map(|(limit, number)| limit.allow.iter().map(move |net| key(number, net))).collect();
    let old = keys(map).map_err(failed())?;
    for key in &wanted {
        sys::map_put(map, key, &1u8).map_err(failed())?;
    }
    for key in old.iter().filter(|key| !wanted.contains(key)) {
        sys::map_remove(map, key).map_err(failed())?;
    }
    Ok(())
}

/// Completes a configuration by those who are not counted, each limit's in the order of [`Prefix`].
pub(super) fn read(map: BorrowedFd<'_>, config: &mut KernelConfig) -> Result<()> {
    let all = keys(map).map_err(Error::system("read who is not counted"))?;
    let services = config.vips.iter_mut().flat_map(|vip| &mut vip.selector.services);
    for (limit, number) in services.filter_map(|service| service.limit.as_mut()).zip(1u32..) {
        let own = all.iter().filter(|key| key.owner & (OWNER_V6 - 1) == number);
        limit.allow = own.filter_map(network).collect();
        limit.allow.sort_unstable();
    }
    Ok(())
}

fn keys(map: BorrowedFd<'_>) -> std::io::Result<Vec<RawAllowedKey>> {
    let (mut all, mut last) = (Vec::new(), None);
    while let Some(key) = sys::map_next_key::<RawAllowedKey>(map, last.as_ref())? {
        all.push(key);
        last = Some(key);
    }
    Ok(all)
}

fn network(key: &RawAllowedKey) -> Option<Prefix> {
    let address = if key.owner & OWNER_V6 != 0 {
        IpAddr::from(key.words)
    } else {
        IpAddr::from(*key.words.first_chunk::<4>()?)
    };
    Prefix::new(address, u8::try_from(key.length.checked_sub(32)?).ok()?)
}

fn key(number: u32, network: &Prefix) -> RawAllowedKey {
    let mut words = [0; 16];
    let owner = number | if network.is_v6() { OWNER_V6 } else { 0 };
    match network.address() {
        IpAddr::V4(v4) => words[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => words.copy_from_slice(&v6.octets()),
    }
    // The trie compares bytes in their order: those of the owner first.
    RawAllowedKey { length: 32 + u32::from(network.length()), owner, words }
}

//! The elements of maps, one system call each.

use super::bpf::{BPF_MAP_DELETE_ELEM, BPF_MAP_GET_NEXT_KEY, BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, bpf};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

#[repr(C)]
struct ElementAttr {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Reads one element of an array into `value`, which must be as large as the kernel will write.
pub(crate) fn array_read(map: BorrowedFd<'_>, index: u32, value: &mut [u64]) -> io::Result<()> {
    let mut attr = ElementAttr {
        map: map.as_raw_fd() as u32,
        padding: 0,
        key: std::ptr::from_ref(&index) as u64,
        value: value.as_mut_ptr() as u64,
        flags: 0,
    };
    bpf(BPF_MAP_LOOKUP_ELEM, &mut attr).map(drop)
}

/// What one entry of a map takes: `key` and `value` live as long as the result, and are as large as the map's.
fn element<K, V>(map: BorrowedFd<'_>, key: *const K, value: *const V) -> ElementAttr {
    ElementAttr { map: map.as_raw_fd() as u32, padding: 0, key: key as u64, value: value as u64, flags: 0 }
}

/// Puts a value under a key; both must be of the map's sizes.
pub(crate) fn map_put<K: Copy, V: Copy>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    bpf(BPF_MAP_UPDATE_ELEM, &mut element(map, key, value)).map(drop)
}

/// The same into a map whose values have locks, each of which is taken meanwhile.
pub(crate) fn map_put_locked<K: Copy, V: Copy>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    const LOCKED: u64 = 4;
    bpf(BPF_MAP_UPDATE_ELEM, &mut ElementAttr { flags: LOCKED, ..element(map, key, value) }).map(drop)
}

/// Takes a key out; false when it was not there.
pub(crate) fn map_remove<K: Copy>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    match bpf(BPF_MAP_DELETE_ELEM, &mut element(map, key, std::ptr::null::<u8>())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|_| true),
    }
}

/// The value under exactly this key.
pub(crate) fn map_get<K: Copy, V: Copy + Default>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = V::default();
    match bpf(BPF_MAP_LOOKUP_ELEM, &mut element(map, key, std::ptr::from_mut(&mut value))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(|_| Some(value)),
    }
}

/// The key behind this one, or the first.
pub(crate) fn map_next_key<K: Copy + Default>(map: BorrowedFd<'_>, key: Option<&K>) -> io::Result<Option<K>> {
    let mut next = K::default();
    let after = key.map_or(std::ptr::null(), std::ptr::from_ref);
    match bpf(BPF_MAP_GET_NEXT_KEY, &mut element(map, after, std::ptr::from_mut(&mut next))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(|_| Some(next)),
    }
}

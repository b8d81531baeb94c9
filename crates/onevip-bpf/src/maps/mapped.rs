//! A BPF array in this process's memory: read and written with single loads and stores, no system calls.

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// A mapped array of one element, which consists of `entries` words or structs.
#[derive(Debug)]
pub(crate) struct MappedArray {
    start: NonNull<u8>,
    len: usize,
    stride: usize,
    entries: usize,
}

// SAFETY: the mapping is owned and stays where it is until dropped; all access to it is through atomics, or through
// pointers whose users (see `bytes_of`) say what orders them.
unsafe impl Send for MappedArray {}
// SAFETY: as above.
unsafe impl Sync for MappedArray {}

impl MappedArray {
    /// Maps the array behind `fd`, made with `BPF_F_MMAPABLE`: `entries` things of `stride` bytes.
    pub(crate) fn new(fd: impl AsFd, stride: usize, entries: usize, writable: bool) -> io::Result<Self> {
        let len = stride * entries;
        let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let protection =
            if writable { ProtFlags::PROT_READ | ProtFlags::PROT_WRITE } else { ProtFlags::PROT_READ };
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { mmap(None, size, protection, MapFlags::MAP_SHARED, fd, 0)? };
        Ok(Self { start: start.cast(), len, stride, entries })
    }

    /// The element at `index`, where elements are 32-bit words.
    pub(crate) fn word32(&self, index: usize) -> &AtomicU32 {
        assert!(self.stride == 4);
        // SAFETY: `element` is within the mapping and aligned to its stride; the memory lives as long as `self`, and
        // everybody who shares it (the programs, other processes) accesses it by whole words.
        unsafe { self.element(index).cast::<AtomicU32>().as_ref() }
    }

    /// The element at `index`, where elements are 64-bit words.
    pub(crate) fn word64(&self, index: usize) -> &AtomicU64 {
        assert!(self.stride == 8);
        // SAFETY: as in `word32`.
        unsafe { self.element(index).cast::<AtomicU64>().as_ref() }
    }

    /// Where the element at `index` lies.
    pub(crate) fn element(&self, index: usize) -> NonNull<u8> {
        assert!(index < self.entries, "index {index} of an array of {}", self.entries);
        // SAFETY: the offset is below `len`, so the result is inside the mapping.
        unsafe { self.start.add(index * self.stride) }
    }
}

impl Drop for MappedArray {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`, and no reference into it outlives `self`.
        let result = unsafe { munmap(self.start.cast(), self.len) };
        debug_assert!(result.is_ok());
    }
}

//! A BPF array in this process's memory: read and written with single loads and stores, no system calls.

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// The kernel keeps array elements this many bytes apart at least.
const ELEMENT_ALIGN: usize = 8;

/// A mapped array of `entries` elements.
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
    /// Maps the array behind `fd`, made with `BPF_F_MMAPABLE`, whose elements are `value_size` bytes.
    pub(crate) fn new(fd: impl AsFd, value_size: usize, entries: usize, writable: bool) -> io::Result<Self> {
        let stride = value_size.next_multiple_of(ELEMENT_ALIGN);
        let len = stride * entries;
        let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let protection =
            if writable { ProtFlags::PROT_READ | ProtFlags::PROT_WRITE } else { ProtFlags::PROT_READ };
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { mmap(None, size, protection, MapFlags::MAP_SHARED, fd, 0)? };
        Ok(Self { start: start.cast(), len, stride, entries })
    }

    /// The element at `index` as a 32-bit word.
    pub(crate) fn word32(&self, index: usize) -> &AtomicU32 {
        // SAFETY: `element` is within the mapping and aligned to 8; the memory lives as long as `self`, and everybody
        // who shares it (the programs, other processes) accesses it by whole words.
        unsafe { self.element(index).cast::<AtomicU32>().as_ref() }
    }

    /// The element at `index` as a 64-bit word. The elements must be that large.
    pub(crate) fn word64(&self, index: usize) -> &AtomicU64 {
        assert!(self.stride >= 8);
        // SAFETY: as in `word32`; an element is at least 8 bytes.
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

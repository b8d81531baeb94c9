//! Links: programs attached to interfaces and cgroups, and the chains in which tcx runs them.

use super::bpf::{BPF_LINK_CREATE, BPF_LINK_DETACH, BPF_LINK_UPDATE, BPF_PROG_QUERY, bpf, bpf_fd};
use super::info::link_info;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// `enum bpf_attach_type`: where a link attaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AttachPoint {
    TcxIngress = 46,
    TcxEgress = 47,
    Xdp = 37,
    Bind4 = 8,
    Bind6 = 9,
}

/// `BPF_F_BEFORE`: with no program named, before all others.
pub(crate) const BEFORE_ALL: u32 = 1 << 3;
/// `XDP_FLAGS_SKB_MODE`.
pub(crate) const XDP_GENERIC: u32 = 1 << 1;
/// `XDP_FLAGS_DRV_MODE`.
pub(crate) const XDP_NATIVE: u32 = 1 << 2;

/// One program of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ChainEntry {
    pub program: u32,
    /// Of its link; 0 when it was attached without one.
    pub link: u32,
}

/// `BPF_MPROG_MAX`: no chain is longer.
const CHAIN_MAX: usize = 64;

#[repr(C)]
struct QueryAttr {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    link_ids: u64,
    link_flags: u64,
    revision: u64,
}

/// The programs that tcx runs there, the first first. ENOENT when there are none, EINVAL when the kernel has no tcx.
pub(crate) fn chain(ifindex: u32, at: AttachPoint) -> io::Result<Vec<ChainEntry>> {
    let (mut programs, mut links) = ([0u32; CHAIN_MAX], [0u32; CHAIN_MAX]);
    let mut attr = QueryAttr {
        ifindex,
        attach_type: at as u32,
        query_flags: 0,
        attach_flags: 0,
        program_ids: programs.as_mut_ptr() as u64,
        count: CHAIN_MAX as u32,
        padding: 0,
        program_flags: 0,
        link_ids: links.as_mut_ptr() as u64,
        link_flags: 0,
        revision: 0,
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    let places = programs.iter().zip(&links).map(|(&program, &link)| ChainEntry { program, link });
    Ok(places.take(attr.count as usize).collect())
}

#[repr(C)]
struct LinkCreateAttr {
    program: u32,
    /// The index of an interface, or a descriptor.
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    expected_revision: u64,
}

/// Attaches a program to an interface for as long as the link is open or pinned.
pub(crate) fn link_create(
    program: BorrowedFd<'_>,
    ifindex: u32,
    at: AttachPoint,
    flags: u32,
) -> io::Result<OwnedFd> {
    create(program, ifindex, at, flags)
}

/// Attaches a program to a cgroup for as long as the link is open or pinned, and the cgroup is there.
pub(crate) fn link_create_on(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    at: AttachPoint,
) -> io::Result<OwnedFd> {
    create(program, cgroup.as_raw_fd() as u32, at, 0)
}

fn create(program: BorrowedFd<'_>, target: u32, at: AttachPoint, flags: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr {
        program: program.as_raw_fd() as u32,
        target,
        attach_type: at as u32,
        flags,
        relative: 0,
        padding: 0,
        expected_revision: 0,
    };
    bpf_fd(BPF_LINK_CREATE, &mut attr)
}

/// `BPF_LINK_TYPE_CGROUP`.
const LINK_CGROUP: u32 = 3;

/// Whether a link is alive and on a cgroup.
pub(crate) fn link_is_on_cgroup(fd: BorrowedFd<'_>) -> bool {
    // The first member for cgroups is their id, which is 0 once the link has been detached; its lower half is the
    // member for interfaces, and no half of an id in use is 0 before four thousand million groups were made.
    link_info(fd).is_ok_and(|info| info.kind == LINK_CGROUP && info.ifindex != 0)
}

#[repr(C)]
struct LinkUpdateAttr {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Puts another program in the place of a link's, without a packet in between that meets none.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdateAttr {
        link: link.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        flags: 0,
        old_program: 0,
    };
    bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Detaches a link now, whoever else still has it open.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &mut (link.as_raw_fd() as u32)).map(drop)
}

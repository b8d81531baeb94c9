//! What the kernel says about maps, programs and links, and how to find them by their ids.

use super::bpf::{
    BPF_LINK_GET_FD_BY_ID, BPF_LINK_GET_NEXT_ID, BPF_MAP_GET_FD_BY_ID, BPF_OBJ_GET_INFO_BY_FD,
    BPF_PROG_GET_FD_BY_ID, bpf, bpf_fd,
};
use std::fs;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What kind of object a descriptor is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ObjectKind {
    Map,
    Program,
    Link,
    Other,
}

/// The kind of object behind `fd`: asking one kind of object for another kind's info gives nonsense, not an error.
pub(crate) fn kind(fd: BorrowedFd<'_>) -> ObjectKind {
    let name = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default();
    match name.to_string_lossy().as_ref() {
        "anon_inode:bpf-map" => ObjectKind::Map,
        "anon_inode:bpf-prog" => ObjectKind::Program,
        "anon_inode:bpf_link" | "anon_inode:bpf-link" => ObjectKind::Link,
        _ => ObjectKind::Other,
    }
}

#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

fn info<T>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr = InfoAttr {
        bpf_fd: fd.as_raw_fd() as u32,
        info_len: size_of::<T>() as u32,
        info: std::ptr::from_mut(info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

/// The head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default, Debug, Clone, Copy)]
pub(crate) struct MapInfo {
    pub kind: u32,
    pub id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
    pub name: [u8; 16],
}

pub(crate) fn map_info(fd: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut map = MapInfo::default();
    info(fd, &mut map)?;
    Ok(map)
}

/// The head of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default, Debug, Clone, Copy)]
pub(crate) struct ProgramInfo {
    pub kind: u32,
    pub id: u32,
    /// Hash over the instructions, without what differs from one load to the next.
    pub tag: [u8; 8],
    lengths_and_buffers: [u64; 3],
    pub load_time_ns: u64,
    uid: u32,
    map_count: u32,
    map_ids: u64,
    pub name: [u8; 16],
}

pub(crate) fn program_info(fd: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut program = ProgramInfo::default();
    info(fd, &mut program)?;
    Ok(program)
}

/// The head of `struct bpf_link_info`, as tcx and XDP links fill it in.
#[repr(C)]
#[derive(Default, Debug, Clone, Copy)]
pub(crate) struct LinkInfo {
    pub kind: u32,
    pub id: u32,
    pub program_id: u32,
    padding: u32,
    /// 0 once the link has been detached or its interface is gone.
    pub ifindex: u32,
    /// tcx only.
    pub attach_type: u32,
}

/// `BPF_LINK_TYPE_XDP`.
pub(crate) const LINK_XDP: u32 = 6;
/// `BPF_LINK_TYPE_TCX`.
pub(crate) const LINK_TCX: u32 = 11;

pub(crate) fn link_info(fd: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut link = LinkInfo::default();
    info(fd, &mut link)?;
    Ok(link)
}

#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

fn by_id(command: libc::c_long, id: u32) -> io::Result<OwnedFd> {
    bpf_fd(command, &mut IdAttr { id, ..IdAttr::default() })
}

/// Opens a program, whoever loaded it.
pub(crate) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    by_id(BPF_PROG_GET_FD_BY_ID, id)
}

/// Opens a map, whoever made it.
pub(crate) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    by_id(BPF_MAP_GET_FD_BY_ID, id)
}

/// Opens a link, whoever made it.
pub(crate) fn link_by_id(id: u32) -> io::Result<OwnedFd> {
    by_id(BPF_LINK_GET_FD_BY_ID, id)
}

/// The ids of a program's maps, up to 64 of them.
pub(crate) fn program_maps(program: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; 64];
    let mut head = ProgramInfo {
        map_count: ids.len() as u32,
        map_ids: ids.as_mut_ptr() as u64,
        ..ProgramInfo::default()
    };
    info(program, &mut head)?;
    ids.truncate(head.map_count as usize);
    Ok(ids)
}

/// The id of the link by which an XDP program is on an interface of this network namespace; 0 when it has none. All
/// links of all namespaces are gone through, so the program must be known to be there.
pub(crate) fn xdp_link_of(program_id: u32, ifindex: u32) -> io::Result<u32> {
    let mut attr = IdAttr::default();
    loop {
        match bpf(BPF_LINK_GET_NEXT_ID, &mut attr) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other?,
        };
        attr = IdAttr { id: attr.next_id, ..IdAttr::default() };
        // It may be gone by now.
        let info = link_by_id(attr.id).and_then(|link| link_info(link.as_fd()));
        if info.is_ok_and(|i| i.kind == LINK_XDP && i.program_id == program_id && i.ifindex == ifindex) {
            return Ok(attr.id);
        }
    }
}

/// A name as the kernel keeps it, up to its NUL.
pub(crate) fn name_of(name: &[u8; 16]) -> String {
    String::from_utf8_lossy(name.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
}

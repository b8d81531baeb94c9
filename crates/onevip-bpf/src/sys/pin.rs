//! Pins: BPF objects as files of a bpffs.

use super::bpf::{BPF_OBJ_GET, BPF_OBJ_PIN, bpf, bpf_fd};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a pin is called while it is about to replace another.
pub(crate) const FRESH_SUFFIX: &str = "_fresh";

fn path_c(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

#[repr(C)]
#[derive(Default)]
struct ObjAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Pins `fd` at `path`, which must not exist.
fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = path_c(path)?;
    let mut attr = ObjAttr { pathname: path.as_ptr() as u64, bpf_fd: fd.as_raw_fd() as u32, file_flags: 0 };
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Pins `fd` at `path`, in place of whatever is pinned there.
pub(crate) fn pin_over(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(FRESH_SUFFIX);
    let fresh = Path::new(&fresh);
    remove_if_there(fresh)?;
    pin(fd, fresh)?;
    fs::rename(fresh, path)
}

/// Removes a file; one that is not there is as good as removed.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Opens what is pinned at `path`.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = path_c(path)?;
    bpf_fd(BPF_OBJ_GET, &mut ObjAttr { pathname: path.as_ptr() as u64, ..ObjAttr::default() })
}

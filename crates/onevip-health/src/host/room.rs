//! Room on a file system, for data and for names; and whether it can be written to at all.

use nix::sys::statvfs::{FsFlags, statvfs};
use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::Path;

/// How a file system stands.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Room {
    /// Percent of blocks, or of inodes where fewer of those are left, that users may still fill.
    pub percent_left: f64,
    /// Whether it is the inodes that are short.
    pub inodes: bool,
    /// Whether nothing can be written.
    pub read_only: bool,
}

/// Looks; none where that is refused. Waits for a disk or server that hangs.
pub fn look(path: &Path) -> Option<Room> {
    let stat = statvfs(path).ok()?;
    let percent = |left: u64, all: u64| if all == 0 { 100.0 } else { left as f64 / all as f64 * 100.0 };
    let (blocks, inodes) =
        (percent(stat.blocks_available(), stat.blocks()), percent(stat.files_available(), stat.files()));
    Some(Room {
        percent_left: blocks.min(inodes),
        inodes: inodes < blocks,
        read_only: stat.flags().contains(FsFlags::ST_RDONLY) && !is_writable_elsewhere(path),
    })
}

/// Whether it is this mount alone that cannot be written, not the file system: so it is for a daemon that its service
/// manager keeps from writing (`ProtectSystem=`). What is not understood is taken to be read-only.
fn is_writable_elsewhere(path: &Path) -> bool {
    let Ok(found) = fs::metadata(path) else { return false };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let device = format!("{}:{}", libc::major(found.st_dev()), libc::minor(found.st_dev()));
    super_options(&mounts, &device).is_some_and(|options| options.split(',').any(|option| option == "rw"))
}

/// The options of the file system on a device, whatever each mount adds to them (proc_pid_mountinfo(5)).
fn super_options<'a>(mounts: &'a str, device: &str) -> Option<&'a str> {
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(device))?;
    line.split_once(" - ")?.1.split(' ').nth(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_is_read_only_says_nothing_of_the_file_system() {
        let mounts = "29 1 254:1 / / ro,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n\
                      30 29 254:2 / /srv rw - ext4 /dev/vdb ro\n";
        assert_eq!(super_options(mounts, "254:1"), Some("rw,errors=remount-ro"));
        assert_eq!(super_options(mounts, "254:2"), Some("ro"));
        assert_eq!(super_options(mounts, "254:3"), None);
    }

    #[test]
    fn proc_has_no_size_and_is_not_full() {
        assert_eq!(
            look(Path::new("/proc")).map(|room| (room.percent_left, room.inodes)),
            Some((100.0, false))
        );
        assert_eq!(look(Path::new("/nonexistent")), None);
        assert!(look(Path::new("/")).is_some_and(|room| (0.0..=100.0).contains(&room.percent_left)));
    }
}

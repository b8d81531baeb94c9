//! Room on a file system, for data and for names; and whether it can be written to at all.

use nix::sys::statvfs::{FsFlags, statvfs};
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
        read_only: stat.flags().contains(FsFlags::ST_RDONLY),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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

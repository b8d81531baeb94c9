//! Another onevip on the same interface: its programs, and whether somebody keeps them alive.

use crate::clock::boot_time_ns;
use crate::load::chain::{OURS, tcx};
use crate::maps::layout::VIPS_MAX;
use crate::neighbour::Neighbour;
use crate::sys;
use crate::sys::netlink::{TcDirection, TrafficControl};
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;

/// Another onevip's programs on an interface: left behind by one whose pins are out of sight, or of one that lives.
#[derive(Debug, Default)]
pub(crate) struct RivalPrograms {
    programs: Vec<u32>,
    /// Programs that are pinned where ours are, but read other maps: an earlier daemon's, whose maps cannot be used; or
    /// a living one's, which puts its pins back in a directory that was mounted over its own.
    pinned: Vec<u32>,
    /// tcx and XDP links, by which they are taken off.
    links: Vec<u32>,
}

/// What tells our own programs from another onevip's.
pub(crate) struct OwnIds {
    /// Ids of our maps: a program that reads one of them is ours.
    pub maps: Vec<u32>,
    /// Ids of programs that are pinned where ours are.
    pub programs: Vec<u32>,
    /// Ids of links that are pinned where ours are.
    pub links: Vec<u32>,
}

impl RivalPrograms {
    /// Finds the programs of our names on an interface that are not ours.
    pub(crate) fn find(ifindex: u32, own: &OwnIds) -> io::Result<Self> {
        let mut found = Self::default();
        for direction in TcDirection::BOTH {
            for place in tcx(ifindex, direction)? {
                found.note(place.program, place.link, own);
            }
        }
        let mut tc = TrafficControl::open()?;
        for id in tc.xdp_programs(ifindex)? {
            if is_called_ours(id) {
                found.note(id, sys::xdp_link_of(id, ifindex)?, own);
            }
        }
        for direction in TcDirection::BOTH {
            // They need no taking off: our own filters take their places.
            for filter in tc.filters(ifindex, direction)?.iter().filter(|filter| filter.is_ours()) {
                found.note(filter.program_id, 0, own);
            }
        }
        Ok(found)
    }

    fn note(&mut self, program: u32, link: u32, own: &OwnIds) {
        if !is_called_ours(program) || reads_one_of(program, &own.maps) {
            return;
        }
        if (link != 0 && own.links.contains(&link)) || own.programs.contains(&program) {
            self.pinned.push(program);
            return;
        }
        self.programs.push(program);
        self.links.extend((link != 0).then_some(link));
    }

    /// Whether there are none that would have to go.
    pub(crate) fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    /// Who keeps them alive, if anybody does: a daemon that has their lease open, or renews it.
    pub(crate) fn holder(&self) -> Option<LeaseHolder> {
        let leases: Vec<RivalLease> = self.programs.iter().filter_map(|&id| RivalLease::of(id)).collect();
        let pinned = self.pinned.iter().filter_map(|&id| RivalLease::of(id));
        let maps = leases.iter().map(|lease| lease.map_id).chain(pinned.map(|lease| lease.map_id));
        let pid = maps.collect::<Vec<_>>().into_iter().find_map(daemon_with_map);
        match pid {
            Some(pid) => Some(LeaseHolder::Process(pid)),
            None if leases.iter().any(RivalLease::lives) => Some(LeaseHolder::Unseen),
            None => None,
        }
    }

    /// Takes them off the interface.
    pub(crate) fn take_off(&self) -> io::Result<()> {
        self.links.iter().try_for_each(|&id| match sys::link_by_id(id) {
            Ok(link) => sys::link_detach(link.as_fd()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        })
    }
}

fn is_called_ours(program_id: u32) -> bool {
    OURS.contains(&Neighbour::of(program_id).name.as_str())
}

fn reads_one_of(program_id: u32, maps: &[u32]) -> bool {
    let read = sys::program_by_id(program_id).and_then(|program| sys::program_maps(program.as_fd()));
    read.is_ok_and(|read| read.iter().any(|id| maps.contains(id)))
}

/// Who keeps another onevip's programs alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LeaseHolder {
    /// The daemon with this process id.
    Process(u32),
    /// Somebody that this process cannot see: in another container, or it has only just died.
    Unseen,
}

impl fmt::Display for LeaseHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "pid {pid}"),
            Self::Unseen => f.write_str("its process is not to be seen from here: look into containers"),
        }
    }
}

/// The lease of a program, found by the map that it reads.
struct RivalLease {
    map_id: u32,
    deadlines_ns: [u64; VIPS_MAX],
}

impl RivalLease {
    fn of(program_id: u32) -> Option<Self> {
        let program = sys::program_by_id(program_id).ok()?;
        sys::program_maps(program.as_fd()).ok()?.into_iter().find_map(|map_id| {
            let map = sys::map_by_id(map_id).ok()?;
            let info = sys::map_info(map.as_fd()).ok()?;
            let mut deadlines_ns = [0; VIPS_MAX];
            let fits = info.value_size as usize == size_of_val(&deadlines_ns);
            if sys::name_of(&info.name) != "onevip_lease" || !fits {
                return None;
            }
            sys::array_read(map.as_fd(), 0, &mut deadlines_ns).ok()?;
            Some(Self { map_id, deadlines_ns })
        })
    }

    fn lives(&self) -> bool {
        self.deadlines_ns.iter().any(|&deadline| deadline > boot_time_ns())
    }
}

/// So many descriptors of a process are looked at: more than a daemon may have.
const DESCRIPTORS_MAX: usize = 65_536;

/// The process id of another `onevip run` that has this map open.
fn daemon_with_map(map_id: u32) -> Option<u32> {
    let wanted = format!("map_id:\t{map_id}");
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut daemons = pids.filter(|&pid: &u32| pid != std::process::id() && is_daemon(pid));
    daemons.find(|pid| {
        let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
        files
            .take(DESCRIPTORS_MAX)
            .filter_map(|file| fs::read_to_string(file.path()).ok())
            .any(|text| text.lines().any(|line| line == wanted))
    })
}

/// By its arguments: whoever lies there is told that it is running, and no more.
fn is_daemon(pid: u32) -> bool {
    let is_named_so = bounded(&format!("/proc/{pid}/comm")).trim_ascii_end() == b"onevip";
    let runs =
        || bounded(&format!("/proc/{pid}/cmdline")).split(|&byte| byte == 0).any(|word| word == b"run");
    is_named_so && runs()
}

/// The beginning of a file of a process, which may be anybody's and as long as its owner likes: 4096 bytes have room
/// for the arguments of a daemon.
fn bounded(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        // What cannot be read says nothing, as a process that is gone.
        let _ = file.take(4096).read_to_end(&mut bytes);
    }
    bytes
}

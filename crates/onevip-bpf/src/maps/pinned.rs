//! The pinned maps: which there are, what each must look like, and a look at one.

use crate::error::{Error, Result};
use crate::maps::layout::{
    ALLOWED_MAX, BAN_PLACES, BEATS_BYTES, EXCEPTIONS_MAX, FLOWS, ORPHANS, PROGRAMS, REASONS_MAX,
    REFUSALS_BYTES, RawAllowedKey, RawBan, RawBanKey4, RawBanKey6, RawClients, RawConfig, RawEffects,
    RawException, RawExceptionKey, RawFlow, RawSource, RawTracing, SOURCES, TRACES_BYTES, VIPS_MAX, WORDS,
};
use crate::sys;
use std::mem::size_of;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The maps: name of the pin.
pub(crate) const MAPS: [&str; 20] = [
    "config", "flags", "last_syn", "lease", "orphans", "settled", "excepted", "witness", "counters", "beats",
    "bans4", "bans6", "banned", "sources", "allowed", "refusals", "tracing", "traces", "effects", "clients",
];

const ARRAY: u32 = 2;
const PERCPU_ARRAY: u32 = 6;
const RINGBUF: u32 = 27;
const LPM_TRIE: u32 = 11;
const NO_PREALLOC: u32 = 1;
const MMAPABLE: u32 = 1 << 10;

/// What a map must look like to be ours: kind, key size, value size, entries, flags.
pub(super) type Shape = (u32, u32, u32, u32, u32);

/// The shape of the map with this pin name.
pub(super) fn shape(map: &str) -> Shape {
    match map {
        "config" => (ARRAY, 4, size_of::<RawConfig>() as u32, 1, MMAPABLE),
        "flags" => (ARRAY, 4, 4 * WORDS as u32, 1, MMAPABLE),
        "last_syn" => (ARRAY, 4, 8 * WORDS as u32, 1, MMAPABLE),
        "lease" => (ARRAY, 4, 8 * VIPS_MAX as u32, 1, MMAPABLE),
        "orphans" => (ARRAY, 4, 8 * ORPHANS as u32, 1, MMAPABLE),
        "settled" => (ARRAY, 4, 8 * VIPS_MAX as u32, 1, MMAPABLE),
        "witness" => (ARRAY, 4, (size_of::<RawFlow>() * FLOWS) as u32, 1, MMAPABLE),
        "counters" => (PERCPU_ARRAY, 4, 8, (PROGRAMS * REASONS_MAX) as u32, 0),
        "excepted" => {
            let (key, value) = (size_of::<RawExceptionKey>() as u32, size_of::<RawException>() as u32);
            (LPM_TRIE, key, value, 2 * EXCEPTIONS_MAX as u32, NO_PREALLOC)
        }
        "effects" => (PERCPU_ARRAY, 4, size_of::<RawEffects>() as u32, 1, 0),
        "clients" => (ARRAY, 4, size_of::<RawClients>() as u32, 1, MMAPABLE),
        "tracing" => (ARRAY, 4, size_of::<RawTracing>() as u32, 1, MMAPABLE),
        "traces" => (RINGBUF, 0, 0, TRACES_BYTES as u32, 0),
        "beats" => (RINGBUF, 0, 0, BEATS_BYTES as u32, 0),
        "bans4" => trie(size_of::<RawBanKey4>()),
        "bans6" => trie(size_of::<RawBanKey6>()),
        "banned" => (ARRAY, 4, 8, 1, MMAPABLE),
        "sources" => (ARRAY, 4, size_of::<RawSource>() as u32, SOURCES as u32, 0),
        "allowed" => (LPM_TRIE, size_of::<RawAllowedKey>() as u32, 1, ALLOWED_MAX as u32, NO_PREALLOC),
        "refusals" => (RINGBUF, 0, 0, REFUSALS_BYTES as u32, 0),
        other => unreachable!("no map is called {other}"),
    }
}

const fn trie(key_size: usize) -> Shape {
    (LPM_TRIE, key_size as u32, size_of::<RawBan>() as u32, BAN_PLACES as u32, NO_PREALLOC)
}

/// What a look at one pinned map found.
pub(crate) enum Pinned {
    Absent,
    Sound(OwnedFd),
    Unsound(String),
}

/// Looks at the map pinned under this name: is it ours, and of this layout?
pub(crate) fn inspect(dir: &Path, map: &str) -> Result<Pinned> {
    let path = dir.join(map);
    let Some(fd) = open(&path)? else { return Ok(Pinned::Absent) };
    let kind = sys::kind(fd.as_fd());
    if kind != sys::ObjectKind::Map {
        return Err(Error::ForeignPin { path, what: format!("a {kind:?} where a Map belongs") });
    }
    let info =
        sys::map_info(fd.as_fd()).map_err(Error::system(format!("look at the map {}", path.display())))?;
    let name = sys::name_of(&info.name);
    if name != format!("onevip_{map}") {
        return Err(Error::ForeignPin { path, what: format!("a map that is called '{name}'") });
    }
    let found = (info.kind, info.key_size, info.value_size, info.max_entries, info.flags);
    if found != shape(map) {
        return Ok(Pinned::Unsound(format!("{map} has another layout")));
    }
    Ok(Pinned::Sound(fd))
}

/// Opens the map pinned under this name.
///
/// # Errors
/// When there is none, or it is not ours or of another layout.
pub(crate) fn sound(dir: &Path, map: &str) -> Result<OwnedFd> {
    match inspect(dir, map)? {
        Pinned::Sound(fd) => Ok(fd),
        Pinned::Absent => Err(Error::NotSetUp(dir.join(map))),
        Pinned::Unsound(why) => Err(Error::Damaged { path: dir.join(map), why }),
    }
}

/// Opens a pin; `None` when there is none.
pub(crate) fn open(path: &Path) -> Result<Option<OwnedFd>> {
    match sys::open(path) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::System { action: format!("open the pin {}", path.display()), source }),
    }
}

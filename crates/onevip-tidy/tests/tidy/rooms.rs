//! The rooms of the program, from the ground up: each may name what lies below it, nothing above.

use crate::Failure;
use crate::imports::of_crate;
use crate::rust::RustFile;
use std::collections::BTreeSet;

/// The crate that has rooms.
pub const CRATE: &str = "onevip";

/// Its rooms, the ground first.
pub const ROOMS: &[&str] = &[
    "base",
    "control",
    "events",
    "rpc",
    "engine",
    "sessions",
    "bans",
    "limits",
    "peer_check",
    "report",
    "doctor",
    "daemon",
    "cmd",
    "cli",
];

/// The modules that are no room, and the imports that run upward.
pub fn failures(files: &[RustFile]) -> Vec<Failure> {
    let mut out = Vec::new();
    let mut strange = BTreeSet::new();
    if !files.iter().any(|file| file.krate == CRATE) {
        out.push(Failure::new(
            "crates",
            0,
            CRATE,
            format!("there is no crate {CRATE} whose rooms could be looked at"),
        ));
    }
    for file in files.iter().filter(|file| file.krate == CRATE && !file.test) {
        let Some(room) = file.module.as_ref().and_then(|module| module.first()) else { continue };
        if floor(room).is_none() && strange.insert(room) {
            let text = format!("`{room}` is no room of crates/{CRATE}; the rooms are {}", ROOMS.join(", "));
            out.push(Failure::new(&file.path, 0, room, text));
        }
    }
    for import in of_crate(files, CRATE) {
        let Some(from) = files[import.from].module.as_ref().and_then(|module| module.first()) else {
            continue;
        };
        let Some(to) = import.path.first() else { continue };
        if let (Some(low), Some(high)) = (floor(from), floor(to))
            && low < high
        {
            let text =
                format!("`{from}` must not name `crate::{}`: that lies above it", import.path.join("::"));
            out.push(Failure::new(&files[import.from].path, import.line, format!("{from} → {to}"), text));
        }
    }
    out
}

fn floor(room: &str) -> Option<usize> {
    ROOMS.iter().position(|one| *one == room)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tree, rust};

    #[test]
    fn a_crate_that_is_not_there_is_found() {
        assert_eq!(failures(&[]).len(), 1);
    }

    #[test]
    fn an_upward_import_and_a_module_that_is_no_room_are_found() {
        let tree = Tree::made_up(&[
            ("crates/onevip/src/bans/mod.rs", "use crate::base::Plan;\nuse crate::daemon::run;"),
            ("crates/onevip/src/base/mod.rs", "pub struct Plan; #[cfg(test)] mod tests { use crate::cli; }"),
            ("crates/onevip/src/cellar.rs", ""),
            ("crates/onevip/src/daemon.rs", "use crate::bans;"),
        ]);
        let found = failures(&rust::parse(&tree).expect("it is Rust"));
        let keys: Vec<_> = found.iter().map(|one| (one.line, one.key.as_str())).collect();
        assert_eq!(keys, [(0, "cellar"), (2, "bans → daemon")]);
    }
}

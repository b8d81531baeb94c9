//! The file that says that nobody shall log in: an administrator makes it, or `shutdown` some minutes before the end.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Where it may be (nologin(5), pam_nologin(8)).
const PLACES: [&str; 2] = ["etc/nologin", "run/nologin"];
/// How much of its text is shown, in characters.
const SHOWN: usize = 80;

/// What it says, if it is there.
pub fn look(root: &Path) -> Option<String> {
    PLACES.iter().find_map(|place| {
        let path = root.join(place);
        path.symlink_metadata().ok()?;
        let mut text = String::new();
        // It counts even if it cannot be read.
        let _ = File::open(&path).and_then(|file| file.take(1024).read_to_string(&mut text));
        let line: String = text
            .lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("")
            .trim()
            .chars()
            .take(SHOWN)
            .collect();
        let line = line.trim_end_matches('.');
        Some(if line.is_empty() { format!("/{place} is there") } else { format!("/{place}: {line}") })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_in_both_places_and_quoted() {
        let root = std::env::temp_dir().join(format!("onevip-nologin-{}", std::process::id()));
        std::fs::create_dir_all(root.join("run")).unwrap();
        assert_eq!(look(&root), None);
        std::fs::write(root.join("run/nologin"), "\nSystem is going down.\n").unwrap();
        assert_eq!(look(&root).as_deref(), Some("/run/nologin: System is going down"));
        std::fs::write(root.join("run/nologin"), "").unwrap();
        assert_eq!(look(&root).as_deref(), Some("/run/nologin is there"));
        std::fs::remove_dir_all(&root).unwrap();
    }
}

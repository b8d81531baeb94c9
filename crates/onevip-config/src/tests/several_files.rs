//! The main file, `conf.d`, and files that are none.

use super::*;
use onevip_core::membership::Failback;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that goes when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("onevip-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(path.join("conf.d")).expect("the temporary folder is writable");
        Self(path)
    }

    /// Writes a file and returns its path.
    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("the temporary folder is writable");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `file:line` and reason of everything found.
fn found_in(path: &Path, folder: &Folder) -> Vec<(String, String)> {
    let (_, found) = Config::inspect(path);
    let short = |one: &Diagnostic| {
        let place = one.place.to_string();
        place.strip_prefix(&format!("{}/", folder.0.display())).unwrap_or(&place).to_owned()
    };
    found.iter().map(|one| (short(one), one.reason.clone())).collect()
}

#[test]
fn files_in_conf_d_add_nodes_and_vips_in_the_order_of_their_names() {
    let folder = Folder::new();
    let main = folder.write("onevip.toml", file("", "", &node(1, "")));
    folder.write("conf.d/20.toml", "[[vip]]\nname = \"b\"\naddresses = [\"198.51.100.20\"]");
    folder.write("conf.d/10.toml", format!("failback = \"now\"\n{}", node(2, "")));
    folder.write("conf.d/.hidden.toml", "nonsense");
    folder.write("conf.d/README", "nonsense");
    let config = Config::load(&main).expect("no mistakes");
    assert_eq!(config.failback, Failback::Now);
    assert_eq!(config.nodes.len(), 2);
    assert_eq!(config.vips.iter().map(|vip| vip.name.as_str()).collect::<Vec<_>>(), ["login", "b"]);
}

#[test]
fn a_key_set_in_two_files_names_both_places() {
    let folder = Folder::new();
    let main = folder.write("onevip.toml", file("beat = \"60ms\"", "", ""));
    folder.write("conf.d/a.toml", "# one\nbeat = \"70ms\"\n");
    let (config, found) = Config::inspect(&main);
    let [one] = found.iter().collect::<Vec<_>>()[..] else { panic!("{found}") };
    assert!(config.is_none());
    assert_eq!(one.reason, "`beat` is set in two files");
    assert!(one.place.to_string().ends_with("conf.d/a.toml:2:1"), "{found}");
    assert!(one.also[0].0.to_string().ends_with("onevip.toml:2:1"), "{found}");
    assert!(one.remedy.contains("keep one of the two"));
    let shown = found.render(false);
    assert!(shown.contains("beat = \"60ms\"") && shown.contains("beat = \"70ms\""), "{shown}");
}

#[test]
fn mistakes_of_all_files_come_at_once_and_name_their_file() {
    let folder = Folder::new();
    let main = folder.write("onevip.toml", file("beat = 5", "", ""));
    folder.write("conf.d/a.toml", "[[node]]\nname = \"x\"\nid = 1\naddress = \"198.51.100.30\"");
    folder.write("conf.d/b.toml", "what\n");
    let found = found_in(&main, &folder);
    let places: Vec<&str> = found.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, ["onevip.toml:2:8", "conf.d/a.toml:3:6", "conf.d/b.toml:1:5"], "{found:#?}");
}

#[test]
fn a_file_that_is_none_is_refused_with_a_remedy() {
    let folder = Folder::new();
    let reason = |path: &Path| Config::load(path).expect_err("not a configuration").render(false);
    let shown = reason(&folder.0.join("absent.toml"));
    assert!(shown.contains("cannot be read: No such file") && shown.contains("--config"), "{shown}");
    let shown = reason(&folder.0);
    assert!(shown.contains("cannot be read: Is a directory"), "{shown}");
    let shown = reason(Path::new("/dev/zero"));
    assert!(shown.contains("larger than 256 KiB"), "{shown}");
    let shown = reason(&folder.write("latin1.toml", b"cluster = \"lab\"\n# caf\xe9\n"));
    assert!(shown.contains("not UTF-8 text") && shown.contains("latin1.toml:2:6"), "{shown}");
    let shown = reason(&folder.write("empty.toml", ""));
    assert!(shown.contains("there is no [[vip]]") && shown.contains("there is no [[node]]"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_examined_and_shown_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let folder = Folder::new();
        let (config, found) = Config::inspect(&folder.write("onevip.toml", bytes));
        prop_assert!(config.is_none());
        prop_assert!(!found.render(true).is_empty());
    }
}

//! The settings that there are: which tables a configuration file may have, and which keys in them.

use crate::Tree;
use std::collections::{BTreeMap, BTreeSet};

/// Tables by their names (`""` is the top of the file), and the keys of each.
pub type Settings = BTreeMap<String, BTreeSet<String>>;

/// The example, which shows every setting of the table in `onevip-config`, most of them commented out: a test there sees
/// to it.
const EXAMPLE: &str = "packaging/onevip.toml";

/// All settings. This is the one place that says where they are known from.
pub fn known(tree: &Tree) -> Settings {
    let mut all = Settings::from([(String::new(), BTreeSet::new())]);
    let mut table = String::new();
    for line in tree.text(EXAMPLE).unwrap_or_default().lines() {
        let line = line.trim().trim_start_matches('#').trim_start();
        if let Some(name) = table_of(line) {
            table = name.to_owned();
            let mut parent = String::new();
            for part in name.split('.') {
                let child = if parent.is_empty() { part.to_owned() } else { format!("{parent}.{part}") };
                all.entry(parent).or_default().insert(part.to_owned());
                parent = child;
            }
            all.entry(parent).or_default();
        } else if let Some(key) = key_of(line) {
            all.entry(table.clone()).or_default().insert(key.to_owned());
        }
    }
    all
}

/// The table that a line begins: `[health]`, `[[vip.service]]`.
pub fn table_of(line: &str) -> Option<&str> {
    let (inner, end) = match line.strip_prefix("[[") {
        Some(inner) => (inner, "]]"),
        None => (line.strip_prefix('[')?, "]"),
    };
    let name = &inner[..inner.find(end)?];
    let after = inner[name.len() + end.len()..].trim_start();
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '.' || c == '_');
    (is_name && (after.is_empty() || after.starts_with('#'))).then_some(name)
}

/// The key that a line sets.
pub fn key_of(line: &str) -> Option<&str> {
    let key = &line[..line.find(" = ")?];
    let is_key = key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    is_key.then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_known_from_the_example_commented_out_or_not() {
        let text = "#beat = \"50ms\"  # a beat\n[[vip]]\n  [[vip.service]]\n  port = 22\n# [vip.service.limit]\n# burst = 2\n";
        let known = known(&Tree::made_up(&[(EXAMPLE, text)]));
        let keys = |table: &str| known[table].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(keys(""), ["beat", "vip"]);
        assert_eq!(keys("vip"), ["service"]);
        assert_eq!(keys("vip.service"), ["limit", "port"]);
        assert_eq!(keys("vip.service.limit"), ["burst"]);
    }

    #[test]
    fn prose_is_no_setting() {
        assert_eq!(table_of("[preauth] and so on"), None);
        assert_eq!(key_of("What is = what is not"), None);
    }
}

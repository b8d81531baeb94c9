//! The files of the tree: read from the disk, or made up in a test.

use std::collections::BTreeMap;
use std::path::Path;

/// Folders that are not ours, or are made by building, testing and fuzzing.
const LEFT_OUT: &[&str] = &["target", ".git", "fuzz/corpus", "fuzz/artifacts", "fuzz/target"];

/// Text files by their path from the root, with `/` between the parts. Files that are no UTF-8 are there, and empty.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Everything below a folder.
    ///
    /// # Errors
    /// When a folder or file cannot be read.
    pub fn read(root: &Path) -> std::io::Result<Self> {
        let mut tree = Self::default();
        tree.read_folder(root, "")?;
        Ok(tree)
    }

    /// A made-up tree.
    pub fn made_up(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }

    fn read_folder(&mut self, folder: &Path, name: &str) -> std::io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let own = entry.file_name().to_string_lossy().into_owned();
            let path = if name.is_empty() { own } else { format!("{name}/{own}") };
            let kind = entry.file_type()?;
            if LEFT_OUT.contains(&path.as_str()) {
                continue;
            }
            if kind.is_dir() {
                self.read_folder(&entry.path(), &path)?;
            } else if kind.is_file() {
                let text = String::from_utf8(std::fs::read(entry.path())?).unwrap_or_default();
                self.files.insert(path, text);
            }
        }
        Ok(())
    }

    /// All files, in the order of their paths.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The files whose names end in one of these.
    pub fn ending<'a>(&'a self, endings: &'a [&str]) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files().filter(|(path, _)| endings.iter().any(|end| path.ends_with(end)))
    }

    /// The text of a file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether a file or folder of this path is there.
    pub fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let folder = format!("{path}/");
        path.is_empty() || self.files.keys().any(|file| file == path || file.starts_with(&folder))
    }

    /// Whether the path of a file or folder ends so, at a boundary between parts.
    pub fn has_end(&self, end: &str) -> bool {
        let end = end.trim_end_matches('/');
        let (inside, below) = (format!("/{end}"), format!("/{end}/"));
        self.has(end) || self.files.keys().any(|file| file.ends_with(&inside) || file.contains(&below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_found_by_path_and_by_its_end() {
        let tree = Tree::made_up(&[("crates/a/src/engine/beat.rs", "")]);
        assert!(tree.has("crates/a/src/engine") && tree.has("crates/a/src/engine/beat.rs"));
        assert!(tree.has_end("engine/") && tree.has_end("engine/beat.rs") && tree.has_end("beat.rs"));
        assert!(!tree.has("engine") && !tree.has_end("gine/beat.rs") && !tree.has_end("eat.rs"));
    }

    #[test]
    fn the_tree_of_this_crate_has_this_file() {
        let tree = Tree::read(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("it is readable");
        assert!(
            tree.text("tests/tidy/tree.rs").is_some_and(|text| text.contains("this crate has this file"))
        );
    }
}

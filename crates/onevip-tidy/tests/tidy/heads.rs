//! Each source file begins by saying what lives in it.

use crate::{Failure, Tree};

/// Scripts without an ending.
const SCRIPTS: &[&str] = &["scripts/", ".ci/", "packaging/rolling-reboot"];

/// The sources without a comment at their head.
pub fn failures(tree: &Tree) -> Vec<Failure> {
    tree.files()
        .filter_map(|(path, text)| {
            let wanted = if path.ends_with(".rs") {
                text.starts_with("//! ").then_some("//!")
            } else if path.ends_with(".c") || path.ends_with(".h") {
                has_c_head(text).then_some("/*")
            } else if SCRIPTS.iter().any(|folder| path.starts_with(folder)) && text.starts_with("#!") {
                text.lines().nth(1).is_some_and(|line| line.starts_with("# ")).then_some("#")
            } else {
                Some("none is needed")
            };
            let why = "it has no comment at its head: what lives here, what does not, who calls it";
            wanted.is_none().then(|| Failure::new(path, 1, path, why))
        })
        .collect()
}

/// A comment that is not about the licence, before anything else.
fn has_c_head(text: &str) -> bool {
    let mut lines = text.lines().skip_while(|line| line.contains("SPDX") || line.trim().is_empty());
    lines.next().is_some_and(|line| line.starts_with("/*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_without_a_head_is_found() {
        let tree = Tree::made_up(&[
            ("crates/a/src/lib.rs", "//! A room.\n"),
            ("crates/a/src/b.rs", "use std::fmt;\n"),
            ("crates/a/bpf/c.h", "/* SPDX-License-Identifier: MIT */\n/*\n * What. */\n"),
            ("crates/a/bpf/d.h", "/* SPDX-License-Identifier: MIT */\n#include <e.h>\n"),
            ("scripts/f", "#!/bin/sh\nset -e\n"),
            ("scripts/g", "#!/bin/sh\n# Does.\n"),
        ]);
        let found: Vec<_> = failures(&tree).into_iter().map(|one| one.file).collect();
        assert_eq!(found, ["crates/a/bpf/d.h", "crates/a/src/b.rs", "scripts/f"]);
    }
}

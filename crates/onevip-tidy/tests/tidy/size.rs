//! How long files and functions may be. A function fits on a screen, a file in a head.

use crate::rust::RustFile;
use crate::{Failure, Tree};
use syn::visit::{self, Visit};

/// Lines of a source file, in Rust or C.
pub const FILE_LINES_MAX: usize = 500;
/// Lines of a function, from `fn` to the closing brace.
pub const FUNCTION_LINES_MAX: usize = 70;

/// The files that are too long.
pub fn long_files(tree: &Tree) -> Vec<Failure> {
    tree.ending(&[".rs", ".c", ".h"])
        .filter_map(|(path, text)| {
            let lines = text.lines().count();
            let text = format!("{lines} lines; a file has at most {FILE_LINES_MAX}: make it two");
            (lines > FILE_LINES_MAX).then(|| Failure::new(path, 0, path, text))
        })
        .collect()
}

/// The functions that are too long, in Rust and in C.
pub fn long_functions(tree: &Tree, files: &[RustFile]) -> Vec<Failure> {
    let mut out = Vec::new();
    for file in files {
        let mut functions = Functions { path: &file.path, out: &mut out };
        functions.visit_file(&file.ast);
    }
    for (path, text) in tree.ending(&[".c", ".h"]) {
        for (name, first, last) in c_functions(text) {
            judge(path, &name, first, last, &mut out);
        }
    }
    out
}

fn judge(path: &str, name: &str, first: usize, last: usize, out: &mut Vec<Failure>) {
    let lines = last + 1 - first;
    if lines > FUNCTION_LINES_MAX {
        let text = format!("`{name}` has {lines} lines; a function has at most {FUNCTION_LINES_MAX}");
        out.push(Failure::new(path, first, format!("{path}: {name}"), text));
    }
}

struct Functions<'a> {
    path: &'a str,
    out: &'a mut Vec<Failure>,
}

impl Functions<'_> {
    fn see(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.fn_token.span.start().line;
        judge(
            self.path,
            &signature.ident.to_string(),
            first,
            block.brace_token.span.close().end().line,
            self.out,
        );
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, it: &'ast syn::ItemFn) {
        self.see(&it.sig, &it.block);
        visit::visit_item_fn(self, it);
    }

    fn visit_impl_item_fn(&mut self, it: &'ast syn::ImplItemFn) {
        self.see(&it.sig, &it.block);
        visit::visit_impl_item_fn(self, it);
    }

    fn visit_trait_item_fn(&mut self, it: &'ast syn::TraitItemFn) {
        if let Some(block) = &it.default {
            self.see(&it.sig, block);
        }
        visit::visit_trait_item_fn(self, it);
    }
}

/// Functions of a C file in the kernel's style: the body's braces stand at the left edge. Name, first and last line.
fn c_functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = Vec::new();
    for (open, _) in lines.iter().enumerate().filter(|(_, line)| **line == "{") {
        let close =
            lines[open..].iter().position(|line| line.starts_with('}')).map_or(lines.len(), |n| open + n);
        let head =
            lines[..open].iter().rposition(|line| !line.starts_with([' ', '\t']) && line.contains('('));
        let Some(head) = head else { continue };
        let name = lines[head].split('(').next().unwrap_or_default();
        let name = name.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
        out.push((name.to_owned(), head + 1, close + 1));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rust;

    #[test]
    fn a_long_file_is_found() {
        let tree = Tree::made_up(&[("a.rs", &"\n".repeat(501)), ("b.c", &"\n".repeat(500))]);
        assert_eq!(long_files(&tree).len(), 1);
    }

    #[test]
    fn long_functions_are_found_in_rust() {
        let body = "x();\n".repeat(69);
        let text =
            format!("impl A {{\nfn long() {{\n{body}}}\nfn short() {{}}\n}}\nfn free() {{\n{body}}}\n");
        let tree = Tree::made_up(&[("crates/a/src/lib.rs", &text)]);
        let files = rust::parse(&tree).expect("it is Rust");
        let keys: Vec<_> = long_functions(&tree, &files).into_iter().map(|one| one.key).collect();
        assert_eq!(keys, ["crates/a/src/lib.rs: long", "crates/a/src/lib.rs: free"]);
    }

    #[test]
    fn long_functions_are_found_in_c() {
        let body = "\tx();\n".repeat(68);
        let text =
            format!("static int long_one(int a,\n\t\tint b)\n{{\n{body}}}\n\nint short_one(void)\n{{\n}}\n");
        let tree = Tree::made_up(&[("crates/a/bpf/a.h", &text)]);
        let found = long_functions(&tree, &[]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].key.as_str(), found[0].line), ("crates/a/bpf/a.h: long_one", 1));
    }
}

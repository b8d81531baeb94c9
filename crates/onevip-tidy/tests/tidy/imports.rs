//! Which file of a crate names what of which other one. Re-exports are followed to where a name is defined.

use crate::rust::{self, RustFile, attributes, is_test, plain};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};
use syn::{Item, UseTree};

/// A path within a crate, as a file writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The file that names it, as an index.
    pub from: usize,
    /// The line.
    pub line: usize,
    /// The path from the root of the crate, `*` standing for everything.
    pub path: Vec<String>,
}

/// All imports of the product code of one crate, in `use` items, in paths, and inside macros.
pub fn of_crate(files: &[RustFile], krate: &str) -> Vec<Import> {
    let mut out = Vec::new();
    for (from, file) in files.iter().enumerate() {
        let Some(module) = file.module.clone().filter(|_| file.krate == krate && !file.test) else {
            continue;
        };
        let mut reader = Reader { from, module, out: &mut out };
        reader.visit_file(&file.ast);
    }
    out
}

struct Reader<'a> {
    from: usize,
    module: Vec<String>,
    out: &'a mut Vec<Import>,
}

impl Reader<'_> {
    /// Notes a path if it is one within the crate.
    fn note(&mut self, line: usize, segments: &[String]) {
        if let Some(path) = absolute(&self.module, segments) {
            self.out.push(Import { from: self.from, line, path });
        }
    }

    fn macro_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut colons) = (0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.note(line, &path);
                        path.clear();
                        line = ident.span().start().line;
                    }
                    path.push(plain(&ident));
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                other => {
                    self.note(line, &path);
                    path.clear();
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.macro_tokens(group.stream());
                    }
                }
            }
        }
        self.note(line, &path);
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_test(attributes(item)) {
            return;
        }
        match item {
            Item::Mod(module) if module.content.is_some() => {
                self.module.push(plain(&module.ident));
                visit::visit_item(self, item);
                self.module.pop();
            }
            Item::Use(it) => {
                for (line, path) in leaves(&it.tree) {
                    self.note(line, &path);
                }
            }
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| plain(&segment.ident)).collect();
        let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        self.note(line, &segments);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, it: &'ast syn::Macro) {
        self.macro_tokens(it.tokens.clone());
        visit::visit_macro(self, it);
    }
}

/// A path from the crate's root, of one that begins with `crate`, `self` or `super`; `None` for all others.
fn absolute(module: &[String], segments: &[String]) -> Option<Vec<String>> {
    let mut base = match segments.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.to_vec(),
        _ => return None,
    };
    let mut rest = segments;
    while let Some((first, after)) = rest.split_first() {
        match first.as_str() {
            "crate" | "self" => {}
            "super" => drop(base.pop()),
            _ => break,
        }
        rest = after;
    }
    // `self` alone, as a value, is no path; `Self` and `self::x` are fine.
    (segments.len() > 1).then(|| {
        base.extend(rest.iter().cloned());
        base
    })
}

/// The paths of a `use`, each with its line.
fn leaves(tree: &UseTree) -> Vec<(usize, Vec<String>)> {
    match tree {
        UseTree::Path(it) => {
            let name = plain(&it.ident);
            leaves(&it.tree)
                .into_iter()
                .map(|(line, path)| (line, [vec![name.clone()], path].concat()))
                .collect()
        }
        UseTree::Name(it) if it.ident == "self" => vec![(it.ident.span().start().line, Vec::new())],
        UseTree::Name(it) => vec![(it.ident.span().start().line, vec![plain(&it.ident)])],
        UseTree::Rename(it) => vec![(it.ident.span().start().line, vec![plain(&it.ident)])],
        UseTree::Glob(it) => vec![(it.star_token.spans[0].start().line, vec!["*".to_owned()])],
        UseTree::Group(it) => it.items.iter().flat_map(leaves).collect(),
    }
}

/// Finds the file in which a path of a crate is defined.
pub struct Resolver<'a> {
    krate: String,
    modules: BTreeMap<(String, Vec<String>), usize>,
    /// What each file brings in under which name, and what it takes whole.
    named: BTreeMap<usize, BTreeMap<String, Vec<String>>>,
    whole: BTreeMap<usize, Vec<Vec<String>>>,
    files: &'a [RustFile],
}

impl<'a> Resolver<'a> {
    /// For one crate.
    pub fn new(files: &'a [RustFile], krate: &str) -> Self {
        let modules = rust::modules(files);
        let (mut named, mut whole) = (BTreeMap::new(), BTreeMap::new());
        for ((of, module), &index) in &modules {
            if of != krate {
                continue;
            }
            let children: BTreeSet<&String> = modules
                .keys()
                .filter(|(other, path)| {
                    other == krate && path.len() == module.len() + 1 && path.starts_with(module)
                })
                .filter_map(|(_, path)| path.last())
                .collect();
            let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
            let mut globs: Vec<Vec<String>> = Vec::new();
            for item in &files[index].ast.items {
                let Item::Use(it) = item else { continue };
                for (name, path) in brought(&it.tree) {
                    let inside = path.first().is_some_and(|first| children.contains(first));
                    let from_here = [vec!["self".to_owned()], path.clone()].concat();
                    let path = absolute(module, if inside { &from_here } else { &path });
                    match path {
                        Some(mut path) if name == "*" => {
                            path.pop();
                            globs.push(path);
                        }
                        Some(path) => drop(names.insert(name, path)),
                        None => {}
                    }
                }
            }
            named.insert(index, names);
            whole.insert(index, globs);
        }
        Self { krate: krate.to_owned(), modules, named, whole, files }
    }

    /// The file that defines what a path names; `None` when no module of the crate is meant.
    pub fn file(&self, path: &[String]) -> Option<usize> {
        self.look(path, 8)
    }

    fn look(&self, path: &[String], patience: usize) -> Option<usize> {
        let depth = (0..=path.len()).rev().find(|&n| self.module(&path[..n]).is_some())?;
        let index = self.module(&path[..depth])?;
        let Some(name) = path.get(depth).filter(|_| patience > 0) else { return Some(index) };
        if let Some(target) = self.named.get(&index).and_then(|names| names.get(name)) {
            return self.look(target, patience - 1).or(Some(index));
        }
        if !self.defines(index, name) {
            for target in self.whole.get(&index).into_iter().flatten() {
                let there = [target.as_slice(), &path[depth..]].concat();
                if let Some(found) =
                    self.look(&there, patience - 1).filter(|&found| self.defines(found, name))
                {
                    return Some(found);
                }
            }
        }
        Some(index)
    }

    fn module(&self, path: &[String]) -> Option<usize> {
        self.modules.get(&(self.krate.clone(), path.to_vec())).copied()
    }

    fn defines(&self, index: usize, name: &str) -> bool {
        self.files[index].ast.items.iter().any(|item| defined(item).is_some_and(|ident| plain(ident) == name))
    }
}

/// The name that an item gives to what it defines.
fn defined(item: &Item) -> Option<&proc_macro2::Ident> {
    match item {
        Item::Const(it) => Some(&it.ident),
        Item::Enum(it) => Some(&it.ident),
        Item::Fn(it) => Some(&it.sig.ident),
        Item::Static(it) => Some(&it.ident),
        Item::Struct(it) => Some(&it.ident),
        Item::Trait(it) => Some(&it.ident),
        Item::Type(it) => Some(&it.ident),
        Item::Union(it) => Some(&it.ident),
        _ => None,
    }
}

/// What a `use` brings in: the name it has from then on, and its path.
fn brought(tree: &UseTree) -> Vec<(String, Vec<String>)> {
    match tree {
        UseTree::Path(it) => {
            let name = plain(&it.ident);
            let below = brought(&it.tree).into_iter();
            below
                .map(|(known_as, path)| {
                    let known_as = if known_as == "self" { name.clone() } else { known_as };
                    (known_as, [vec![name.clone()], path].concat())
                })
                .collect()
        }
        UseTree::Name(it) if it.ident == "self" => vec![("self".to_owned(), Vec::new())],
        UseTree::Name(it) => vec![(plain(&it.ident), vec![plain(&it.ident)])],
        UseTree::Rename(it) => vec![(plain(&it.rename), vec![plain(&it.ident)])],
        UseTree::Glob(_) => vec![("*".to_owned(), vec!["*".to_owned()])],
        UseTree::Group(it) => it.items.iter().flat_map(brought).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tree;

    fn files() -> Vec<RustFile> {
        let tree = Tree::made_up(&[
            ("crates/a/src/b/c.rs", "pub struct C;"),
            ("crates/a/src/b/mod.rs", "mod c; pub use c::C; pub use self::c::*;"),
            (
                "crates/a/src/d.rs",
                "use crate::b::{self, C};\nfn f() { crate::b::c::g(); println!(\"{}\", super::b::C); }\n\
                 #[cfg(test)] mod tests { use crate::e::E; }",
            ),
            ("crates/a/src/e.rs", ""),
            ("crates/a/src/lib.rs", "mod b; mod d; mod e;"),
        ]);
        rust::parse(&tree).expect("it is Rust")
    }

    #[test]
    fn imports_are_found_in_uses_paths_and_macros_but_not_in_tests() {
        let found: Vec<_> = of_crate(&files(), "a").into_iter().filter(|one| one.from == 2).collect();
        let paths: Vec<_> = found.iter().map(|one| (one.line, one.path.join("::"))).collect();
        let wanted = [(1, "b"), (1, "b::C"), (2, "b::c::g"), (2, "b::C")];
        assert_eq!(paths, wanted.map(|(line, path)| (line, path.to_owned())));
    }

    #[test]
    fn what_is_exported_anew_is_found_where_it_is_defined() {
        let files = files();
        let resolver = Resolver::new(&files, "a");
        let file = |path: &str| {
            let path: Vec<String> = path.split("::").map(str::to_owned).collect();
            resolver.file(&path).map(|index| files[index].path.as_str())
        };
        assert_eq!(file("b::C"), Some("crates/a/src/b/c.rs"));
        assert_eq!(file("b"), Some("crates/a/src/b/mod.rs"));
        assert_eq!(file("d::f"), Some("crates/a/src/d.rs"));
    }
}

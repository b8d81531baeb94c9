//! Files in Rust, as a parser sees them, and their places in the modules of a crate.

use crate::Tree;
use std::collections::BTreeMap;
use syn::{Attribute, Item, Meta};

/// A parsed file.
pub struct RustFile {
    /// Its path from the root of the tree.
    pub path: String,
    /// The name of its crate's folder.
    pub krate: String,
    /// Its module, if it lies in `src`: empty for `lib.rs` and `main.rs`.
    pub module: Option<Vec<String>>,
    /// Whether it is only compiled for tests.
    pub test: bool,
    /// What is in it.
    pub ast: syn::File,
}

/// Parses all files of `crates/`.
///
/// # Errors
/// The path and place of a file that is no Rust.
pub fn parse(tree: &Tree) -> Result<Vec<RustFile>, String> {
    let mut files = Vec::new();
    for (path, text) in tree.ending(&[".rs"]) {
        let Some((krate, inside)) = path.strip_prefix("crates/").and_then(|rest| rest.split_once('/')) else {
            continue;
        };
        let ast = syn::parse_file(text).map_err(|error| format!("{path}: {error}"))?;
        let module = inside.strip_prefix("src/").map(module_of);
        let test = module.is_none();
        files.push(RustFile { path: path.to_owned(), krate: krate.to_owned(), module, test, ast });
    }
    mark_tests(&mut files);
    Ok(files)
}

fn module_of(path: &str) -> Vec<String> {
    let mut parts: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod")) || matches!(path, "lib.rs" | "main.rs") {
        parts.pop();
    }
    parts
}

/// Marks the files of modules that are declared for tests alone, and those below them.
fn mark_tests(files: &mut [RustFile]) {
    let mut tests: Vec<(String, Vec<String>)> = Vec::new();
    for file in files.iter() {
        for item in &file.ast.items {
            if let (Item::Mod(declared), Some(module)) = (item, &file.module)
                && declared.content.is_none()
                && is_test(&declared.attrs)
            {
                let mut path = module.clone();
                path.push(plain(&declared.ident));
                tests.push((file.krate.clone(), path));
            }
        }
    }
    for file in files {
        let Some(module) = &file.module else { continue };
        file.test |= tests.iter().any(|(krate, path)| *krate == file.krate && module.starts_with(path));
    }
}

/// A name without `r#`.
pub fn plain(ident: &proc_macro2::Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map_or(name.clone(), str::to_owned)
}

/// Whether something is only there in tests.
pub fn is_test(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| match &attr.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) => {
            list.path.is_ident("cfg")
                && list.tokens.to_string().split(|c: char| !c.is_alphanumeric()).any(|w| w == "test")
        }
        Meta::NameValue(_) => false,
    })
}

/// The attributes of an item.
pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(it) => &it.attrs,
        Item::Enum(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Macro(it) => &it.attrs,
        Item::Mod(it) => &it.attrs,
        Item::Static(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Trait(it) => &it.attrs,
        Item::Type(it) => &it.attrs,
        Item::Union(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

/// The items of a file and of the modules written out in it, without those for tests.
pub fn product_items(file: &syn::File) -> Vec<&Item> {
    let mut out = Vec::new();
    let mut waiting: Vec<&Item> = file.items.iter().rev().collect();
    while let Some(item) = waiting.pop() {
        if is_test(attributes(item)) {
            continue;
        }
        if let Item::Mod(module) = item {
            waiting.extend(module.content.iter().flat_map(|(_, items)| items.iter().rev()));
        }
        out.push(item);
    }
    out
}

/// The modules of each crate: by crate and path, the index of the file. Where `main.rs` stands beside `lib.rs`, the
/// library is meant.
pub fn modules(files: &[RustFile]) -> BTreeMap<(String, Vec<String>), usize> {
    let mut out = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        if let Some(module) = &file.module {
            let known = out.entry((file.krate.clone(), module.clone())).or_insert(index);
            if file.path.ends_with("/lib.rs") {
                *known = index;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_follow_from_paths_and_tests_from_declarations() {
        let tree = Tree::made_up(&[
            ("crates/a/src/lib.rs", "mod b;"),
            ("crates/a/src/b/mod.rs", "#[cfg(test)]\nmod tests;\npub struct X;"),
            ("crates/a/src/b/tests.rs", ""),
            ("crates/a/tests/c.rs", ""),
        ]);
        let files = parse(&tree).expect("it is Rust");
        let seen: Vec<_> = files.iter().map(|file| (file.module.clone(), file.test)).collect();
        let b = vec!["b".to_owned()];
        let tests = vec!["b".to_owned(), "tests".to_owned()];
        assert_eq!(seen, [(Some(b), false), (Some(tests), true), (Some(vec![]), false), (None, true)]);
    }

    #[test]
    fn what_is_no_rust_is_said() {
        assert!(parse(&Tree::made_up(&[("crates/a/src/lib.rs", "fn (")])).is_err());
    }
}

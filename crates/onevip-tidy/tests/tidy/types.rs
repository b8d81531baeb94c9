//! One name, one type: no two public types of the product have the same name, and none of the lab.

use crate::Failure;
use crate::rust::{RustFile, product_items};
use std::collections::BTreeMap;
use syn::{Item, Visibility};

/// The crates of which the product is made. Their names live in one space.
pub const PRODUCT: &[&str] =
    &["onevip-core", "onevip-bpf", "onevip-config", "onevip-host", "onevip-health", "onevip"];
/// The lab's names live in another one.
pub const LAB: &[&str] = &["onevip-lab"];

/// The types that share a name with another one of these crates.
pub fn failures(files: &[RustFile], crates: &[&str]) -> Vec<Failure> {
    let mut places: BTreeMap<String, Vec<(&str, usize)>> = BTreeMap::new();
    for file in files.iter().filter(|file| !file.test && crates.contains(&file.krate.as_str())) {
        for item in product_items(&file.ast) {
            let (visibility, ident) = match item {
                Item::Struct(it) => (&it.vis, &it.ident),
                Item::Enum(it) => (&it.vis, &it.ident),
                Item::Union(it) => (&it.vis, &it.ident),
                Item::Trait(it) => (&it.vis, &it.ident),
                Item::Type(it) => (&it.vis, &it.ident),
                _ => continue,
            };
            if matches!(visibility, Visibility::Public(_)) {
                let line = ident.span().start().line;
                places.entry(ident.to_string()).or_default().push((&file.path, line));
            }
        }
    }
    let mut out = Vec::new();
    for (name, places) in places.iter().filter(|(_, places)| places.len() > 1) {
        let all: Vec<String> = places.iter().map(|(path, line)| format!("{path}:{line}")).collect();
        let text = format!("{} public types are called `{name}`: {}", places.len(), all.join(", "));
        out.push(Failure::new(places[0].0, places[0].1, name, text));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tree, rust};

    #[test]
    fn two_public_types_of_one_name_are_found() {
        let tree = Tree::made_up(&[
            ("crates/onevip/src/a.rs", "pub struct Stage; struct Own; pub(crate) struct Inner;"),
            ("crates/onevip-core/src/b.rs", "pub enum Stage {} struct Own; pub(crate) struct Inner;"),
            ("crates/onevip-lab/src/c.rs", "pub trait Stage {}"),
        ]);
        let files = rust::parse(&tree).expect("it is Rust");
        let keys: Vec<_> = failures(&files, PRODUCT).into_iter().map(|one| one.key).collect();
        assert_eq!(keys, ["Stage"]);
        assert!(failures(&files, LAB).is_empty());
    }
}

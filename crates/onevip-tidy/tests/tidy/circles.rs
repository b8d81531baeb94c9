//! No circles: files of a crate that need each other cannot be understood one after the other.
//!
//! A file and the module that it belongs to may name each other. A name that a module exports anew counts as one of the
//! file that defines it.

use crate::Failure;
use crate::imports::{Resolver, of_crate};
use crate::rust::RustFile;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

type Edges = BTreeMap<usize, BTreeMap<usize, usize>>;

/// The circles of all crates, each once, with the shortest way around.
pub fn failures(files: &[RustFile]) -> Vec<Failure> {
    let crates: BTreeSet<&str> = files.iter().map(|file| file.krate.as_str()).collect();
    crates.into_iter().flat_map(|krate| circles_of(files, krate)).collect()
}

fn circles_of(files: &[RustFile], krate: &str) -> Vec<Failure> {
    let edges = edges(files, krate);
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for &start in edges.keys() {
        if seen.contains(&start) {
            continue;
        }
        let Some(way) = shortest_way(&edges, start, start) else { continue };
        // All that can be reached from here and back belong to one knot, which is told once.
        let reached: BTreeSet<usize> = reach(&edges, start);
        let knot: BTreeSet<usize> =
            reached.iter().copied().filter(|&one| reach(&edges, one).contains(&start)).collect();
        let steps: Vec<String> =
            way.iter().map(|&(file, line)| format!("{}:{line}", files[file].path)).collect();
        let text = format!("a circle of files ({} in the knot): {}", knot.len(), steps.join(" → "));
        out.push(Failure::new(&files[start].path, way[0].1, &files[start].path, text));
        seen.extend(knot);
    }
    out
}

/// From file to file, with the first line that says so.
fn edges(files: &[RustFile], krate: &str) -> Edges {
    let resolver = Resolver::new(files, krate);
    let mut edges = Edges::new();
    for import in of_crate(files, krate) {
        let Some(to) = resolver.file(&import.path) else { continue };
        if to != import.from && !are_family(&files[to], &files[import.from]) {
            edges.entry(import.from).or_default().entry(to).or_insert(import.line);
        }
    }
    edges
}

fn are_family(one: &RustFile, other: &RustFile) -> bool {
    let (Some(a), Some(b)) = (&one.module, &other.module) else { return false };
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    long.len() == short.len() + 1 && long.starts_with(short)
}

fn reach(edges: &Edges, start: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![start];
    while let Some(at) = waiting.pop() {
        waiting.extend(
            edges.get(&at).into_iter().flat_map(|next| next.keys()).filter(|&&next| seen.insert(next)),
        );
    }
    seen
}

/// The files on the way from one to another, each with the line that leads on.
fn shortest_way(edges: &Edges, from: usize, to: usize) -> Option<Vec<(usize, usize)>> {
    let mut before: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut waiting = VecDeque::from([from]);
    while let Some(at) = waiting.pop_front() {
        for (&next, &line) in edges.get(&at).into_iter().flatten() {
            if next == to {
                let mut way = vec![(at, line)];
                while let Some(&(earlier, line)) = before.get(&way[0].0) {
                    way.insert(0, (earlier, line));
                }
                return Some(way);
            }
            if next != from && !before.contains_key(&next) {
                before.insert(next, (at, line));
                waiting.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tree, rust};

    fn circles(files: &[(&str, &str)]) -> Vec<Failure> {
        failures(&rust::parse(&Tree::made_up(files)).expect("it is Rust"))
    }

    #[test]
    fn a_circle_is_found_once_also_through_what_a_module_exports_anew() {
        let found = circles(&[
            ("crates/a/src/b/mod.rs", "mod inner; pub use inner::B;"),
            ("crates/a/src/b/inner.rs", "use crate::c::C; pub struct B;"),
            ("crates/a/src/c.rs", "use crate::d::D; pub struct C;"),
            ("crates/a/src/d.rs", "use crate::b::B; pub struct D;"),
            ("crates/a/src/lib.rs", "mod b; mod c; mod d;"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].text.contains("(3 in the knot)"), "{}", found[0].text);
    }

    #[test]
    fn a_module_and_its_part_may_name_each_other() {
        let found = circles(&[
            ("crates/a/src/b/mod.rs", "mod inner; pub struct B(crate::b::inner::C);"),
            ("crates/a/src/b/inner.rs", "use super::B; pub struct C;"),
            ("crates/a/src/lib.rs", "mod b;"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }
}

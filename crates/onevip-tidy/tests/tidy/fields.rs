//! How many fields a struct may have.

use crate::Failure;
use crate::rust::{RustFile, product_items};
use syn::{Fields, Item};

/// Fields of a struct. Beyond it is several things at once; models of the configuration are excused by name.
pub const FIELDS_MAX: usize = 20;

/// The structs that have too many.
pub fn failures(files: &[RustFile]) -> Vec<Failure> {
    let mut out = Vec::new();
    for file in files {
        for item in product_items(&file.ast) {
            let Item::Struct(it) = item else { continue };
            let Fields::Named(fields) = &it.fields else { continue };
            let count = fields.named.len();
            if count > FIELDS_MAX {
                let text = format!("`{}` has {count} fields, more than {FIELDS_MAX}: group them", it.ident);
                let key = format!("{}::{}", file.krate, it.ident);
                out.push(Failure::new(&file.path, it.ident.span().start().line, key, text));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tree, rust};

    #[test]
    fn a_wide_struct_is_found() {
        let fields: String = (0..21).map(|n| format!("f{n}: u8, ")).collect();
        let text = format!("struct Wide {{ {fields} }}\nstruct Narrow {{ a: u8 }}");
        let files = rust::parse(&Tree::made_up(&[("crates/a/src/lib.rs", &text)])).expect("it is Rust");
        let keys: Vec<_> = failures(&files).into_iter().map(|one| one.key).collect();
        assert_eq!(keys, ["a::Wide"]);
    }
}

//! The command lines of the programs, as their declarations for `clap` have them, and the targets of the Makefile.

use crate::Tree;
use crate::rust::{RustFile, plain, product_items};
use proc_macro2::TokenTree;
use std::collections::{BTreeMap, BTreeSet};
use syn::{Attribute, Field, Fields, Item, Type};

/// A command: its options, and the commands below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Options, and whether each takes a value.
    pub options: BTreeMap<String, bool>,
    /// Commands below it.
    pub below: BTreeMap<String, Self>,
}

/// The command line of a crate's program; `None` if it declares none.
pub fn of_crate(files: &[RustFile], krate: &str) -> Option<Command> {
    let types = Types::new(files, krate);
    let root = types.all.iter().find(|declared| derives(crate::rust::attributes(declared.item), "Parser"))?;
    Some(types.command(root))
}

/// The targets of the Makefile.
pub fn make_targets(tree: &Tree) -> BTreeSet<String> {
    let lines = tree.text("Makefile").unwrap_or_default().lines();
    let targets =
        lines.filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()) && !line.contains(":="));
    targets.filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect()
}

/// What is wrong with a call; `words` are those after the name of the program.
pub fn mistake(program: &Command, words: &[&str]) -> Option<String> {
    let mut path = vec![program];
    let mut rest = words.iter().map(|word| word.trim_start_matches('[').trim_end_matches([']', ',', '…']));
    while let Some(word) = rest.next() {
        let command = path[path.len() - 1];
        if word == "--" || ["|", "&&", ";", ">", "#", "<", "&", "||"].contains(&word) {
            return None;
        }
        if let Some(option) = word.strip_prefix("--") {
            let (name, given) = option.split_once('=').map_or((option, false), |(name, _)| (name, true));
            let name = name.trim_end_matches(|c: char| !c.is_alphanumeric());
            match path.iter().rev().find_map(|one| one.options.get(name)) {
                Some(true) if !given => drop(rest.next()),
                Some(_) => {}
                None if ["help", "version"].contains(&name) => {}
                None => return Some(format!("there is no option --{name}")),
            }
        } else if !command.below.is_empty() && word.starts_with(|c: char| c.is_ascii_lowercase()) {
            let name = word.trim_end_matches(|c: char| !c.is_alphanumeric());
            let Some(next) = command.below.get(name) else {
                return Some(format!("there is no command {name}"));
            };
            path.push(next);
            if word.ends_with(';') {
                return None;
            }
        }
    }
    None
}

struct Declared<'a> {
    item: &'a Item,
    name: String,
    module: Vec<String>,
}

struct Types<'a> {
    all: Vec<Declared<'a>>,
}

impl<'a> Types<'a> {
    fn new(files: &'a [RustFile], krate: &str) -> Self {
        let mut all = Vec::new();
        for file in files.iter().filter(|file| file.krate == krate && !file.test) {
            for item in product_items(&file.ast) {
                let ident = match item {
                    Item::Struct(it) => &it.ident,
                    Item::Enum(it) => &it.ident,
                    _ => continue,
                };
                if ["Parser", "Subcommand", "Args"]
                    .iter()
                    .any(|one| derives(crate::rust::attributes(item), one))
                {
                    let module = file.module.clone().unwrap_or_default();
                    all.push(Declared { item, name: plain(ident), module });
                }
            }
        }
        Self { all }
    }

    /// The type that a path means, as seen from a module.
    fn find(&self, path: &syn::Path, from: &[String]) -> Option<&Declared<'a>> {
        let names: Vec<String> = path.segments.iter().map(|segment| plain(&segment.ident)).collect();
        let (name, above) = names.split_last()?;
        let fits = |one: &&Declared| one.name == *name;
        let wanted = above.last().filter(|one| !["crate", "super", "self"].contains(&one.as_str()));
        match wanted {
            Some(module) => self.all.iter().filter(fits).find(|one| one.module.last() == Some(module)),
            None => {
                let near = self.all.iter().filter(fits).find(|one| one.module == from);
                near.or_else(|| self.all.iter().find(fits))
            }
        }
    }

    fn command(&self, declared: &Declared) -> Command {
        let mut command = Command::default();
        match declared.item {
            Item::Struct(it) => self.fields(&it.fields, &declared.module, &mut command),
            Item::Enum(it) => {
                for variant in &it.variants {
                    let name =
                        setting(&variant.attrs, "name").unwrap_or_else(|| kebab(&plain(&variant.ident)));
                    let mut below = Command::default();
                    self.fields(&variant.fields, &declared.module, &mut below);
                    command.below.insert(name, below);
                }
            }
            _ => {}
        }
        command
    }

    fn fields(&self, fields: &Fields, module: &[String], command: &mut Command) {
        for field in fields {
            let within =
                field.ident.is_none() || has(&field.attrs, "subcommand") || has(&field.attrs, "flatten");
            if !within {
                if let Some(name) = option(field) {
                    command.options.insert(name, !is_flag(&field.ty));
                }
                continue;
            }
            let Some(inner) = type_path(&field.ty).and_then(|path| self.find(path, module)) else { continue };
            let inner = self.command(inner);
            command.options.extend(inner.options);
            command.below.extend(inner.below);
        }
    }
}

fn option(field: &Field) -> Option<String> {
    let ident = field.ident.as_ref()?;
    if let Some(name) = setting(&field.attrs, "long") {
        return Some(name);
    }
    has(&field.attrs, "long").then(|| plain(ident).replace('_', "-"))
}

fn is_flag(ty: &Type) -> bool {
    type_path(ty).is_some_and(|path| path.is_ident("bool"))
}

/// The path of a type; of `Option<T>` that of `T`.
fn type_path(ty: &Type) -> Option<&syn::Path> {
    let Type::Path(it) = ty else { return None };
    let last = it.path.segments.last()?;
    if last.ident == "Option"
        && let syn::PathArguments::AngleBracketed(inside) = &last.arguments
        && let Some(syn::GenericArgument::Type(inner)) = inside.args.first()
    {
        return type_path(inner);
    }
    Some(&it.path)
}

fn derives(attrs: &[Attribute], name: &str) -> bool {
    attrs.iter().filter(|attr| attr.path().is_ident("derive")).any(|attr| has_token(attr, name))
}

fn has(attrs: &[Attribute], name: &str) -> bool {
    let ours = attrs.iter().filter(|attr| attr.path().is_ident("arg") || attr.path().is_ident("command"));
    ours.into_iter().any(|attr| has_token(attr, name))
}

fn has_token(attr: &Attribute, name: &str) -> bool {
    let Ok(list) = attr.meta.require_list() else { return false };
    list.tokens.clone().into_iter().any(|token| matches!(token, TokenTree::Ident(ident) if ident == name))
}

/// The literal in `name = "literal"`.
fn setting(attrs: &[Attribute], name: &str) -> Option<String> {
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("arg") || attr.path().is_ident("command")) {
        let Ok(list) = attr.meta.require_list() else { continue };
        let tokens: Vec<TokenTree> = list.tokens.clone().into_iter().collect();
        for three in tokens.windows(3) {
            if let [TokenTree::Ident(ident), TokenTree::Punct(mark), TokenTree::Literal(literal)] = three
                && ident == name
                && mark.as_char() == '='
            {
                return Some(literal.to_string().trim_matches('"').to_owned());
            }
        }
    }
    None
}

/// `CheckHealth` as a command: `check-health`.
fn kebab(name: &str) -> String {
    crate::text::words(name).join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rust;

    fn program() -> Command {
        let tree = Tree::made_up(&[
            (
                "crates/a/src/cli.rs",
                "#[derive(Parser)] struct Cli { #[arg(long, global = true)] node: Option<String>, #[command(subcommand)] command: Sub }
                 #[derive(Subcommand)] enum Sub { Run, CheckHealth(crate::cmd::b::Args), Bench { #[command(subcommand)] which: Bench } }
                 #[derive(Subcommand)] enum Bench { Load { #[command(flatten)] out: Out } }
                 #[derive(Args)] struct Out { #[arg(long = \"as\")] json: bool }",
            ),
            ("crates/a/src/cmd/b.rs", "#[derive(clap::Args)] pub struct Args { #[arg(long)] icinga: bool }"),
            ("crates/a/src/cmd/c.rs", "#[derive(clap::Args)] pub struct Args { #[arg(long)] other: bool }"),
        ]);
        of_crate(&rust::parse(&tree).expect("it is Rust"), "a").expect("it has a command line")
    }

    #[test]
    fn what_exists_is_right() {
        for good in
            ["run", "--node unix1 run", "check-health --icinga", "bench load --as", "NAME", "run --help"]
        {
            let words: Vec<&str> = good.split(' ').collect();
            assert_eq!(mistake(&program(), &words), None, "{good}");
        }
    }

    #[test]
    fn what_does_not_exist_is_a_mistake() {
        for bad in [
            "walk",
            "run --icinga",
            "check-health --other",
            "bench walk",
            "bench load --json",
            "--node run walk",
        ] {
            let words: Vec<&str> = bad.split(' ').collect();
            assert!(mistake(&program(), &words).is_some(), "{bad}");
        }
    }

    #[test]
    fn targets_are_read_from_the_makefile() {
        let tree = Tree::made_up(&[("Makefile", "A := b\ntest: build\n\tcargo test\nlint:  ## x\n")]);
        assert_eq!(make_targets(&tree).into_iter().collect::<Vec<_>>(), ["lint", "test"]);
    }
}

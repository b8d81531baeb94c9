//! From the disk to text: the main file, `conf.d`, and what can go wrong with files as such.

use crate::diagnostic::Diagnostics;
use crate::span::{SourceFile, Span};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// No file is larger. 64 nodes with a comment each come to about 10 KB.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// `conf.d` holds no more files: one for each node and VIP is plenty.
const FILES_MAX: usize = 128;

/// The main file and, sorted by name, the `conf.d/*.toml` beside it.
pub(super) fn read_all(path: &Path, out: &mut Diagnostics) -> Vec<Arc<SourceFile>> {
    let mut sources: Vec<Arc<SourceFile>> = read(path, out).into_iter().collect();
    if sources.is_empty() {
        return sources;
    }
    let folder = path.parent().unwrap_or(Path::new("")).join("conf.d");
    for extra in list(&folder, out) {
        sources.extend(read(&extra, out));
    }
    sources
}

/// The `*.toml` of a folder, sorted, without hidden ones. A folder that does not exist has none.
fn list(folder: &Path, out: &mut Diagnostics) -> Vec<PathBuf> {
    let whole = |path: &Path| Span::whole(&SourceFile::new(path, ""));
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Vec::new();
        }
        Err(error) => {
            out.mistake(
                &whole(folder),
                format!("cannot be read: {error}"),
                "make it readable, or run as root",
            );
            return Vec::new();
        }
    };
    let is_ours = |path: &PathBuf| {
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        !hidden && path.extension().is_some_and(|extension| extension == "toml")
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_ours).collect();
    paths.sort();
    if paths.len() > FILES_MAX {
        let reason = format!("has {} files, more than {FILES_MAX}", paths.len());
        out.mistake(&whole(folder), reason, "put several nodes or VIPs into one file");
        paths.truncate(FILES_MAX);
    }
    paths
}

/// One file. What is wrong with it as a file is reported.
fn read(path: &Path, out: &mut Diagnostics) -> Option<Arc<SourceFile>> {
    let whole = Span::whole(&SourceFile::new(path, ""));
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        let remedy = match error.kind() {
            ErrorKind::NotFound => {
                "write it, or name another with --config; packaging/onevip.toml is an example"
            }
            ErrorKind::PermissionDenied => "run as root, or make it readable",
            _ => "name a file of text",
        };
        out.mistake(&whole, format!("cannot be read: {error}"), remedy);
        return None;
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let reason = format!("is larger than {} KiB", FILE_BYTES_MAX / 1024);
        out.mistake(&whole, reason, "name the configuration; the largest cluster needs a tenth of that");
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(SourceFile::new(path, text)),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let source = SourceFile::new(path, String::from_utf8_lossy(error.as_bytes()));
            let remedy = "save the file as UTF-8; outside of comments, plain ASCII is enough";
            out.mistake(&Span::new(&source, valid..valid + 1), "this is not UTF-8 text", remedy);
            None
        }
    }
}

/// The message of the TOML parser without what helps nobody.
pub(super) fn syntax_reason(message: &str) -> &str {
    let useless = [", expected literal string", ", expected nothing"];
    useless.iter().find_map(|end| message.trim().strip_suffix(end)).unwrap_or(message.trim())
}

/// What to do about a syntax error of the TOML parser.
pub(super) fn syntax_remedy(reason: &str) -> &'static str {
    const REMEDIES: &[(&str, &str)] = &[
        ("duplicate key", "keep one of the two; several VIPs or nodes are written [[vip]] and [[node]]"),
        ("string values must be quoted", "put the value in double quotes"),
        ("unclosed array table", "close it with ]]"),
        ("unclosed array", "close it with ]"),
        ("unclosed inline table", "close it with }"),
        ("unclosed table", "close it with ]"),
        ("missing comma", "put a comma in between"),
        ("missing opening quote", "put the whole value in double quotes"),
        ("invalid basic string", "close the string with a double quote on the same line"),
        ("leading zero", "leave the zeros in front out"),
        ("missing assignment", "write key = value, one on each line"),
        ("key with no value", "write key = value, one on each line"),
        ("missing value", "write key = value, one on each line"),
        ("extra", "take it out"),
    ];
    let known = REMEDIES.iter().find(|(part, _)| reason.contains(part));
    known.map_or("write key = value, one on each line, texts in double quotes", |(_, remedy)| remedy)
}

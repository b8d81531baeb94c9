//! Keytabs: which Kerberos principals a host has keys for. Only their names are read.
//!
//! The format is MIT's (`krb5/keytab/kt_file.c`, documented as "Keytab file format", version 0x0502): records of a length
//! and an entry, of which some are holes. Every number is big-endian.

/// A file that is larger is none that we should read.
const SIZE_MAX: u64 = 1 << 20;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The principals in a file, as `host/login.example.org@EXAMPLE.ORG`, each once.
///
/// # Errors
/// It cannot be read, or is no keytab.
pub fn principals(path: &Path) -> io::Result<Vec<String>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SIZE_MAX).read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| io::Error::other("it is not a keytab"))
}

fn parse(bytes: &[u8]) -> Option<Vec<String>> {
    let mut rest = bytes.strip_prefix(&[5, 2])?;
    let mut found: Vec<String> = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = i32::from_be_bytes(*length);
        // A negative length is a hole, and 0 the end.
        if length == 0 {
            break;
        }
        let (entry, after) = after.split_at_checked(usize::try_from(length.unsigned_abs()).ok()?)?;
        rest = after;
        if length > 0 {
            found.push(principal(entry)?);
        }
    }
    found.sort_unstable();
    found.dedup();
    Some(found)
}

fn principal(entry: &[u8]) -> Option<String> {
    let (count, mut rest) = entry.split_first_chunk()?;
    let mut text = || -> Option<String> {
        let (length, after) = rest.split_first_chunk()?;
        let (text, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        rest = after;
        String::from_utf8(text.to_vec()).ok()
    };
    let realm = text()?;
    let parts: Vec<String> = (0..u16::from_be_bytes(*count)).map(|_| text()).collect::<Option<_>>()?;
    Some(format!("{}@{realm}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A keytab as `ktutil` writes it, with one key of sixteen zeros for each principal.
    fn keytab(principals: &[(&[&str], &str)]) -> Vec<u8> {
        let text = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
        let mut file = vec![5, 2];
        for (parts, realm) in principals {
            let mut entry = (parts.len() as u16).to_be_bytes().to_vec();
            entry.extend(text(realm));
            parts.iter().for_each(|part| entry.extend(text(part)));
            entry.extend([0, 0, 0, 1, 0, 0, 0, 0, 2, 0, 17, 0, 16]);
            entry.extend([0; 16]);
            file.extend((entry.len() as i32).to_be_bytes());
            file.extend(entry);
        }
        file
    }

    #[test]
    fn principals_are_named_once_and_holes_skipped() {
        let (one, two): (&[&str], &[&str]) = (&["host", "unix1.example.org"], &["nfs", "unix1.example.org"]);
        let mut file = keytab(&[(one, "EXAMPLE.ORG"), (one, "EXAMPLE.ORG")]);
        file.extend((-7i32).to_be_bytes());
        file.extend([0xff; 7]);
        file.extend(&keytab(&[(two, "EXAMPLE.ORG")])[2..]);
        assert_eq!(
            parse(&file),
            Some(vec![
                "host/unix1.example.org@EXAMPLE.ORG".into(),
                "nfs/unix1.example.org@EXAMPLE.ORG".into()
            ])
        );
        assert_eq!(parse(&[5, 2]), Some(vec![]));
    }

    #[test]
    fn anything_else_is_refused() {
        let file = keytab(&[(&["host", "a"], "R")]);
        for length in 3..file.len() {
            let cut = parse(&file[..length]);
            assert!(cut.is_none() || length < 6, "{length} bytes: {cut:?}");
        }
        assert_eq!((parse(b""), parse(b"\x05\x01"), parse(b"key")), (None, None, None));
        assert_eq!(parse(&[5, 2, 0x7f, 0xff, 0xff, 0xff, 0]), None);
    }
}

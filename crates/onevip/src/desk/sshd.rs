//! The `sshd` of this host: which one serves a port, how it is set up in effect, and with which host keys.
//!
//! `sshd -T` tells what its files mean, defaults and inclusions considered; which files those are, a running `sshd`
//! tells in its title.

use super::processes;
use crate::host::talkers::Listener;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where the program is, unless a running one tells.
const PROGRAM: &str = "/usr/sbin/sshd";
/// A program that has not said what it has to say by now will not.
const SPEAKS_WITHIN: Duration = Duration::from_secs(5);

/// How to ask `sshd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sshd {
    program: PathBuf,
    config: Option<PathBuf>,
}

/// What `sshd -T` said: keywords in lower case, each with its values.
#[derive(Clone, Debug, Default)]
pub struct Effective(BTreeMap<String, Vec<String>>);

impl Sshd {
    /// The one that has one of these listening sockets; with socket activation, where another program has them, the
    /// usual one. `None` when nothing listens: then nobody can tell which it would be.
    pub fn behind<'a>(listeners: impl Iterator<Item = &'a Listener>) -> Option<Self> {
        let inodes: HashSet<u32> =
            listeners.map(|listener| listener.inode).filter(|inode| *inode != 0).collect();
        if inodes.is_empty() {
            return None;
        }
        Some(match processes::sshd_with(&inodes) {
            Some(pid) => {
                Self::of_title(&processes::title(pid), fs::read_link(format!("/proc/{pid}/exe")).ok())
            }
            None => Self { program: PROGRAM.into(), config: None },
        })
    }

    /// From `sshd: /usr/sbin/sshd -D -f /etc/ssh/other [listener] 0 of 10-100 startups`.
    fn of_title(title: &str, exe: Option<PathBuf>) -> Self {
        let mut words = title.split(' ');
        let mut config = None;
        while let Some(word) = words.next() {
            match word.strip_prefix("-f") {
                Some("") => config = words.next().map(PathBuf::from),
                Some(path) => config = Some(path.into()),
                None => {}
            }
        }
        // An upgrade replaces the program under the running one.
        let program = exe.filter(|exe| exe.is_file()).unwrap_or_else(|| PROGRAM.into());
        Self { program, config }
    }

    /// Asks it for its configuration; `None` where it does not tell (no root, a mistake in its file, no `sshd`).
    pub fn effective(&self) -> Option<Effective> {
        let mut command = Command::new(&self.program);
        command.arg("-T");
        if let Some(config) = &self.config {
            command.arg("-f").arg(config);
        }
        output_of(&mut command).map(|text| Effective::parse(&text))
    }

    /// Its version, from the banner that it prints with `-V` (OpenSSH ≥ 9.2) or complains with.
    pub fn version(&self) -> Option<(u32, u32)> {
        let output = Command::new(&self.program).arg("-V").stdin(Stdio::null()).output().ok()?;
        let text = [output.stderr, output.stdout].concat();
        version_in(&String::from_utf8_lossy(&text))
    }

    /// The file that a remedy should name.
    pub fn config_name(&self) -> String {
        self.config.as_deref().unwrap_or(Path::new("/etc/ssh/sshd_config")).display().to_string()
    }
}

impl Effective {
    /// From what `sshd -T` prints.
    pub fn parse(text: &str) -> Self {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (keyword, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            all.entry(keyword.to_lowercase()).or_default().push(value.trim().to_owned());
        }
        Self(all)
    }

    /// The first value of a keyword.
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword)?.first().map(String::as_str)
    }

    /// How many connections may be in the middle of their login before some are turned away.
    pub fn max_startups(&self) -> Option<u32> {
        self.get("maxstartups")?.split(':').next()?.parse().ok()
    }

    /// Its host keys, by type; of those that have their public half beside them.
    pub fn host_keys(&self) -> BTreeMap<String, String> {
        let files = self.0.get("hostkey").into_iter().flatten();
        files.filter_map(|file| public_key(&fs::read_to_string(format!("{file}.pub")).ok()?)).collect()
    }
}

/// A digest of host keys, for beats; 0 when there are none that can be read.
pub fn digest(keys: &BTreeMap<String, String>) -> u64 {
    if keys.is_empty() {
        return 0;
    }
    let mut hash = Sha256::new();
    for (kind, fingerprint) in keys {
        hash.update(format!("{kind} {fingerprint}\n"));
    }
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = hash.finalize().into();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Type and fingerprint of a line as in `ssh_host_ed25519_key.pub`.
fn public_key(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    let (kind, blob) = (words.next()?, words.next()?);
    let fingerprint = base64_encode(&Sha256::digest(base64_decode(blob)?));
    Some((kind.to_owned(), format!("SHA256:{fingerprint}")))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, section 4; `None` for anything that is not of its alphabet.
fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | BASE64.iter().position(|known| *known == digit)? as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

/// Without padding, as `ssh-keygen -l` shows fingerprints.
fn base64_encode(bytes: &[u8]) -> String {
    let digits = bytes.chunks(3).flat_map(|three| {
        let bits =
            three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        (0..=three.len()).map(move |digit| char::from(BASE64[(bits >> (18 - 6 * digit) & 63) as usize]))
    });
    digits.collect()
}

fn version_in(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_once("OpenSSH_")?.1.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What a command prints, if it succeeds in time.
pub fn output_of(command: &mut Command) -> Option<String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let mut pipe = child.stdout.take()?;
    let reader = std::thread::Builder::new().spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut pipe, &mut text).ok().map(|_| text)
    });
    let Ok(reader) = reader else {
        // No thread can be made either: this host is full.
        let _ = child.kill();
        let _ = child.wait();
        return None;
    };
    let until = Instant::now() + SPEAKS_WITHIN;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                let _ = child.kill();
                break child.wait().ok()?;
            }
        }
    };
    let text = reader.join().ok()??;
    status.success().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_of_a_running_sshd_names_its_file() {
        let config = |title: &str| Sshd::of_title(title, None).config;
        let title = "sshd: /usr/sbin/sshd -D -e -f /etc/ssh/other [listener] 0 of 10-100 startups";
        assert_eq!(config(title), Some("/etc/ssh/other".into()));
        assert_eq!(config("sshd: /usr/sbin/sshd -f/x [listener]"), Some("/x".into()));
        assert_eq!(config("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"), None);
    }

    #[test]
    fn keywords_are_read_as_sshd_prints_them() {
        let said = Effective::parse("port 22\nmaxstartups 10:30:100\nhostkey /a\nhostkey /b\n");
        assert_eq!((said.max_startups(), said.get("port"), said.get("absent")), (Some(10), Some("22"), None));
        assert_eq!(said.0["hostkey"], ["/a", "/b"]);
        assert_eq!(version_in("OpenSSH_9.8p1, OpenSSL 3"), Some((9, 8)));
    }

    #[test]
    fn a_fingerprint_is_that_of_ssh_keygen() {
        let dir = std::env::temp_dir().join(format!("onevip-fingerprint-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let key = dir.join("key");
        let keygen = |arguments: &[&str]| {
            let output = Command::new("ssh-keygen").args(arguments).arg("-f").arg(&key).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        keygen(&["-q", "-t", "ed25519", "-N", ""]);
        let shown = keygen(&["-l"]);
        let (kind, fingerprint) =
            public_key(&fs::read_to_string(key.with_extension("pub")).unwrap()).unwrap();
        assert_eq!(kind, "ssh-ed25519");
        assert_eq!(shown.split(' ').nth(1), Some(fingerprint.as_str()));
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(public_key("ssh-ed25519 *"), None);
    }

    #[test]
    fn other_keys_have_another_digest() {
        let keys = |fingerprint: &str| BTreeMap::from([("ssh-ed25519".to_owned(), fingerprint.to_owned())]);
        assert_ne!(digest(&keys("SHA256:a")), digest(&keys("SHA256:b")));
        assert_eq!(digest(&BTreeMap::new()), 0);
    }
}

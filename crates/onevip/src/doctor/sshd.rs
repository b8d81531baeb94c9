//! The `sshd` of this host: which one serves users, how it is set up in effect, and with which host keys.
//!
//! `sshd -T` tells what its files mean, defaults and inclusions considered; which files those are, a running `sshd`
//! tells in its title. That is run as root, so it matters whom we believe: anybody may listen on a port above 1023 and
//! be called `sshd`. The program is one of those of this host that root alone can change ([`programs`]); a title counts
//! only if its process is root's and runs that very program, and a file that it names only if root alone can change it.

use crate::base::plan::Plan;
use crate::sessions::processes;
use onevip_config::Config;
use onevip_health::monitor;
use onevip_host::programs::{self, Program, complaint_of, output_of};
use onevip_host::talkers::{self, Listener};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// How to ask `sshd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sshd {
    program: Program,
    config: Option<PathBuf>,
}

/// What `sshd -T` said: keywords in lower case, each with its values.
#[derive(Clone, Debug, Default)]
pub struct Effective(BTreeMap<String, Vec<String>>);

impl Sshd {
    /// The one that users meet: it listens where `[health]` asks. `None` when it cannot be told for certain which it is, or
    /// with which file it runs.
    pub fn of(config: &Config, plan: &Plan) -> Option<Self> {
        let target = monitor::ssh_target(&config.health, plan.vips.iter().map(|vip| &vip.vip))?;
        Self::behind(target, &talkers::listeners().ok()?)
    }

    /// Where the `sshd` that listens on this port, at whatever address, is to listen by its configuration; nowhere where that
    /// cannot be told.
    pub fn configured_at(port: u16, listeners: &[Listener]) -> Vec<SocketAddr> {
        let mut on_port = listeners.iter().filter(|listener| listener.port == port);
        let sshd = on_port.find_map(|one| Self::behind(SocketAddr::new(one.address, port), listeners));
        let effective = sshd.and_then(|sshd| sshd.effective());
        effective.map_or_else(Vec::new, |effective| effective.listen_addresses())
    }

    fn behind(target: SocketAddr, listeners: &[Listener]) -> Option<Self> {
        let hears = |listener: &&Listener| listener.port == target.port() && listener.hears(target.ip());
        let inodes = listeners.iter().filter(hears).map(|listener| listener.inode);
        let inodes: HashSet<u32> = inodes.filter(|inode| *inode != 0).collect();
        if inodes.is_empty() {
            return None;
        }
        let programs: Vec<Program> = programs::all("sshd").collect();
        let mut for_others = false;
        for process in processes::of_root_with(&inodes) {
            if let Some(program) =
                programs.iter().find(|program| processes::runs(process.pid, program.file()))
            {
                let config = match file_in(&processes::title(process.pid)) {
                    None => None,
                    Some(named) => Some(programs::of_root_alone(Path::new(named)).ok()?),
                };
                return Some(Self { program: program.clone(), config });
            }
            if processes::is_sshd(&process.name) {
                // Another one, or one whose program was replaced under it: what it reads is not ours to guess.
                return None;
            }
            for_others = true;
        }
        // With socket activation another program of root's listens, and starts the usual one.
        for_others.then(|| Some(Self { program: programs.into_iter().next()?, config: None }))?
    }

    /// Asks it for its configuration; `None` where it does not tell (no root, a mistake in its file, no `sshd`).
    pub fn effective(&self) -> Option<Effective> {
        let mut command = self.program.command();
        command.arg("-T");
        if let Some(config) = &self.config {
            command.arg("-f").arg(config);
        }
        output_of(&mut command).map(|text| Effective::parse(&text))
    }

    /// Its version, from the banner that it prints with `-V` (OpenSSH ≥ 9.2) or complains with.
    pub fn version(&self) -> Option<(u32, u32)> {
        version_in(&complaint_of(self.program.command().arg("-V"))?)
    }

    /// The file that a remedy should name.
    pub fn config_name(&self) -> String {
        self.config.as_deref().unwrap_or(Path::new("/etc/ssh/sshd_config")).display().to_string()
    }
}

/// The file in `sshd: /usr/sbin/sshd -D -f /etc/ssh/other [listener] 0 of 10-100 startups`.
fn file_in(title: &str) -> Option<&str> {
    let mut words = title.split(' ');
    let mut file = None;
    while let Some(word) = words.next() {
        match word.strip_prefix("-f") {
            Some("") => file = words.next(),
            Some(path) => file = Some(path),
            None => {}
        }
    }
    file
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

    /// Where it is to listen.
    pub fn listen_addresses(&self) -> Vec<SocketAddr> {
        let all = self.0.get("listenaddress").into_iter().flatten();
        all.filter_map(|address| address.parse().ok()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_title_of_a_running_sshd_names_its_file() {
        let title = "sshd: /usr/sbin/sshd -D -e -f /etc/ssh/other [listener] 0 of 10-100 startups";
        assert_eq!(file_in(title), Some("/etc/ssh/other"));
        assert_eq!(file_in("sshd: /usr/sbin/sshd -f/x [listener]"), Some("/x"));
        assert_eq!(file_in("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"), None);
    }

    #[test]
    fn keywords_are_read_as_sshd_prints_them() {
        let said = Effective::parse("port 22\nmaxstartups 10:30:100\nhostkey /a\nhostkey /b\n");
        assert_eq!((said.max_startups(), said.get("port"), said.get("absent")), (Some(10), Some("22"), None));
        assert_eq!(said.0["hostkey"], ["/a", "/b"]);
        let said = Effective::parse("listenaddress 198.51.100.10:22\nlistenaddress [2001:db8::10]:22\n");
        let wanted = ["198.51.100.10:22", "[2001:db8::10]:22"].map(|address| address.parse().unwrap());
        assert_eq!(said.listen_addresses(), wanted);
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

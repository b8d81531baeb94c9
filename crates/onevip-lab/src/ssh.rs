//! Real OpenSSH: keys, each node's `sshd`, and how a user of the lab logs in.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::netns::Entrance;
use crate::plan::{Host, Name};
use crate::process::{is_alive, run_ok, spawn_background, tail, wait_until};

/// The daemon; it insists on being started by its full path.
pub(crate) const SSHD: &str = "/usr/sbin/sshd";
/// Enough for all clients of a lab at once.
pub(crate) const MAX_STARTUPS: &str = "200:30:400";
/// Where `sshd` confines its unprivileged half.
const PRIVSEP_DIR: &str = "/run/sshd";

/// What a user needs to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The account, the one that runs the lab.
    pub user: String,
    /// Its private key.
    pub identity: PathBuf,
    /// The hosts' one key, under all their addresses.
    pub known_hosts: PathBuf,
}

impl Login {
    /// Where a lab keeps them.
    pub fn of(name: &Name) -> Self {
        let dir = name.dir();
        Self { user: "root".into(), identity: dir.join("user_key"), known_hosts: dir.join("known_hosts") }
    }

    /// The users' home: one directory for all nodes, as a shared home would be. Shells read nothing of the account's own
    /// (a `.bashrc` can take longer than the login), and files go there that are uploaded without a path.
    pub fn home(name: &Name) -> PathBuf {
        name.dir().join("home")
    }

    /// The options that `ssh` and `scp` share: this identity and these host keys, nothing of the user's own
    /// configuration, no questions, an error in ten seconds instead of a hang.
    pub fn options(&self) -> Vec<String> {
        let known_hosts = format!("UserKnownHostsFile={}", self.known_hosts.display());
        let settings = [
            known_hosts.as_str(),
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "UpdateHostKeys=no",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "ConnectTimeout=10",
            "LogLevel=ERROR",
        ];
        let mut options = vec!["-F".into(), "none".into(), "-i".into(), self.identity.display().to_string()];
        options.extend(settings.iter().flat_map(|s| ["-o".to_string(), (*s).to_string()]));
        options
    }
}

/// Makes one host key for all nodes, one key for the user, and the directory for uploads.
///
/// # Errors
/// When `ssh-keygen` is missing or a file cannot be written.
pub fn create_keys(name: &Name) -> Result<()> {
    let (dir, login) = (name.dir(), Login::of(name));
    fs::create_dir_all(Login::home(name))?;
    let host_key = dir.join("host_key");
    for (key, comment) in [(&host_key, "onevip-lab host"), (&login.identity, "onevip-lab user")] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(key);
        run_ok(&mut keygen, Duration::from_secs(20)).context("is openssh-client installed?")?;
    }
    let public = fs::read_to_string(host_key.with_extension("pub"))?;
    fs::write(&login.known_hosts, format!("198.51.100.*,2001:db8::* {public}"))?;
    fs::copy(login.identity.with_extension("pub"), dir.join("authorized_keys"))?;
    Ok(())
}

/// Starts a node's `sshd` and waits until it listens. Returns its process id.
///
/// # Errors
/// When it does not start: then with the end of its log.
pub fn start_sshd(name: &Name, id: u8) -> Result<i32> {
    let dir = name.node_dir(id);
    if !Path::new(PRIVSEP_DIR).exists() {
        DirBuilder::new()
            .mode(0o755)
            .create(PRIVSEP_DIR)
            .with_context(|| format!("cannot create {PRIVSEP_DIR}"))?;
    }
    let (config, log, pid_file) = (dir.join("sshd_config"), dir.join("sshd.log"), dir.join("sshd.pid"));
    let _ = fs::remove_file(&pid_file);
    write_config(name, id, MAX_STARTUPS)?;
    let mut sshd = Command::new(SSHD);
    sshd.args(["-D", "-e", "-f"]).arg(&config);
    Entrance::open(name, Host::Node(id))?.apply(&mut sshd);
    let pid = spawn_background(&mut sshd, &log).context("is openssh-server installed?")?;
    // It writes the file once it listens.
    let ready = wait_until(Duration::from_secs(10), &format!("sshd on unix{id} to listen"), || {
        fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n')) || !is_alive(pid)
    });
    match ready {
        Ok(()) if is_alive(pid) => Ok(pid),
        Ok(()) => anyhow::bail!("sshd on unix{id} ended at once:\n{}", tail(&log, 10)),
        Err(error) => Err(error.context(tail(&log, 10))),
    }
}

/// Writes the configuration of a node's `sshd`; returns where.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_config(name: &Name, id: u8, max_startups: &str) -> Result<PathBuf> {
    let dir = name.node_dir(id);
    let (config, pid_file) = (dir.join("sshd_config"), dir.join("sshd.pid"));
    let text = sshd_config(&name.dir(), &pid_file, root_is_locked(), penalises_sources());
    fs::write(&config, format!("{text}MaxStartups {max_startups}\n"))?;
    Ok(config)
}

fn sshd_config(lab_dir: &Path, pid_file: &Path, use_pam: bool, penalties: bool) -> String {
    let lab = lab_dir.display();
    let pam = if use_pam { "yes" } else { "no" };
    let pid_file = pid_file.display();
    let mut text = format!(
        "ListenAddress 0.0.0.0\n\
         ListenAddress ::\n\
         HostKey {lab}/host_key\n\
         AuthorizedKeysFile {lab}/authorized_keys\n\
         PidFile {pid_file}\n\
         UsePAM {pam}\n\
         StrictModes no\n\
         PermitRootLogin prohibit-password\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         UseDNS no\n\
         PrintMotd no\n\
         PrintLastLog no\n\
         LogLevel VERBOSE\n\
         SetEnv HOME={lab}/home\n\
         Subsystem sftp internal-sftp -d {lab}/home\n"
    );
    if penalties {
        // Probes connect without logging in; newer versions would lock their addresses out.
        text.push_str("PerSourcePenalties no\n");
    }
    text
}

/// Without PAM, `sshd` refuses an account whose password is locked with `!`, as root's is on some systems.
fn root_is_locked() -> bool {
    let shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
    shadow.lines().any(|line| line.starts_with("root:!"))
}

/// OpenSSH has `PerSourcePenalties` since 9.8.
fn penalises_sources() -> bool {
    let version = Command::new("ssh").arg("-V").output();
    version.is_ok_and(|out| version_of(&String::from_utf8_lossy(&out.stderr)) >= Some((9, 8)))
}

fn version_of(banner: &str) -> Option<(u32, u32)> {
    let rest = banner.split_once("OpenSSH_")?.1;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_every_banner() {
        assert_eq!(version_of("OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.19"), Some((9, 2)));
        assert_eq!(version_of("OpenSSH_10.0p2, OpenSSL 3.5.0"), Some((10, 0)));
        assert_eq!(version_of("dropbear"), None);
    }

    #[test]
    fn a_locked_root_still_gets_in_through_pam() {
        let config = |pam| sshd_config(Path::new("/x"), Path::new("/y"), pam, false);
        assert!(config(true).contains("UsePAM yes"));
        assert!(config(false).contains("UsePAM no"));
    }
}

//! keepalived (VRRP, RFC 5798) on the hosts of a lab, as its documentation sets it up for one floating address.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::lab::Lab;
use crate::net::INTERFACE;
use crate::plan::{Host, vip4};
use crate::process::spawn_background;

/// How it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VrrpPace {
    /// `advert_int 1`, no checks: what one gets without asking for more.
    Default,
    /// VRRP version 3 with `advert_int 0.1`, and a script that asks `sshd` for its banner every second.
    Fast,
}

/// Starts it on a node. The lower the number, the higher the priority.
///
/// # Errors
/// When it is not installed, or a file cannot be written.
pub fn start(lab: &Lab, id: u8, pace: VrrpPace) -> Result<i32> {
    let dir = lab.node(id).dir();
    let check = dir.join("banner");
    fs::write(&check, BANNER)?;
    fs::set_permissions(&check, Permissions::from_mode(0o700))?;
    let config = dir.join("keepalived.conf");
    fs::write(&config, text(id, pace, &check.display().to_string()))?;
    // A boot empties /run. Left behind, they keep it from starting when somebody else has got that number meanwhile.
    let [parent, vrrp] = ["keepalived.pid", "vrrp.pid"].map(|name| dir.join(name));
    for left in [&parent, &vrrp] {
        if left.exists() {
            fs::remove_file(left)?;
        }
    }
    let mut keepalived = Command::new("keepalived");
    keepalived.args(["--dont-fork", "--vrrp", "--log-console", "--no-syslog"]);
    keepalived.arg("--use-file").arg(&config);
    keepalived.arg("--pid").arg(parent).arg("--vrrp_pid").arg(vrrp);
    lab.enter(&Host::Node(id).to_string(), &mut keepalived)?;
    spawn_background(&mut keepalived, &dir.join("keepalived.log")).context("is keepalived installed?")
}

/// Its processes on a node.
pub fn pids(lab: &Lab, id: u8) -> Vec<i32> {
    let is_it = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("keepalived"))
    };
    lab.node(id).pids().into_iter().filter(is_it).collect()
}

const BANNER: &str = "#!/bin/bash\n\
    exec 3<>/dev/tcp/127.0.0.1/22 && read -r -t 1 -u 3 line && [[ $line == SSH-2* ]]\n";

fn text(id: u8, pace: VrrpPace, check: &str) -> String {
    let priority = 110 - id;
    let (version, interval) = match pace {
        VrrpPace::Default => (2, "1"),
        VrrpPace::Fast => (3, "0.1"),
    };
    let (script, track) = match pace {
        VrrpPace::Default => (String::new(), ""),
        VrrpPace::Fast => (
            format!(
                "vrrp_script sshd {{\n  script \"{check}\"\n  interval 1\n  timeout 1\n  fall 2\n  rise 2\n}}\n"
            ),
            "  track_script {\n    sshd\n  }\n",
        ),
    };
    format!(
        "global_defs {{\n  router_id unix{id}\n  vrrp_version {version}\n  script_user root\n}}\n\
         {script}\
         vrrp_instance login {{\n  state BACKUP\n  interface {INTERFACE}\n  virtual_router_id 51\n  \
         priority {priority}\n  advert_int {interval}\n  \
         virtual_ipaddress {{\n    {}/24\n  }}\n{track}}}\n",
        vip4()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_host_comes_first_and_only_the_fast_one_checks() {
        let (slow, fast) = (text(1, VrrpPace::Default, "/x"), text(2, VrrpPace::Fast, "/x"));
        assert!(slow.contains("priority 109") && fast.contains("priority 108"));
        assert!(slow.contains("advert_int 1\n") && !slow.contains("script \""));
        assert!(fast.contains("advert_int 0.1\n") && fast.contains("script \"/x\""));
    }
}

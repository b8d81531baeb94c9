//! HAProxy in TCP mode on a host of its own (`client2`), in front of all nodes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::IpFamily;
use crate::lab::Lab;
use crate::plan::{Host, LabPlan};
use crate::process::{is_alive, spawn_background, tail, wait_until};
use crate::service::{bulk, echo};

/// How soon HAProxy notices that a server is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckPace {
    /// Checks every 2 s, down after 3 that failed, as it does when nothing is said.
    Default,
    /// Checks every 0.2 s, down after 2.
    Fast,
}

/// Starts it for clients of these families, and waits until it listens.
///
/// # Errors
/// When it is not installed or ends at once: then with what it said.
pub fn start(lab: &Lab, pace: CheckPace, families: &[IpFamily]) -> Result<i32> {
    let (file, log) = (lab.dir().join("haproxy.cfg"), lab.dir().join("haproxy.log"));
    let stats = format!("  stats socket {} mode 600 level user\n", stats_path(lab).display());
    let text = config(lab.plan(), pace, families).replacen("global\n", &format!("global\n{stats}"), 1);
    std::fs::write(&file, text)?;
    let mut haproxy = Command::new("haproxy");
    lab.enter("client2", haproxy.arg("-db").arg("-f").arg(&file))?;
    let pid = spawn_background(&mut haproxy, &log).context("is haproxy installed?")?;
    let own: Vec<_> = families.iter().map(|family| family.address(lab.plan(), Host::Client2)).collect();
    let listens = || own.iter().all(|&own| std::net::TcpStream::connect((own, echo::PORT)).is_ok());
    wait_until(Duration::from_secs(10), "HAProxy to listen", || {
        !is_alive(pid) || lab.inside("client2", listens).unwrap_or(false)
    })?;
    if !is_alive(pid) {
        bail!("HAProxy ended at once:\n{}", tail(Path::new(&log), 10));
    }
    Ok(pid)
}

/// Whether it takes every server for alive at these ports: one that came back counts again only after two checks.
pub fn sees_all(lab: &Lab, ports: &[u16]) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut socket = UnixStream::connect(stats_path(lab))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.write_all(b"show stat\n")?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().is_ok_and(|text| all_up(&text, ports))
}

fn stats_path(lab: &Lab) -> PathBuf {
    lab.dir().join("haproxy.sock")
}

/// From `show stat`: names in the first line, and a line each for listeners, servers and all servers together.
fn all_up(stat: &str, ports: &[u16]) -> bool {
    let mut lines = stat.lines().map(|line| line.trim_start_matches("# ").split(',').collect::<Vec<_>>());
    let Some(names) = lines.next() else { return false };
    let at = |name| names.iter().position(|other| *other == name);
    let (Some(proxy), Some(server), Some(status)) = (at("pxname"), at("svname"), at("status")) else {
        return false;
    };
    let of = |line: &[&str], place: usize| line.get(place).map_or(String::new(), |word| (*word).to_owned());
    let concerns = |line: &Vec<&str>| {
        of(line, server).starts_with("unix")
            && ports.iter().any(|port| of(line, proxy).ends_with(&format!("-port{port}")))
    };
    let servers: Vec<String> = lines.filter(concerns).map(|line| of(&line, status)).collect();
    !servers.is_empty() && servers.iter().all(|status| status == "UP")
}

/// As its manual advises for TCP. The source decides, as it does with onevip.
fn config(plan: &LabPlan, pace: CheckPace, families: &[IpFamily]) -> String {
    let (connect, checks) = match pace {
        CheckPace::Default => ("5s", ""),
        CheckPace::Fast => ("500ms", "  timeout check 200ms\n  default-server inter 200ms fall 2 rise 2\n"),
    };
    let mut text = format!(
        "global\n  maxconn 4000\n\
         defaults\n  mode tcp\n  option redispatch\n  timeout connect {connect}\n  timeout client 1h\n  \
         timeout server 1h\n{checks}"
    );
    for family in families {
        for port in [echo::PORT, 22, bulk::PORT] {
            text += &listen(plan, *family, port);
        }
    }
    text
}

fn listen(plan: &LabPlan, family: IpFamily, port: u16) -> String {
    // The port is what follows the last colon, so IPv6 needs no brackets.
    let own = family.address(plan, Host::Client2);
    let mut text = format!(
        "listen {}-port{port}\n  bind {own}:{port}\n  balance source\n  hash-type consistent\n",
        family.word()
    );
    // An sshd that is stopped still accepts connections: only its banner shows that it lives.
    if port == 22 {
        text += "  option tcp-check\n  tcp-check expect rstring ^SSH-2\n";
    }
    for id in plan.node_ids() {
        text += &format!("  server unix{id} {}:{port} check\n", family.address(plan, Host::Node(id)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn haproxy_knows_every_node_and_every_service() {
        let text = config(&LabPlan::new("x", 3, 1, false).unwrap(), CheckPace::Default, &[IpFamily::V4]);
        assert_eq!(text.matches("server unix").count(), 9);
        assert!(text.contains("server unix3 198.51.100.13:22 check"), "{text}");
        assert_eq!(text.matches("tcp-check expect").count(), 1);
        assert!(!text.contains("inter ") && !text.contains("2001:db8"), "{text}");
    }

    #[test]
    fn a_server_that_is_on_its_way_up_is_not_up() {
        let stat = |first: &str| {
            let servers = format!("x-port7,unix1,0,{first},\nx-port22,unix2,0,UP,\nx-port5,unix2,0,DOWN,\n");
            format!("# pxname,svname,qcur,status,\nx-port7,FRONTEND,,OPEN,\n{servers}\n")
        };
        let all_up = |stat: &str| all_up(stat, &[7, 22]);
        assert!(all_up(&stat("UP")), "nobody asked about port 5");
        assert!(!all_up(&stat("DOWN 1/2")) && !all_up(&stat("UP 1/3")) && !all_up(&stat("DOWN")));
        assert!(!all_up("") && !all_up("# pxname,svname,status,\n"));
    }

    #[test]
    fn each_family_has_services_and_servers_of_its_own() {
        let text = config(&LabPlan::new("x", 2, 1, false).unwrap(), CheckPace::Fast, &IpFamily::ALL);
        assert_eq!((text.matches("listen ").count(), text.matches("server unix").count()), (6, 12));
        assert!(text.contains("bind 2001:db8::231:7\n"), "{text}");
        assert!(text.contains("server unix2 2001:db8::12:5001 check"), "{text}");
    }
}

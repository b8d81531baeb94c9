//! The sessions of this host: every TCP connection to a VIP that lives here, and whose it is.
//!
//! A session of mosh is a UDP socket of the VIP, and its client may be anywhere by now: it is told with the address from which
//! its user logged in.
//!
//! From the socket to the process that has it, from that to its user: `sshd` names the user in its title. No name
//! service is asked, because one that hangs must not hang `who`.

use super::processes::{self, Processes};
use crate::daemon::plan::Plan;
use crate::host::sockets::{self, Bound};
use crate::host::talkers::{self, Talker};
use anyhow::Context;
use onevip_core::Flow;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::linux::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One connection of a client to a VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The node that holds it.
    pub node: String,
    /// The VIP.
    pub vip: String,
    /// Who is logged in; `None` while nobody is, or when it cannot be told.
    pub user: Option<String>,
    /// The client's address.
    pub address: IpAddr,
    /// The client's port.
    pub port: u16,
    /// The port of the VIP.
    pub service: u16,
    /// The program that has it, `sshd` as a rule; `None` when no process has it any more, or it cannot be told.
    pub program: Option<String>,
    /// When it began, in seconds since 1970; `None` where it cannot be told.
    pub since: Option<u64>,
    /// Seconds since its user last typed or, without a terminal, since its client last sent anything.
    pub idle_seconds: Option<u64>,
    /// Its terminals, as `pts/3`.
    pub terminals: Vec<String>,
    /// The processes that have its socket; only of use on its own node.
    #[serde(skip)]
    pub holders: Vec<Holder>,
}

/// A process that has the socket of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: i32,
    /// When it began: tells it from a later process of the same number.
    pub began: u64,
}

impl Session {
    /// Whether OpenSSH's server has it.
    pub fn is_ssh(&self) -> bool {
        self.program.as_deref().is_some_and(processes::is_sshd)
    }

    /// Whether somebody is logged in by it: the server is OpenSSH's or mosh's.
    pub fn is_login(&self) -> bool {
        self.is_ssh() || self.program.as_deref().is_some_and(processes::is_mosh)
    }

    /// Whether it is what somebody who asks for `whom`, a user or an address, means.
    pub fn is_of(&self, whom: &str) -> bool {
        match whom.parse::<IpAddr>() {
            Ok(address) => self.address == address.to_canonical(),
            Err(_) => self.user.as_deref() == Some(whom),
        }
    }
}

/// All sessions of the VIPs of this node, by user, address and port.
///
/// # Errors
/// The kernel does not list its sockets.
pub fn look(plan: &Plan) -> anyhow::Result<Vec<Session>> {
    let talkers = talkers::talkers().context("cannot list the sockets of this host")?;
    let vip_of = |flow: &Flow| plan.vips.iter().find(|vip| vip.vip.addresses.contains(&flow.local));
    let ours: Vec<(&str, Talker)> = talkers
        .iter()
        .filter_map(|talker| Some((vip_of(&talker.flow)?.vip.name.as_str(), *talker)))
        .collect();
    let by_socket = sessions_by_socket(plan)?;
    let inodes: HashSet<u32> = ours.iter().map(|(_, talker)| talker.inode).collect();
    let inodes: HashSet<u32> =
        inodes.into_iter().chain(by_socket.iter().map(|(_, bound)| bound.inode)).collect();
    let inodes: HashSet<u32> = inodes.into_iter().filter(|inode| *inode != 0).collect();
    let processes = if inodes.is_empty() { Processes::default() } else { Processes::look() };
    let holders = processes.holders(&inodes);
    let none = Vec::new();
    let mut sessions: Vec<Session> = ours
        .iter()
        .map(|(vip, talker)| {
            session(&plan.node.name, vip, talker, holders.get(&talker.inode).unwrap_or(&none), &processes)
        })
        .collect();
    sessions.extend(by_socket.iter().map(|(vip, bound)| {
        roaming(&plan.node.name, vip, bound, holders.get(&bound.inode).unwrap_or(&none), &processes)
    }));
    sessions.sort_by(|a, b| (&a.user, a.address, a.port).cmp(&(&b.user, b.address, b.port)));
    Ok(sessions)
}

/// The sockets of services that sockets answer, with the names of their VIPs.
fn sessions_by_socket(plan: &Plan) -> anyhow::Result<Vec<(&str, Bound)>> {
    let mut found = Vec::new();
    for vip in plan.vips.iter().map(|plan| &plan.vip) {
        let selector = vip.selector_of(plan.node.id);
        if selector.is_sliced() {
            let bound = sockets::bound().context("cannot list the UDP sockets of this host")?;
            let own = sockets::by_socket(&bound, &vip.addresses, &selector);
            found.extend(own.map(|bound| (vip.name.as_str(), *bound)));
        }
    }
    Ok(found)
}

/// How many sessions of `address` live here, without asking whose they are.
///
/// # Errors
/// As [`look`].
pub fn count(plan: &Plan, vip: &str, address: IpAddr) -> anyhow::Result<usize> {
    let talkers = talkers::talkers().context("cannot list the sockets of this host")?;
    let Some(vip) = plan.vips.iter().find(|known| known.vip.name == vip) else { return Ok(0) };
    let ours = |flow: &Flow| flow.remote == address && vip.vip.addresses.contains(&flow.local);
    Ok(talkers.iter().filter(|talker| ours(&talker.flow)).count())
}

/// The session that this very program runs in, if any: whoever drains a host from within it counts not.
pub fn own(sessions: &[Session]) -> Option<&Session> {
    let line = Processes::look().line_of(std::process::id() as i32);
    sessions.iter().find(|session| session.holders.iter().any(|holder| line.contains(&holder.pid)))
}

fn session(node: &str, vip: &str, talker: &Talker, pids: &[i32], processes: &Processes) -> Session {
    let known: Vec<_> = pids.iter().filter_map(|pid| processes.get(*pid)).collect();
    let program = known.first().map(|process| process.name.clone());
    let is_ssh = program.as_deref().is_some_and(processes::is_sshd);
    let titles: Vec<String> =
        if is_ssh { pids.iter().map(|pid| processes::title(*pid)).collect() } else { Vec::new() };
    let mut pts: Vec<u32> = processes.children(pids).filter_map(|child| child.pts).collect();
    pts.sort_unstable();
    pts.dedup();
    // Another program's process may have begun long before its connection.
    let began = known.iter().map(|process| process.began).min().filter(|_| is_ssh);
    let typed = pts.iter().filter_map(|pts| since_input(*pts)).min();
    Session {
        node: node.to_owned(),
        vip: vip.to_owned(),
        user: user(&titles),
        address: talker.flow.remote,
        port: talker.flow.remote_port,
        service: talker.flow.local_port,
        program,
        since: began.and_then(when),
        idle_seconds: typed.or(talker.silent_for).map(|span| span.as_secs()),
        terminals: pts.iter().map(|pts| format!("pts/{pts}")).collect(),
        holders: known.iter().map(|process| Holder { pid: process.pid, began: process.began }).collect(),
    }
}

/// The session that lives on a UDP socket: whose it is says the environment that `sshd` gave its server.
fn roaming(node: &str, vip: &str, bound: &Bound, pids: &[i32], processes: &Processes) -> Session {
    let known: Vec<_> = pids.iter().filter_map(|pid| processes.get(*pid)).collect();
    let variable = |name| pids.iter().find_map(|pid| processes::variable(*pid, name));
    let from = variable("SSH_CONNECTION").as_deref().and_then(client_in);
    let mut pts: Vec<u32> = processes.children(pids).filter_map(|child| child.pts).collect();
    pts.sort_unstable();
    pts.dedup();
    let (address, port) = from.unwrap_or((Ipv4Addr::UNSPECIFIED.into(), 0));
    Session {
        node: node.to_owned(),
        vip: vip.to_owned(),
        user: variable("LOGNAME").or_else(|| variable("USER")).filter(|user| !user.is_empty()),
        address,
        port,
        service: bound.port,
        program: known.first().map(|process| process.name.clone()),
        since: known.iter().map(|process| process.began).min().and_then(when),
        idle_seconds: pts.iter().filter_map(|pts| since_input(*pts)).min().map(|span| span.as_secs()),
        terminals: pts.iter().map(|pts| format!("pts/{pts}")).collect(),
        holders: known.iter().map(|process| Holder { pid: process.pid, began: process.began }).collect(),
    }
}

/// The client in what `sshd` says of a connection: its address and port, then the server's.
fn client_in(connection: &str) -> Option<(IpAddr, u16)> {
    let mut words = connection.split(' ');
    let address: IpAddr = words.next()?.parse().ok()?;
    Some((address.to_canonical(), words.next()?.parse().ok()?))
}

/// The user whom `sshd`'s processes name in their titles (`sshd.c`, `session.c` of OpenSSH); `None` before the login:
/// then one of them is still the unprivileged half that talks to a stranger.
fn user(titles: &[String]) -> Option<String> {
    let said = |title: &String| {
        let (program, said) = title.split_once(": ")?;
        processes::is_sshd(program).then(|| (program.to_owned(), said.to_owned()))
    };
    let said: Vec<(String, String)> = titles.iter().filter_map(said).collect();
    let stranger = |(program, said): &(String, String)| {
        program == "sshd-auth" || ["[net]", "[accepted]", "[preauth]"].iter().any(|mark| said.contains(mark))
    };
    if said.iter().any(stranger) {
        return None;
    }
    said.iter().map(|(_, said)| name_in(said)).find(|name| !name.is_empty() && name != "unknown")
}

/// `anna [priv]`, `anna@pts/0,pts/3`, `anna@notty`, `anna`; a name may itself contain an `@`.
fn name_in(said: &str) -> String {
    let said = said.strip_suffix(" [priv]").unwrap_or(said);
    let is_place =
        |place: &str| place == "notty" || place.starts_with("pts/") || place.starts_with("internal-sftp");
    match said.rsplit_once('@') {
        Some((name, place)) if is_place(place) => name.to_owned(),
        _ => said.to_owned(),
    }
}

/// Since somebody typed at a terminal: as `w` does, by when its device was last read.
fn since_input(pts: u32) -> Option<Duration> {
    let read = fs::metadata(format!("/dev/pts/{pts}")).ok()?;
    let read = UNIX_EPOCH + Duration::from_secs(u64::try_from(read.st_atime()).ok()?);
    Some(SystemTime::now().duration_since(read).unwrap_or_default())
}

/// The moment, in seconds since 1970, that the kernel counts in ticks since boot.
fn when(began: u64) -> Option<u64> {
    let since_boot = Duration::from_nanos(onevip_bpf::boot_time_ns());
    let age = since_boot
        .saturating_sub(Duration::from_secs_f64(began as f64 / processes::ticks_per_second() as f64));
    SystemTime::now().checked_sub(age)?.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_of(titles: &[&str]) -> Option<String> {
        user(&titles.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn the_titles_of_sshd_name_the_user() {
        assert_eq!(user_of(&["sshd: anna [priv]", "sshd: anna@pts/0"]).as_deref(), Some("anna"));
        assert_eq!(user_of(&["sshd: root@notty"]).as_deref(), Some("root"));
        assert_eq!(user_of(&["sshd-session: bob@pts/1,pts/2"]).as_deref(), Some("bob"));
        assert_eq!(user_of(&["sshd: bob"]).as_deref(), Some("bob"), "forwards ports only");
        assert_eq!(user_of(&["sshd: c@example.org@pts/1"]).as_deref(), Some("c@example.org"));
        assert_eq!(user_of(&["sshd: c@example.org [priv]"]).as_deref(), Some("c@example.org"));
    }

    #[test]
    fn before_the_login_there_is_no_user() {
        assert_eq!(user_of(&["sshd: anna [priv]", "sshd: anna [net]"]), None);
        assert_eq!(user_of(&["sshd: unknown [priv]", "sshd: unknown [net]"]), None);
        assert_eq!(user_of(&["sshd: [accepted]"]), None);
        assert_eq!(user_of(&["sshd-session: anna [priv]", "sshd-auth: anna [net]"]), None);
        assert_eq!(user_of(&[]), None);
    }

    #[test]
    fn the_client_is_read_from_what_sshd_says() {
        let v4 = client_in("198.51.100.101 50022 198.51.100.10 22");
        assert_eq!(v4, Some(("198.51.100.101".parse().unwrap(), 50022)));
        assert_eq!(client_in("2001:db8::101 50022 2001:db8::10 22").unwrap().1, 50022);
        assert_eq!(client_in("UNKNOWN 65535 UNKNOWN 65535"), None);
    }

    #[test]
    fn somebody_is_meant_by_name_or_by_address() {
        let session = Session {
            node: "unix1".into(),
            vip: "login".into(),
            user: Some("anna".into()),
            address: "198.51.100.101".parse().unwrap(),
            port: 50022,
            service: 22,
            program: Some("sshd".into()),
            since: None,
            idle_seconds: None,
            terminals: Vec::new(),
            holders: Vec::new(),
        };
        assert!(
            session.is_of("anna")
                && session.is_of("198.51.100.101")
                && session.is_of("::ffff:198.51.100.101")
        );
        assert!(!session.is_of("ann") && !session.is_of("198.51.100.10"));
    }
}

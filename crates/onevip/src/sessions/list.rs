//! The sessions of this host: every TCP connection to a VIP that lives here, and whose it is.
//!
//! A session of mosh is a UDP socket of the VIP, and its client may be anywhere by now: it is told with the address from which
//! its user logged in.
//!
//! From the socket to the process that has it, from that to its user: `sshd` names the user in its title. No name
//! service is asked, because one that hangs must not hang `who`. Who only calls himself `sshd` is not believed: one that logs
//! people in has a process of root's.

use crate::base::plan::Plan;
use crate::sessions::accounts::name_of;
use crate::sessions::processes::{self, Process, Processes};
use anyhow::Context;
use onevip_core::Flow;
use onevip_host::sockets::{self, Bound};
use onevip_host::talkers::{self, Talker};
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
    /// The processes of `sshd` or `mosh-server` that have its socket, none where somebody else has it; only of use on its
    /// own node.
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
    /// Whether somebody is logged in by it: the server is OpenSSH's or mosh's. Only of use on its own node.
    pub fn is_login(&self) -> bool {
        !self.holders.is_empty()
    }

    /// Whether a user of this host, or its own health check, connects to the VIP without having logged in: nobody's
    /// session, and the client's end of one is none either.
    fn is_own_probe(&self, plan: &Plan) -> bool {
        let own = plan.vips.iter().any(|vip| vip.vip.addresses.contains(&self.address));
        own && self.user.is_none()
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
    sessions.retain(|session| !session.is_own_probe(plan));
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
    let sshds = sshds(&known, processes::is_of_root);
    let titles: Vec<Title> = sshds
        .iter()
        .map(|process| Title::new(&processes::title(process.pid), processes::is_of_root(process.pid)))
        .collect();
    let mut pts: Vec<u32> = processes.children(pids).filter_map(|child| child.pts).collect();
    pts.sort_unstable();
    pts.dedup();
    // Another program's process may have begun long before its connection.
    let began = sshds.iter().map(|process| process.began).min();
    let typed = pts.iter().filter_map(|pts| since_input(*pts)).min();
    Session {
        node: node.to_owned(),
        vip: vip.to_owned(),
        user: user(&titles),
        address: talker.flow.remote,
        port: talker.flow.remote_port,
        service: talker.flow.local_port,
        program: sshds.first().or(known.first()).map(|process| process.name.clone()),
        since: began.and_then(when),
        idle_seconds: typed.or(talker.silent_for).map(|span| span.as_secs()),
        terminals: pts.iter().map(|pts| format!("pts/{pts}")).collect(),
        holders: sshds.iter().map(|process| Holder { pid: process.pid, began: process.began }).collect(),
    }
}

/// Those of the processes with a socket that are OpenSSH's: of this name and root's, and what these have started of this
/// name, which talks to the client without root's rights.
fn sshds<'a>(known: &[&'a Process], is_of_root: impl Fn(i32) -> bool) -> Vec<&'a Process> {
    let named = || known.iter().copied().filter(|process| processes::is_sshd(&process.name));
    let of_root: Vec<i32> = named().map(|process| process.pid).filter(|pid| is_of_root(*pid)).collect();
    named().filter(|process| of_root.contains(&process.pid) || of_root.contains(&process.parent)).collect()
}

/// The session that lives on a UDP socket: where its client logged in says the environment that `sshd` gave its server. The
/// user could have changed that, so whose it is says the kernel as well.
fn roaming(node: &str, vip: &str, bound: &Bound, pids: &[i32], processes: &Processes) -> Session {
    let known: Vec<_> = pids.iter().filter_map(|pid| processes.get(*pid)).collect();
    let variable = |name| pids.iter().find_map(|pid| processes::variable(*pid, name));
    let from = variable("SSH_CONNECTION").as_deref().and_then(client_in);
    let claimed = variable("LOGNAME").or_else(|| variable("USER"));
    let user = pids.iter().find_map(|pid| processes::user_of(*pid)).and_then(|user| name_of(user, claimed));
    let mut pts: Vec<u32> = processes.children(pids).filter_map(|child| child.pts).collect();
    pts.sort_unstable();
    pts.dedup();
    let (address, port) = from.unwrap_or((Ipv4Addr::UNSPECIFIED.into(), 0));
    Session {
        node: node.to_owned(),
        vip: vip.to_owned(),
        user,
        address,
        port,
        service: bound.port,
        program: known.first().map(|process| process.name.clone()),
        since: known.iter().map(|process| process.began).min().and_then(when),
        idle_seconds: pts.iter().filter_map(|pts| since_input(*pts)).min().map(|span| span.as_secs()),
        terminals: pts.iter().map(|pts| format!("pts/{pts}")).collect(),
        holders: known
            .iter()
            .filter(|process| processes::is_mosh(&process.name))
            .map(|process| Holder { pid: process.pid, began: process.began })
            .collect(),
    }
}

/// The client in what `sshd` says of a connection: its address and port, then the server's.
fn client_in(connection: &str) -> Option<(IpAddr, u16)> {
    let mut words = connection.split(' ');
    let address: IpAddr = words.next()?.parse().ok()?;
    Some((address.to_canonical(), words.next()?.parse().ok()?))
}

/// What a process of `sshd` says: `PROGRAM: SAID`.
struct Title {
    program: String,
    said: String,
    /// Whether root's process says it. What a user's process says of itself counts only against it.
    by_root: bool,
}

impl Title {
    fn new(title: &str, by_root: bool) -> Self {
        let (program, said) = title.split_once(": ").unwrap_or((title, ""));
        Self { program: program.to_owned(), said: said.to_owned(), by_root }
    }

    /// Whether it is the unprivileged half that talks to somebody who has not logged in.
    fn is_before_login(&self) -> bool {
        let said = |mark| self.said.contains(mark);
        self.program == "sshd-auth" || ["[net]", "[accepted]", "[preauth]"].into_iter().any(said)
    }
}

/// The user whom `sshd`'s processes name in their titles (`sshd.c`, `session.c` of OpenSSH); `None` before the login.
fn user(titles: &[Title]) -> Option<String> {
    if titles.iter().any(Title::is_before_login) {
        return None;
    }
    let told = titles.iter().filter(|title| title.by_root && processes::is_sshd(&title.program));
    told.map(|title| name_in(&title.said)).find(|name| !name.is_empty() && name != "unknown")
}

/// `anna [priv]` (since 10.5 `anna [postauth]`), `anna@pts/0,pts/3`, `anna@notty`, `anna`; a name may itself contain an `@`.
fn name_in(said: &str) -> String {
    let said = said.strip_suffix(" [priv]").or_else(|| said.strip_suffix(" [postauth]")).unwrap_or(said);
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

    /// The first process is root's, and has started the others.
    fn user_of(titles: &[&str]) -> Option<String> {
        let titles = titles.iter().enumerate().map(|(place, title)| Title::new(title, place == 0));
        user(&titles.collect::<Vec<_>>())
    }

    #[test]
    fn the_titles_of_sshd_name_the_user() {
        assert_eq!(user_of(&["sshd: anna [priv]", "sshd: anna@pts/0"]).as_deref(), Some("anna"));
        assert_eq!(user_of(&["sshd: root@notty"]).as_deref(), Some("root"));
        assert_eq!(user_of(&["sshd-session: bob@pts/1,pts/2"]).as_deref(), Some("bob"));
        assert_eq!(user_of(&["sshd: bob"]).as_deref(), Some("bob"), "forwards ports only");
        assert_eq!(user_of(&["sshd-session: bob [postauth]"]).as_deref(), Some("bob"));
        assert_eq!(user_of(&["sshd: c@example.org@pts/1"]).as_deref(), Some("c@example.org"));
        assert_eq!(user_of(&["sshd: c@example.org [priv]"]).as_deref(), Some("c@example.org"));
        assert_eq!(user_of(&["sshd: anna [priv]", "sshd: root@pts/0"]).as_deref(), Some("anna"));
        assert_eq!(user_of(&["sshd", "sshd: root@pts/0"]), None, "a user's own title is no proof");
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
    fn a_process_is_sshds_by_root_and_by_descent_not_by_its_name() {
        let process =
            |pid, parent, name: &str| Process { pid, parent, name: name.into(), pts: None, began: 0 };
        let [listener, monitor, child, forged, passed] = [
            process(10, 1, "sshd"),
            process(11, 10, "sshd-session"),
            process(12, 11, "sshd-session"),
            process(13, 12, "sshd"),
            process(1, 0, "systemd"),
        ];
        let found = |known: &[&Process]| {
            let sshds = sshds(known, |pid| pid <= 11);
            sshds.iter().map(|process| process.pid).collect::<Vec<_>>()
        };
        assert_eq!(found(&[&passed, &monitor, &child]), [11, 12]);
        assert_eq!(found(&[&listener]), [10]);
        assert!(found(&[&child, &forged, &passed]).is_empty(), "a user's, and whoever was given the socket");
    }

    #[test]
    fn the_client_is_read_from_what_sshd_says() {
        let v4 = client_in("198.51.100.101 50022 198.51.100.10 22");
        assert_eq!(v4, Some(("198.51.100.101".parse().unwrap(), 50022)));
        assert_eq!(client_in("2001:db8::101 50022 2001:db8::10 22").unwrap().1, 50022);
        assert_eq!(client_in("UNKNOWN 65535 UNKNOWN 65535"), None);
    }
}

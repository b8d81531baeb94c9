//! The third step: sixty people log in, each from an address of their own, with real `ssh`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::screen::{Ink, Screen};
use crate::daemon;
use crate::lab::Lab;
use crate::process::run_ok;

/// So many log in at the same time.
const AT_ONCE: usize = 8;

/// A login that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    /// The client's address.
    pub client: IpAddr,
    /// What `hostname` said there.
    pub host: String,
    /// The client's address as the session saw it (`$SSH_CONNECTION`).
    pub seen_as: String,
}

/// Runs the step; returns where everybody landed.
pub fn run(lab: &Lab, screen: &mut Screen) -> Result<Vec<Landed>> {
    let clients = lab.clients();
    screen.step(&format!("{} people log in", clients.len()));
    let predicted = predict_all(lab, &clients)?;
    let example = clients[0];
    screen.prompt("unix1", &format!("onevip where {example}"));
    let answer = run_ok(&mut onevip_where(lab, example)?, Duration::from_secs(10))?;
    screen.quote(answer.lines().next().unwrap_or_default(), None);
    screen.say(&screen.ink(Ink::Dim, &format!("… asked for all {} before anybody logs in", clients.len())));
    screen.say("");
    screen.pause(Duration::from_millis(1500))?;
    screen.prompt("client", &format!("ssh -b {example} root@{} hostname", lab.vip()[0]));
    screen.say(&screen.ink(Ink::Dim, &format!("… and from all the others, {AT_ONCE} at a time")));
    screen.say("");

    let start = Instant::now();
    let landed = log_in_all(lab, &clients, screen)?;
    let took = start.elapsed().as_secs_f64();
    screen.say("");
    screen.claim(
        landed.len() == clients.len(),
        &format!("{} of {} logged in, in {took:.1} s", landed.len(), clients.len()),
    )?;
    let astray = landed.iter().find(|l| predicted[&l.client] != l.host);
    let but = astray.map_or(String::new(), |l| {
        format!(" (but {} landed on {}, not {})", l.client, l.host, predicted[&l.client])
    });
    screen.claim(astray.is_none(), &format!("each landed where `onevip where` had said{but}"))?;
    claim_addresses(lab, screen, &landed)?;
    Ok(landed)
}

/// Every server saw, and logged, the client's own address, and no other server did.
fn claim_addresses(lab: &Lab, screen: &Screen, landed: &[Landed]) -> Result<()> {
    let logs: BTreeMap<String, String> = lab.nodes().map(|node| (node.name(), node.sshd_log())).collect();
    let accepted =
        |log: &str, client: IpAddr| log.contains(&format!("Accepted publickey for root from {client} "));
    let logged_by =
        |client| logs.iter().filter(move |(_, log)| accepted(log, client)).map(|(host, _)| host.as_str());
    let right = landed.iter().all(|l| {
        l.seen_as == l.client.to_string() && logged_by(l.client).collect::<Vec<_>>() == [l.host.as_str()]
    });
    screen.say("");
    let last = &landed[landed.len() - 1];
    screen.prompt(&last.host, "grep Accepted sshd.log | tail -1");
    let log = &logs[&last.host];
    let line = log.lines().rfind(|line| line.contains("Accepted publickey")).unwrap_or_default();
    screen.quote(line.split(" ssh2").next().unwrap_or(line), None);
    screen.claim(right, "the servers see the clients' own addresses, each on one host only")
}

fn log_in_all(lab: &Lab, clients: &[IpAddr], screen: &mut Screen) -> Result<Vec<Landed>> {
    let mut counts: Vec<(String, usize)> = lab.nodes().map(|node| (node.name(), 0)).collect();
    let mut landed = Vec::new();
    screen.chart(&counts, clients.len(), false);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..AT_ONCE {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(&client) = clients.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // The receiver is gone after a failure: then nobody else needs to log in.
                    if sender.send(log_in(lab, client)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for result in receiver {
            let login = result?;
            counts.iter_mut().filter(|(host, _)| *host == login.host).for_each(|(_, count)| *count += 1);
            screen.chart(&counts, clients.len(), false);
            landed.push(login);
        }
        anyhow::Ok(())
    })?;
    screen.chart(&counts, clients.len(), true);
    Ok(landed)
}

fn log_in(lab: &Lab, client: IpAddr) -> Result<Landed> {
    let output = lab.ssh(Some(client), "hostname; echo \"$SSH_CONNECTION\"")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{client} could not log in: {}", said.trim());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines();
    let host = lines.next().unwrap_or_default().to_owned();
    let seen_as = lines.next().and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned();
    Ok(Landed { client, host, seen_as })
}

fn predict_all(lab: &Lab, clients: &[IpAddr]) -> Result<BTreeMap<IpAddr, String>> {
    clients.iter().map(|&client| Ok((client, predict(lab, client)?))).collect()
}

/// The node that `onevip where` names for a client.
fn predict(lab: &Lab, client: IpAddr) -> Result<String> {
    let json = run_ok(onevip_where(lab, client)?.arg("--json"), Duration::from_secs(10))?;
    node_named_in(&json)
        .with_context(|| format!("`onevip where {client} --json` names no node: {}", json.trim()))
}

fn onevip_where(lab: &Lab, client: IpAddr) -> Result<Command> {
    let mut command = Command::new(daemon::program()?);
    command.args(["where", &client.to_string(), "--config"]).arg(lab.node(1).config());
    Ok(command)
}

/// The `node` of an answer, which may stand in a list of answers (one for each VIP).
fn node_named_in(json: &str) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_str(json).ok()?;
    let answer = answer.get(0).unwrap_or(&answer);
    Some(answer.get("node")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_found_alone_and_in_a_list() {
        assert_eq!(node_named_in(r#"{"client": "x", "node": "unix2"}"#).as_deref(), Some("unix2"));
        assert_eq!(node_named_in(r#"[{"node": "unix3"}]"#).as_deref(), Some("unix3"));
        assert_eq!(node_named_in(r#"{"node": null}"#), None);
        assert_eq!(node_named_in("nonsense"), None);
    }
}

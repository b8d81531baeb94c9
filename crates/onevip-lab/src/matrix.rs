//! The same stories over every kind of host, seen from outside: what clients got and what became of their sessions,
//! never what onevip counts itself.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::fault::LabFault;
use crate::kind::{HostKind, RightOutcome};
use crate::lab::Options;
use crate::plan::Host;
use crate::process::{run, run_ok};
use crate::testbed::Testbed;

/// Nobody is unserved for longer: a promise.
const UNSERVED_AT_MOST: Duration = Duration::from_secs(3);
/// What is not so by now will not become so.
const WITHIN: Duration = Duration::from_secs(20);
/// The node that things happen to.
const NODE: u8 = 2;
/// What a doctor may say of the machine that the lab runs on, and truly.
const OF_THE_MACHINE: [&str; 2] = ["real-time", "memory-lock"];

/// Runs all stories over nodes of one kind, and returns each promise that was broken, in words.
///
/// # Errors
/// When the lab cannot be built, or a story cannot be told to its end: that is no verdict on the kind.
pub fn broken_promises(kind: &HostKind, options: Options) -> Result<Vec<String>> {
    let options = options.nodes(3).clients(24).hosts(kind.name.parse()?);
    let testbed = Testbed::set_up(options, &[Host::Client]).context("the cluster does not serve")?;
    let waits = matches!(kind.right, RightOutcome::Waits(_));
    let mut eyes = Eyes { testbed, waits, broken: Vec::new() };
    eyes.log_in()?;
    eyes.doctor(kind.right)?;
    eyes.story(
        "restart",
        |_| false,
        |testbed| {
            testbed.lab.node(NODE).stop_onevip();
            testbed.lab.node(NODE).start_onevip().map(drop)
        },
    )?;
    eyes.story("drain", |_| false, |testbed| order(testbed, "drain"))?;
    eyes.story("undrain", |_| false, |testbed| order(testbed, "undrain"))?;
    eyes.story("power-off", |node| node == NODE, |testbed| testbed.lab.fault(&LabFault::PowerOff(NODE)))?;
    eyes.story("boot", |node| node == NODE, |testbed| testbed.lab.heal(None).map(drop))?;
    Ok(eyes.broken)
}

fn order(testbed: &Testbed, subcommand: &str) -> Result<()> {
    run_ok(&mut testbed.lab.node(NODE).onevip_command(subcommand)?, WITHIN).map(drop)
}

/// The document of which these are the rows: kind, what it is, what it keeps, whether the last run found it so.
pub fn page(rows: &str) -> String {
    format!(
        "# Kinds of hosts\n\n\
         What onevip promises on hosts that are not like the lab's plain ones. `make matrix` makes this\n\
         page: it runs the same stories over three nodes of each kind (logins by both families, `doctor`,\n\
         restart of a daemon, drain and undrain, power-off, boot) and judges as clients see it: nobody is\n\
         unserved for more than 3 s, no SYN is answered twice, no session ends but those of a node that\n\
         died, and those end.\n\n\
         | kind | what it has | what it keeps | the last run |\n| --- | --- | --- | --- |\n{rows}\n\
         `onevip-lab up --host KIND` makes a cluster of such hosts to play with, `--host unix2=KIND` one.\n"
    )
}

struct Eyes {
    testbed: Testbed,
    /// Sessions of a dead node need not end.
    waits: bool,
    broken: Vec<String>,
}

impl Eyes {
    /// A login with OpenSSH in each family, from one client for each node.
    fn log_in(&mut self) -> Result<()> {
        let lab = &self.testbed.lab;
        for node in lab.plan().node_ids() {
            let client = self.testbed.clients_of(node)?[0];
            let output = lab.ssh(Some(client.into()), "hostname")?;
            let host = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if host != format!("unix{node}") {
                self.broken.push(format!("login: {client} got {host:?} in place of unix{node}"));
            }
        }
        for client in lab.clients6().into_iter().take(6) {
            let output = lab.ssh(Some(client), "hostname")?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                self.broken.push(format!("login: {client} failed: {}", said.trim()));
            }
        }
        Ok(())
    }

    /// What every doctor has to say in the end, and nothing else.
    fn doctor(&mut self, right: RightOutcome) -> Result<()> {
        let wanted: &[&str] = match &right {
            RightOutcome::Keeps => &[],
            RightOutcome::Waits(check) => &[*check],
        };
        for node in self.testbed.lab.plan().node_ids() {
            let mut said = Vec::new();
            let mut trouble = None;
            let right =
                self.testbed.watch(Instant::now() + WITHIN, |testbed| match checks(testbed, node) {
                    Ok(checks) => {
                        said = checks;
                        said.iter().all(|check| wanted.contains(&check.as_str()))
                            && wanted.iter().all(|check| said.iter().any(|said| said == check))
                    }
                    Err(error) => {
                        trouble = Some(error);
                        true
                    }
                })?;
            if let Some(error) = trouble {
                return Err(error.context(format!("doctor on unix{node}")));
            }
            if !right {
                self.broken.push(format!("doctor of unix{node}: says {said:?}, should say {wanted:?}"));
            }
        }
        Ok(())
    }

    /// Does something, watches until everybody is served again, and notes what broke. Sessions on nodes that `dies`
    /// picks have to end, and no other.
    fn story(
        &mut self,
        story: &str,
        dies: impl Fn(u8) -> bool,
        act: impl FnOnce(&mut Testbed) -> Result<()>,
    ) -> Result<()> {
        let start = Instant::now();
        let before = self.testbed.sessions.glance();
        act(&mut self.testbed).with_context(|| format!("the story {story}"))?;
        let waits = self.waits;
        let ended = |testbed: &Testbed| {
            waits
                || testbed.sessions.glance().iter().filter(|log| dies(log.node)).all(|log| log.lost.is_some())
        };
        // From here on: so that what was served before the act took hold is not taken for its end.
        let settled = Instant::now() + UNSERVED_AT_MOST;
        let in_order =
            |testbed: &mut Testbed| Instant::now() > settled && testbed.served().is_some() && ended(testbed);
        let good = self.testbed.watch(Instant::now() + WITHIN, in_order)?;
        let now = Instant::now();
        if !good && !ended(&self.testbed) {
            self.broken.push(format!("{story}: sessions of a dead node are not ended after {WITHIN:?}"));
        }
        let samples = &self.testbed.samples;
        for client in samples.clients() {
            match samples.gap(client, start, now) {
                Some(gap) if gap <= UNSERVED_AT_MOST => {}
                Some(gap) => self.broken.push(format!("{story}: {client} unserved for {gap:?}")),
                None => self.broken.push(format!("{story}: {client} is not served in the end")),
            }
        }
        let twice: Vec<Ipv4Addr> = samples.twice(start, now).iter().map(|probe| probe.client).collect();
        if !twice.is_empty() {
            self.broken.push(format!("{story}: two answers to one SYN of {twice:?}"));
        }
        let glance = self.testbed.sessions.glance();
        ensure!(glance.len() >= before.len(), "{story}: the record of some sessions is gone");
        for log in glance.iter().filter(|log| !dies(log.node)) {
            if let Some((_, how)) = log.lost.as_ref().filter(|(at, _)| *at >= start) {
                self.broken.push(format!("{story}: session of {} on unix{}: {how}", log.client, log.node));
            }
        }
        Ok(())
    }
}

fn checks(testbed: &Testbed, node: u8) -> Result<Vec<String>> {
    let output = run(testbed.lab.node(node).onevip_command("doctor")?.arg("--json"), WITHIN)?;
    let all: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let mut words: Vec<String> =
        all.iter().filter_map(|finding| finding["check"].as_str().map(str::to_owned)).collect();
    words.retain(|word| !OF_THE_MACHINE.contains(&word.as_str()));
    words.dedup();
    Ok(words)
}

//! The fourth step: a file goes up with `scp`, to the host where its owner always lands.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::logins::Landed;
use super::screen::Screen;
use crate::lab::Lab;
use crate::process::run_ok;
use crate::ssh::Login;

/// Size of the file, in bytes.
const SIZE: u64 = 32 << 20;

/// Runs the step, for one of those who logged in before.
pub fn run(lab: &Lab, screen: &mut Screen, landed: &[Landed]) -> Result<()> {
    screen.step("A file goes up");
    let who = landed.last().context("nobody logged in")?;
    let node = lab.nodes().find(|node| node.name() == who.host).context("a login landed on no node")?;
    let (here, home) = (lab.dir().join("thesis.tar"), Login::home(lab.name()));
    write_random(&here)?;
    let log_before = node.sshd_log().len();

    screen.prompt("client", &format!("scp -o BindAddress={} thesis.tar root@{}:", who.client, lab.vip()[0]));
    let start = Instant::now();
    let mut scp = lab.openssh("scp", Some(who.client))?;
    scp.arg("-q").arg(&here).arg(format!("root@{}:", lab.vip()[0]));
    run_ok(&mut scp, Duration::from_secs(30))?;
    let took = start.elapsed().as_secs_f64();
    screen.quote(
        &format!("thesis.tar  {} MiB  {took:.2} s  {:.0} MB/s", SIZE >> 20, SIZE as f64 / took / 1e6),
        None,
    );

    let here_sum = sum(lab, "client", &here)?;
    let there_sum = sum(lab, &who.host, &home.join("thesis.tar"))?;
    for (host, sum) in [("client", &here_sum), (&who.host, &there_sum)] {
        screen.prompt(host, "sha256sum thesis.tar");
        screen.quote(sum, None);
    }
    screen.claim(here_sum == there_sum, "the file arrived whole: the sums agree")?;
    let log = node.sshd_log();
    let received = log[log_before..].contains(&format!("subsystem 'sftp' for root from {} ", who.client));
    screen
        .claim(received, &format!("it was {} that took it, where {} had landed before", who.host, who.client))
}

fn write_random(path: &Path) -> Result<()> {
    let mut bytes = Vec::new();
    File::open("/dev/urandom")?.take(SIZE).read_to_end(&mut bytes)?;
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// What `sha256sum` says of a file, on a host.
fn sum(lab: &Lab, host: &str, path: &Path) -> Result<String> {
    let text = lab.exec_ok(host, &["sha256sum", &path.to_string_lossy()])?;
    let sum = text.split_whitespace().next().filter(|sum| sum.len() == 64);
    Ok(sum.with_context(|| format!("sha256sum says {text:?}"))?.to_owned())
}

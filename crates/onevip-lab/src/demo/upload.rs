//! The fourth act: a file goes up with `scp`, to the host where its owner always lands.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::logins::Landed;
use super::screen::Screen;
use crate::lab::Lab;
use crate::process::{run, run_ok};

/// Size of the file, in bytes.
const SIZE: u64 = 32 << 20;

/// Tells the act, for one of those who logged in before.
pub fn tell(lab: &Lab, screen: &mut Screen, landed: &[Landed]) -> Result<()> {
    screen.act("A file goes up");
    let who = landed.last().context("nobody logged in")?;
    let node = lab.nodes().find(|node| node.name() == who.host).context("a login landed on no node")?;
    let (here, there) = (lab.dir().join("thesis.tar"), lab.dir().join("uploaded.tar"));
    write_random(&here)?;
    let log_before = node.sshd_log().len();

    screen.prompt("client", &format!("scp -o BindAddress={} thesis.tar root@{}:", who.client, lab.vip()[0]));
    let start = Instant::now();
    let mut scp = lab.openssh("scp", Some(who.client))?;
    scp.arg("-q").arg(&here).arg(format!("root@{}:{}", lab.vip()[0], there.display()));
    run_ok(&mut scp, Duration::from_secs(30))?;
    let took = start.elapsed();
    let speed = SIZE as f64 / took.as_secs_f64() / 1e6;
    screen.quote(
        &format!("thesis.tar  {} MiB  {:.2} s  {speed:.0} MB/s", SIZE >> 20, took.as_secs_f64()),
        None,
    );

    let there_sum = remote_sum(lab, who, &there)?;
    let here_sum = local_sum(lab, &here)?;
    screen.say("");
    screen.prompt("client", &format!("ssh -b {} root@{} sha256sum thesis.tar", who.client, lab.vip()[0]));
    screen.quote(&there_sum, None);
    screen.claim(here_sum == there_sum && !here_sum.is_empty(), "the file arrived whole: the sums agree")?;
    let log = node.sshd_log();
    let received = log[log_before..].contains(&format!("subsystem 'sftp' for root from {} ", who.client));
    screen.claim(received, &format!("{} got it, the host where {} landed before", who.host, who.client))
}

fn write_random(path: &Path) -> Result<()> {
    let mut bytes = Vec::new();
    File::open("/dev/urandom")?.take(SIZE).read_to_end(&mut bytes)?;
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn remote_sum(lab: &Lab, who: &Landed, path: &Path) -> Result<String> {
    let output = lab.ssh(Some(who.client), &format!("hostname && sha256sum {}", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (host, sum) = text.split_once('\n').context("no answer to sha256sum")?;
    ensure!(host == who.host, "{} landed on {host} now, and on {} before", who.client, who.host);
    Ok(first_word(sum))
}

fn local_sum(lab: &Lab, path: &Path) -> Result<String> {
    let mut command = lab.command("client", "sha256sum")?;
    let output = run(command.arg(path), Duration::from_secs(30))?;
    Ok(first_word(&String::from_utf8_lossy(&output.stdout)))
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

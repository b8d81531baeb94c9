//! `onevip-lab bench connect`: how long it takes to get in, and how many get in within a second, through the VIP, straight
//! to the node, and through HAProxy.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::rounds::{Progress, take_turns};
use super::sheet::{Aim, Sheet};
use super::stats::{percentile, sorted};
use super::ways::{Way, Ways};
use crate::load::dial::end_abruptly;
use crate::load::{bulk, echo};
use crate::process::run_ok;

/// Connections of a turn, one after the other.
pub const CONNECTIONS: usize = 400;
/// Logins of a turn, one after the other.
pub const LOGINS: usize = 6;
/// How long as many connections as possible are made.
const RUSH: Duration = Duration::from_secs(1);
/// Threads that make them.
const RUSHING: usize = 8;
const CLIENTS: usize = 32;
const ECHO: &str = "client to greeting service";
const SSH: &str = "ssh host true";

/// Measures in a lab of its own.
///
/// # Errors
/// When the lab cannot be built, a connection fails, or the user interrupts.
pub fn run(name: &str, nodes: usize, rounds: usize, command: String) -> Result<Sheet> {
    let mut sheet = Sheet::new("connect", command);
    sheet.set("nodes", nodes);
    sheet.set("rounds", rounds);
    sheet.set("connections per turn", CONNECTIONS);
    sheet.set("logins per turn", LOGINS);
    let ways = Ways::open(name, nodes, CLIENTS)?;
    let progress = Progress::new("connect");
    let clients = ways.clients();
    let mut contestants = Way::ALL;
    take_turns(&progress, "TCP connect", rounds, &mut contestants, |&mut way| {
        let ends = |k: usize| (clients[k % CLIENTS], ways.target(way, clients[k % CLIENTS]));
        let (connected, greeted) = ways.lab.inside("client", || one_by_one(CONNECTIONS, ends))??;
        note(&mut sheet, "TCP connect", ECHO, way, "µs", connected, 1e6);
        note(&mut sheet, "TCP connect and greeting", ECHO, way, "µs", greeted, 1e6);
        Ok(())
    })?;
    take_turns(&progress, "connections per second", rounds, &mut contestants, |&mut way| {
        let targets: Vec<_> = clients.iter().map(|&client| (client, ways.target(way, client))).collect();
        let rate = ways.lab.inside("client", || rush(&targets))??;
        sheet.note("new connections", ECHO, way.word(), "1/s", rate);
        Ok(())
    })?;
    take_turns(&progress, "ssh", rounds, &mut contestants, |&mut way| {
        let took =
            (0..LOGINS).map(|k| log_in(&ways, way, clients[k * 5 % CLIENTS])).collect::<Result<_>>()?;
        note(&mut sheet, "login", SSH, way, "ms", took, 1e3);
        Ok(())
    })?;
    ways.lab.down()?;
    let connects = ["TCP connect, median", "TCP connect, 99 %", "TCP connect and greeting, median"];
    for metric in connects.into_iter().chain(["login, median", "login, 99 %"]) {
        sheet.aims.push(Aim::at_most(metric, Way::Onevip.word(), Some(Way::Direct.word()), 1.03));
    }
    sheet.finish();
    Ok(sheet)
}

/// Median and 99th percentile of a turn.
fn note(sheet: &mut Sheet, what: &str, scenario: &str, way: Way, unit: &str, took: Vec<f64>, scale: f64) {
    let took = sorted(took.into_iter().map(|seconds| seconds * scale));
    for (name, share) in [("median", 0.5), ("99 %", 0.99)] {
        if let Some(figure) = percentile(&took, share) {
            sheet.note(&format!("{what}, {name}"), scenario, way.word(), unit, figure);
        }
    }
}

/// Seconds until connected, and until greeted.
fn one_by_one(count: usize, ends: impl Fn(usize) -> (Ipv4Addr, Ipv4Addr)) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut connected, mut greeted) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for k in 0..count {
        let (from, to) = ends(k);
        let begun = Instant::now();
        let mut stream = bulk::open(from, SocketAddrV4::new(to, echo::PORT))?;
        connected.push(begun.elapsed().as_secs_f64());
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.read_exact(&mut [0])?;
        greeted.push(begun.elapsed().as_secs_f64());
        end_abruptly(&stream);
    }
    Ok((connected, greeted))
}

/// Connections a second, each greeted, made by several threads.
fn rush(targets: &[(Ipv4Addr, Ipv4Addr)]) -> Result<f64> {
    let begun = Instant::now();
    let made = thread::scope(|scope| {
        let rusher = |first: usize| {
            scope.spawn(move || -> Result<usize> {
                let mut made = 0;
                while begun.elapsed() < RUSH {
                    let ends = |k: usize| targets[(first + k) % targets.len()];
                    made += one_by_one(10, |k| ends(made + k))?.0.len();
                }
                Ok(made)
            })
        };
        let threads: Vec<_> = (0..RUSHING).map(|i| rusher(i * 5)).collect();
        let all = threads.into_iter().map(|t| t.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?);
        all.sum::<Result<usize>>()
    })?;
    Ok(made as f64 / begun.elapsed().as_secs_f64())
}

/// A whole login, seconds.
fn log_in(ways: &Ways, way: Way, client: Ipv4Addr) -> Result<f64> {
    let target = ways.target(way, client);
    let mut ssh = ways.lab.ssh_command(target.into(), Some(client.into()))?;
    let begun = Instant::now();
    run_ok(ssh.arg("true"), Duration::from_secs(30))
        .with_context(|| format!("{client} cannot log in by way of {}", way.word()))?;
    Ok(begun.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_becomes_a_median_and_a_tail() {
        let mut sheet = Sheet::new("test", String::new());
        let seconds = (1..=100).map(|k| f64::from(k) / 1e6).collect();
        note(&mut sheet, "x", "s", Way::Direct, "µs", seconds, 1e6);
        let of = |metric: &str| sheet.find(metric, "s", "direct").unwrap().samples[0];
        assert!((of("x, median") - 50.0).abs() < 1e-6 && (of("x, 99 %") - 99.0).abs() < 1e-6);
    }
}

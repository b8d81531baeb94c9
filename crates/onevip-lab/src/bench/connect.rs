//! `onevip-lab bench connect`: how long it takes to get in, and how many get in within a second, through the VIP, straight
//! to the node, and through HAProxy.

use std::io::Read;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::access::{AccessPath, AccessPaths, IpFamily, plural};
use super::results::{Aim, BenchResults};
use super::rounds::{Progress, take_turns};
use super::stats::{percentile, sorted};
use crate::dial::{connect, end_abruptly};
use crate::process::run_ok;
use crate::service::echo;

/// Connections of a turn, one after the other: ten of them are slower than the 99th percentile.
pub const CONNECTIONS: usize = 1000;
/// Logins of a turn, one after the other.
pub const LOGINS: usize = 10;
/// How long as many connections as possible are made.
const RUSH: Duration = Duration::from_millis(300);
/// Threads that make them.
const RUSHING: usize = 8;
const CLIENTS: usize = 32;
const CONNECT: &str = "TCP connect";
const GREETED: &str = "TCP connect and greeting";
const LOGIN: &str = "login";

/// Measures with each number of nodes, in a lab of its own. Logins are made where there are most nodes: they take long,
/// and nearly all of it is cryptography.
///
/// # Errors
/// When the lab cannot be built, a connection fails, or the user interrupts.
pub fn run(name: &str, nodes: &[usize], rounds: usize, command: String) -> Result<BenchResults> {
    let mut results = BenchResults::new("connect", command);
    results.set("rounds", rounds);
    results.set("connections per turn", CONNECTIONS);
    results.set("logins per turn", LOGINS);
    let progress = Progress::new("connect");
    let most = nodes.iter().max().copied();
    for &nodes in nodes {
        let mut paths = AccessPaths::open(name, nodes, CLIENTS)?;
        for family in IpFamily::ALL {
            connections(&mut paths, family, &progress, rounds, &mut results)?;
        }
        rushes(&mut paths, &progress, rounds, &mut results)?;
        if Some(nodes) == most {
            logins(&mut paths, &progress, rounds, &mut results)?;
        }
        paths.lab.down()?;
    }
    for metric in [CONNECT, GREETED, LOGIN] {
        for share in ["median", "99 %"] {
            let metric = format!("{metric}, {share}");
            results.aims.push(Aim::at_most(
                &metric,
                AccessPath::Onevip.word(),
                Some(AccessPath::Direct.word()),
                1.03,
            ));
        }
    }
    results.finish();
    Ok(results)
}

fn scenario(paths: &AccessPaths, family: IpFamily) -> String {
    format!("{}, {}", plural(paths.lab.plan().nodes.into(), "node"), family.word())
}

/// One after the other, by every path.
fn connections(
    paths: &mut AccessPaths,
    family: IpFamily,
    progress: &Progress,
    rounds: usize,
    results: &mut BenchResults,
) -> Result<()> {
    let (scenario, clients) = (scenario(paths, family), paths.clients(family));
    let what = format!("{CONNECT}, {scenario}");
    take_turns(progress, &what, rounds, &mut AccessPath::ALL.clone(), |&mut path| {
        paths.prepare(path)?;
        let ends = |k: usize| (clients[k % CLIENTS], paths.target(path, clients[k % CLIENTS]));
        let (connected, greeted) = paths.lab.inside("client", || one_by_one(CONNECTIONS, ends))??;
        note(results, CONNECT, &scenario, path, "µs", connected, 1e6);
        note(results, GREETED, &scenario, path, "µs", greeted, 1e6);
        Ok(())
    })
}

/// As many as there can be.
fn rushes(
    paths: &mut AccessPaths,
    progress: &Progress,
    rounds: usize,
    results: &mut BenchResults,
) -> Result<()> {
    let (scenario, clients) = (scenario(paths, IpFamily::V4), paths.clients(IpFamily::V4));
    let what = format!("connections per second, {scenario}");
    take_turns(progress, &what, rounds, &mut AccessPath::ALL.clone(), |&mut path| {
        paths.prepare(path)?;
        let targets: Vec<_> = clients.iter().map(|&client| (client, paths.target(path, client))).collect();
        let rate = paths.lab.inside("client", || rush(&targets))??;
        results.note("new connections", &scenario, path.word(), "1/s", rate);
        Ok(())
    })
}

/// Whole logins. A turn has too few of them for a 99th percentile: that is taken of all turns together.
fn logins(
    paths: &mut AccessPaths,
    progress: &Progress,
    rounds: usize,
    results: &mut BenchResults,
) -> Result<()> {
    let mut contestants =
        [AccessPath::Direct, AccessPath::Onevip, AccessPath::Haproxy].map(|path| (path, Vec::new()));
    let (scenario, clients) = (scenario(paths, IpFamily::V4), paths.clients(IpFamily::V4));
    take_turns(progress, "ssh", rounds, &mut contestants, |(path, all)| {
        paths.prepare(*path)?;
        let login = |k: usize| log_in(paths, *path, clients[k * 5 % CLIENTS]);
        let took = sorted((0..LOGINS).map(login).collect::<Result<Vec<_>>>()?);
        if let Some(median) = percentile(&took, 0.5) {
            results.note(&format!("{LOGIN}, median"), &scenario, path.word(), "ms", median * 1e3);
        }
        all.extend(took);
        Ok(())
    })?;
    for (path, all) in contestants {
        if let Some(figure) = percentile(&sorted(all), 0.99) {
            results.note(&format!("{LOGIN}, 99 %"), &scenario, path.word(), "ms", figure * 1e3);
        }
    }
    Ok(())
}

/// Median and 99th percentile of a turn.
fn note(
    results: &mut BenchResults,
    what: &str,
    scenario: &str,
    path: AccessPath,
    unit: &str,
    took: Vec<f64>,
    scale: f64,
) {
    let took = sorted(took.into_iter().map(|seconds| seconds * scale));
    for (name, share) in [("median", 0.5), ("99 %", 0.99)] {
        if let Some(figure) = percentile(&took, share) {
            results.note(&format!("{what}, {name}"), scenario, path.word(), unit, figure);
        }
    }
}

/// Seconds until connected, and until greeted.
fn one_by_one(count: usize, ends: impl Fn(usize) -> (IpAddr, IpAddr)) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut connected, mut greeted) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for k in 0..count {
        let (from, to) = ends(k);
        let begun = Instant::now();
        let mut stream = connect(from, (to, echo::PORT).into())?;
        connected.push(begun.elapsed().as_secs_f64());
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.read_exact(&mut [0])?;
        greeted.push(begun.elapsed().as_secs_f64());
        end_abruptly(&stream);
    }
    Ok((connected, greeted))
}

/// Connections a second, each greeted, made by several threads.
fn rush(targets: &[(IpAddr, IpAddr)]) -> Result<f64> {
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
fn log_in(paths: &AccessPaths, path: AccessPath, client: IpAddr) -> Result<f64> {
    let target = paths.target(path, client);
    let mut ssh = paths.lab.ssh_command(target, Some(client))?;
    let begun = Instant::now();
    run_ok(ssh.arg("true"), Duration::from_secs(30))
        .with_context(|| format!("{client} cannot log in by way of {}", path.word()))?;
    Ok(begun.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_becomes_a_median_and_a_tail() {
        let mut results = BenchResults::new("test", String::new());
        let seconds = (1..=100).map(|k| f64::from(k) / 1e6).collect();
        note(&mut results, "x", "s", AccessPath::Direct, "µs", seconds, 1e6);
        let of = |metric: &str| results.find(metric, "s", "direct").unwrap().samples[0];
        assert!((of("x, median") - 50.0).abs() < 1e-6 && (of("x, 99 %") - 99.0).abs() < 1e-6);
    }
}

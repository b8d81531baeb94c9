//! Runs the checks, each kind on threads of its own, and tells how the node feels.

use super::command::{self, CommandCheck};
use super::host::watch::HostWatch;
use super::results::{ANSWERS, Assessment, PROGRAMS, Results};
use super::sshd::check::CheckPace;
use super::sshd::families::FamilyWatchers;
use super::weight_steps::WeightSteps;
use anyhow::Context;
use onevip_config::health::SshdCheck;
use onevip_config::{Config, HealthSettings, ServiceCheck, Vip, VipService};
use onevip_core::Transport;
use onevip_core::beat::Health;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How soon what a check found has an effect.
const TURN: Duration = Duration::from_millis(200);
/// A thread that was itself away for so long does not call others late.
const ABSENT: Duration = Duration::from_secs(1);
/// How soon a thread ends that was told to.
const STEP: Duration = Duration::from_millis(100);
/// Stack of each thread.
const STACK: usize = 256 * 1024;
/// Under which name the check of `sshd` records.
pub const SSHD: &str = "sshd";
/// The port of SSH.
const SSH: u16 = 22;

/// Who is told how the node feels: what it announces, and how much of its weight in percent.
pub type Announce = Arc<dyn Fn(Health, u8) + Send + Sync>;

/// The running checks; they end when it is dropped.
pub struct Monitor {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    assessor: Option<JoinHandle<()>>,
}

/// What is checked, and whom it concerns.
#[derive(Clone)]
pub struct Subject {
    /// What the checks are.
    pub config: Config,
    /// The VIPs that this node serves.
    pub vips: Vec<Vip>,
    /// Where the root of this host is mounted.
    pub host_root: PathBuf,
}

impl Monitor {
    /// Starts all checks. Those that have results already go on from the verdict that stands there; what no check
    /// posts any more is taken down.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(subject: &Subject, results: &Arc<Results>, announce: &Announce) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut monitor = Self { stop: Arc::clone(&stop), threads: Vec::new(), assessor: None };
        let settings = &subject.config.health;
        let examined = sshd(settings, &subject.vips);
        let exchange = examined.as_ref().filter(|_| settings.sshd == SshdCheck::Kex).map(|sshd| sshd.target);
        let watcher = examined.map(|sshd| {
            FamilyWatchers::new(
                &sshd.targets(settings),
                &sshd.addresses,
                pace(settings),
                results.impact_of(SSHD),
            )
        });
        let host = HostWatch::new(settings, &subject.host_root);
        let mut names = host.names();
        names.extend(watcher.is_some().then(|| SSHD.to_owned()));
        names.extend(subject.config.checks.iter().map(command::name));
        names.extend(exchange.map(|_| command::KEY_EXCHANGE.to_owned()));
        names.extend([PROGRAMS, ANSWERS].map(str::to_owned));
        results.expect(names);
        if let Some(target) = exchange {
            let check = CommandCheck::key_exchange(settings, target, results);
            let (results, stop) = (Arc::clone(results), Arc::clone(&stop));
            monitor.spawn("kex", move || ask_command(check, &results, &stop))?;
        }

        for check in &subject.config.checks {
            let (check, name) = (CommandCheck::new(check.clone(), results), command::name(check));
            let (results, stop) = (Arc::clone(results), Arc::clone(&stop));
            monitor.spawn(&name, move || ask_command(check, &results, &stop))?;
        }
        let (results_of_host, on_stop, interval) =
            (Arc::clone(results), Arc::clone(&stop), settings.interval);
        monitor.spawn("host", move || ask_host(host, interval, &results_of_host, &on_stop))?;
        let (results, announce) = (Arc::clone(results), Arc::clone(announce));
        monitor.spawn("health", move || assess(watcher, &results, &*announce, &stop))?;
        monitor.assessor = monitor.threads.pop();
        Ok(monitor)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
        let thread = thread::Builder::new().name(format!("onevip-{name}")).stack_size(STACK).spawn(work);
        self.threads.push(thread.with_context(|| format!("cannot start the thread of {name}"))?);
        Ok(())
    }
}

impl Drop for Monitor {
    /// Waits for the thread that speaks for the node, but not for checks: they may hang, and what they post late does no
    /// harm.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.iter().for_each(|thread| thread.thread().unpark());
        self.assessor.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// Examines `sshd`, and makes one assessment of all results.
fn assess(
    mut watcher: Option<FamilyWatchers>,
    results: &Results,
    announce: &dyn Fn(Health, u8),
    stop: &AtomicBool,
) {
    let (mut steps, mut told, mut last) = (WeightSteps::default(), None, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        if let Some(watcher) = &mut watcher {
            watcher.turn();
            // It cannot hang, and it is this thread that would notice.
            results.record(SSHD, watcher.finding(), Duration::MAX);
        }
        let now = Instant::now();
        let sum: Assessment = results.assess(now, now.duration_since(last) < ABSENT);
        last = now;
        let percent = steps.climb(now, sum.shed);
        let health = sum.worst.health();
        if told != Some((health, percent)) {
            told = Some((health, percent));
            results.note_percent(percent);
            announce(health, percent);
        }
        match &watcher {
            Some(watcher) => watcher.wait(TURN),
            None => thread::park_timeout(TURN),
        }
    }
}

fn ask_host(mut host: HostWatch, interval: Duration, results: &Results, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        host.turn(results);
        rest(interval, stop);
    }
}

fn ask_command(mut check: CommandCheck, results: &Results, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        check.turn(results, || stop.load(Ordering::Relaxed));
        rest(check.interval(), stop);
    }
}

fn rest(interval: Duration, stop: &AtomicBool) {
    let end = Instant::now() + interval;
    while !stop.load(Ordering::Relaxed) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left.min(STEP * 10));
    }
}

/// How fast `sshd` is asked, and how patiently.
pub fn pace(settings: &HealthSettings) -> CheckPace {
    CheckPace {
        interval: settings.interval,
        timeout: settings.timeout,
        fall: settings.fall,
        rise: settings.rise,
        banner_every: settings.banner_every,
    }
}

/// Which `sshd` is examined.
struct Sshd {
    /// Where it is asked: as users ask it, at a VIP and its port, unless the file says otherwise.
    target: SocketAddr,
    /// Where users find it.
    addresses: Vec<IpAddr>,
}

impl Sshd {
    /// The target, and where it is a VIP's address the first one of the other family.
    fn targets(&self, settings: &HealthSettings) -> Vec<SocketAddr> {
        let other = |address: &&IpAddr| address.is_ipv4() != self.target.is_ipv4();
        let other = self.addresses.iter().find(other).filter(|_| settings.address.is_none());
        let other = other.map(|&address| SocketAddr::new(address, self.target.port()));
        std::iter::once(self.target).chain(other).collect()
    }
}

fn sshd(settings: &HealthSettings, vips: &[Vip]) -> Option<Sshd> {
    if settings.sshd == SshdCheck::Off { None } else { where_users_find_it(settings, vips.iter()) }
}

/// Where the `sshd` is that `[health]` means, whether it is examined or not.
pub fn ssh_target<'a>(
    settings: &HealthSettings,
    vips: impl Iterator<Item = &'a Vip> + Clone,
) -> Option<SocketAddr> {
    where_users_find_it(settings, vips).map(|sshd| sshd.target)
}

fn where_users_find_it<'a>(
    settings: &HealthSettings,
    mut vips: impl Iterator<Item = &'a Vip> + Clone,
) -> Option<Sshd> {
    let serves_ssh = |vip: &&Vip| tcp_ports(vip).contains(&SSH);
    let vip = vips.clone().find(serves_ssh).or_else(|| vips.clone().find(|vip| !tcp_ports(vip).is_empty()));
    let port = settings.port.or_else(|| ssh_port(settings, vip?))?;
    let addresses = vip.or_else(|| vips.next()).map_or_else(Vec::new, |vip| vip.addresses.clone());
    let address = settings.address.or_else(|| addresses.first().copied())?;
    Some(Sshd { target: SocketAddr::new(address, port), addresses })
}

/// The port on which users of a VIP find `sshd`, if it has one.
pub fn ssh_port(settings: &HealthSettings, vip: &Vip) -> Option<u16> {
    let ports = tcp_ports(vip);
    settings.port.or_else(|| ports.iter().find(|port| **port == SSH).or(ports.first()).copied())
}

/// The first port of each service over TCP; where SSH's own is among a service's ports, that. Where a service is said to
/// be the `sshd`, only that counts.
fn tcp_ports(vip: &Vip) -> Vec<u16> {
    let named = vip.services.iter().any(|service| service.check == Some(ServiceCheck::Sshd));
    let wanted = if named { Some(ServiceCheck::Sshd) } else { None };
    let asked = |service: &&VipService| service.transport == Transport::Tcp && service.check == wanted;
    let tcp = vip.services.iter().filter(asked);
    tcp.map(|service| if service.ports.contains(&SSH) { SSH } else { *service.ports.start() }).collect()
}

/// Where the root of this host is mounted: `/`, or in a container what `ONEVIP_HOST_ROOT` says.
pub fn host_root() -> PathBuf {
    std::env::var_os("ONEVIP_HOST_ROOT").map_or_else(|| Path::new("/").to_owned(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(services: &str, health: &str) -> Config {
        let text = format!(
            "cluster = \"lab\"\n[[vip]]\nname = \"a\"\naddresses = [\"198.51.100.10\"]\n{services}\
             [[node]]\nname = \"n\"\nid = 1\naddress = \"198.51.100.1\"\n[health]\n{health}"
        );
        let (config, found) = Config::inspect_text("test", text);
        config.unwrap_or_else(|| panic!("{found}"))
    }

    fn target_of(services: &str, health: &str) -> Option<String> {
        let config = config(services, health);
        sshd(&config.health, &config.vips).map(|sshd| sshd.target.to_string())
    }

    #[test]
    fn sshd_is_asked_in_both_families() {
        let targets = |health| {
            let mut config = config("", health);
            config.vips[0]
                .addresses
                .extend(["198.51.100.11", "2001:db8::10"].map(|a| a.parse::<IpAddr>().unwrap()));
            let sshd = sshd(&config.health, &config.vips).unwrap();
            sshd.targets(&config.health).iter().map(SocketAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(targets(""), ["198.51.100.10:22", "[2001:db8::10]:22"]);
        assert_eq!(targets("address = \"127.0.0.1\""), ["127.0.0.1:22"], "said where");
    }

    #[test]
    fn sshd_is_asked_where_users_ask_it() {
        let service = |protocol, port| format!("[[vip.service]]\nprotocol = \"{protocol}\"\nport = {port}\n");
        assert_eq!(target_of("", "").as_deref(), Some("198.51.100.10:22"));
        assert_eq!(target_of(&service("tcp", 2222), "").as_deref(), Some("198.51.100.10:2222"));
        let both = service("tcp", 21) + &service("tcp", 22);
        assert_eq!(target_of(&both, "").as_deref(), Some("198.51.100.10:22"));
        assert_eq!(target_of(&service("udp", 53), ""), None, "no TCP, no sshd");
        let named = service("tcp", 22) + &service("tcp", 2222) + "check = \"sshd\"\n";
        assert_eq!(target_of(&named, "").as_deref(), Some("198.51.100.10:2222"), "said to be it");
        let none = service("tcp", 80) + "check = \"none\"\n";
        assert_eq!(target_of(&none, ""), None, "said to be none");
        assert_eq!(target_of(&(none + &service("tcp", 443)), "").as_deref(), Some("198.51.100.10:443"));
        assert_eq!(target_of("", "sshd = \"off\""), None);
        let elsewhere = "address = \"127.0.0.1\"\nport = 222";
        assert_eq!(target_of("", elsewhere).as_deref(), Some("127.0.0.1:222"));
    }
}

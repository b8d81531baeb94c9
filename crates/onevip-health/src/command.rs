//! What the administrator asks besides: commands, run one at a time each, never for longer than their time.

use super::hysteresis::Hysteresis;
use super::impact::{DEAD, Finding, Impact, POORLY};
use super::results::Results;
use onevip_config::health::Effect;
use onevip_config::{HealthSettings, UserCheck};
use onevip_host::bounded::{self, Bounds, Capture};
use onevip_host::programs;
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How much of what a command prints is kept, in bytes: its first line is shown.
const KEPT: usize = 512;
/// How long the last line shown is, in characters.
const SHOWN: usize = 100;

/// Under which name key exchanges are posted.
pub const KEY_EXCHANGE: &str = "key exchange";
/// How long one may take, unless `timeout` is longer: on a busy host its arithmetic waits for a processor.
const KEX_WITHIN: Duration = Duration::from_secs(3);

/// One check of the administrator's.
pub struct CommandCheck {
    check: UserCheck,
    /// Under which name it is posted.
    name: String,
    /// What a failure costs.
    impact: Impact,
    /// How soon it runs again while it is not certain.
    hurry: Duration,
    hysteresis: Hysteresis,
    /// A run that did not die; there is none beside it.
    undead: Option<Child>,
}

impl CommandCheck {
    /// Begins with the verdict that stands on the results.
    pub fn new(check: UserCheck, results: &Results) -> Self {
        let impact = match check.effect {
            Effect::Shed => Impact::Shed,
            Effect::Out => Impact::Out(POORLY),
        };
        let (name, hurry) = (name(&check), check.interval);
        Self::named(check, name, impact, hurry, results)
    }

    /// Whether `sshd` at `target` completes a key exchange: asked by OpenSSH's own client.
    pub fn key_exchange(settings: &HealthSettings, target: SocketAddr, results: &Results) -> Self {
        let check = UserCheck {
            name: KEY_EXCHANGE.to_owned(),
            command: key_exchange_command(target),
            interval: settings.kex_every,
            timeout: settings.timeout.max(KEX_WITHIN),
            fall: settings.fall,
            rise: settings.rise,
            effect: Effect::Out,
        };
        Self::named(check, KEY_EXCHANGE.to_owned(), Impact::Out(DEAD), settings.interval, results)
    }

    fn named(check: UserCheck, name: String, impact: Impact, hurry: Duration, results: &Results) -> Self {
        let hysteresis = Hysteresis::new(check.fall, check.rise, results.impact_of(&name));
        Self { hurry: hurry.min(check.interval), check, name, impact, hysteresis, undead: None }
    }

    /// Runs it once and posts what came of it.
    pub fn turn(&mut self, results: &Results, ends: impl Fn() -> bool) {
        let begun = Instant::now();
        let finding = match self.run(&ends) {
            Ok(words) => Finding::well(words),
            Err(_) if ends() => return,
            Err(words) => Finding::ill(self.impact, words),
        };
        let finding = finding.after(begun.elapsed());
        let impact = self.hysteresis.hear(finding.impact);
        let patience = self.check.interval + self.check.timeout * 2 + Duration::from_secs(3);
        results.record(&self.name, Finding { impact, ..finding }, patience);
    }

    /// Time until the next run.
    pub fn interval(&self) -> Duration {
        if self.hysteresis.is_settled() { self.check.interval } else { self.hurry }
    }

    fn run(&mut self, ends: &dyn Fn() -> bool) -> Result<String, String> {
        if let Some(child) = &mut self.undead {
            if matches!(child.try_wait(), Ok(None)) {
                return Err("was killed, but does not die".to_owned());
            }
            self.undead = None;
        }
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("exec 2>&1; {}", self.check.command)]);
        let time = self.check.timeout;
        let bounds = Bounds { time, bytes: KEPT, ends_when_full: false, spares_rest: false, ends };
        let ran = bounded::run(&mut command, Capture::Output, &bounds);
        let ran = ran.map_err(|error| format!("cannot be run: {error}"))?;
        self.undead = ran.undead;
        match ran.status {
            Some(status) if status.success() => Ok(line(&ran.printed, "succeeds")),
            Some(status) => Err(line(&ran.printed, &status.to_string())),
            None => Err(format!("takes longer than {}", humantime::format_duration(self.check.timeout))),
        }
    }
}

/// Of all types of host keys the first that `sshd` has: one connection where that is ed25519, as it nearly always is. A
/// host without the program cannot be asked, and is not ill for it.
fn key_exchange_command(target: SocketAddr) -> String {
    let (address, port, wait) = (target.ip(), target.port(), KEX_WITHIN.as_secs());
    // Its places are ours, and have nothing that means something to the shell.
    let Some(keyscan) = programs::find("ssh-keyscan") else {
        return "echo 'not asked: there is no ssh-keyscan'".to_owned();
    };
    let keyscan = keyscan.file().display();
    format!(
        "for type in ed25519 ecdsa rsa; do \
         set -- $({keyscan} -T {wait} -t $type -p {port} {address} 2>/dev/null); \
         [ $# -lt 3 ] || {{ echo \"completed with $2\"; exit 0; }}; done; \
         echo 'no key exchange is completed'; exit 1"
    )
}

/// Under which name a check is posted.
pub fn name(check: &UserCheck) -> String {
    format!("check {}", check.name)
}

/// The first line that it printed, where it printed any.
fn line(printed: &[u8], otherwise: &str) -> String {
    let text = String::from_utf8_lossy(printed);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.map_or_else(|| otherwise.to_owned(), |line| line.chars().take(SHOWN).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one run of a command leaves as a result: its impact and its words.
    fn ran(command: &str) -> (Impact, String) {
        let results = Results::new(|_| ());
        results.expect(vec!["check x".to_owned()]);
        let check = UserCheck {
            name: "x".into(),
            command: command.into(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(700),
            fall: 1,
            rise: 1,
            effect: Effect::Shed,
        };
        CommandCheck::new(check, &results).turn(&results, || false);
        (results.impact_of("check x"), results.status().checks[0].finding.clone())
    }

    #[test]
    fn success_and_failure_are_told_with_the_first_line() {
        assert_eq!(ran("echo; echo fine; echo more"), (Impact::None, "fine".into()));
        assert_eq!(ran("true"), (Impact::None, "succeeds".into()));
        assert_eq!(ran("echo broken >&2; exit 3"), (Impact::Shed, "broken".into()));
        assert_eq!(ran("exit 3"), (Impact::Shed, "exit status: 3".into()));
        assert_eq!(ran("/nonexistent").0, Impact::Shed);
    }

    #[test]
    fn what_hangs_is_killed_with_all_its_children() {
        let file = std::env::temp_dir().join(format!("onevip-check-{}", std::process::id()));
        let start = Instant::now();
        let (impact, words) = ran(&format!("(echo $$ > {0}; sleep 60) & sleep 60", file.display()));
        assert_eq!((impact, words.as_str()), (Impact::Shed, "takes longer than 700ms"));
        assert!(start.elapsed() < Duration::from_secs(20));
        let group: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        std::fs::remove_file(&file).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while lives(group) {
            assert!(Instant::now() < deadline, "group {group} lives");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether any process of a group runs; orphans that were killed wait for init to reap them.
    fn lives(group: i32) -> bool {
        let stats = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            Some(stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect::<Vec<_>>())
        });
        stats
            .into_iter()
            .any(|fields| fields[2] == group.to_string() && !["Z", "X"].contains(&fields[0].as_str()))
    }

    #[test]
    fn a_flood_of_output_neither_blocks_nor_fills_memory() {
        assert_eq!(ran("yes onevip | head -c 10000000"), (Impact::None, "onevip".into()));
    }
}

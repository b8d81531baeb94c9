//! Results: what every check found last, posted by the threads that look, read by the one that decides and by `status`.

use super::impact::{CheckState, Finding, Impact, POORLY};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The words for an `sshd` that has as many connections without a login as it takes.
pub(crate) const NO_ROOM: &str = "turns connections away: MaxStartups is reached";
/// Under what name the reconciler says that this node's programs do not see every packet.
pub const PROGRAMS: &str = "programs";
/// Under what name it is said that what this node lets in is not answered.
pub const ANSWERS: &str = "answers";

/// What one check found.
#[derive(Clone, Debug)]
struct Entry {
    finding: Finding,
    /// Since when its impact is what it is.
    since: Instant,
    posted: Instant,
    /// A check that posts nothing for so long hangs.
    patience: Duration,
    /// What was said about it hanging.
    hangs: bool,
}

/// All that was found, and what it means for the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Assessment {
    /// The worst of all impacts.
    pub worst: Impact,
    /// Whether anything asks for shedding.
    pub shed: bool,
}

/// A check changed its mind.
#[derive(Clone, Debug)]
pub struct HealthChange {
    /// Which.
    pub check: String,
    /// In words.
    pub text: String,
    /// Whether that is good.
    pub good: bool,
}

/// How this node feels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthReport {
    /// 0 (well) to 3. Among the nodes only the least ill get new users.
    pub illness: u8,
    /// How much of its weight the node announces, in percent: less while it sheds load.
    pub weight_percent: u8,
    /// All checks by name.
    pub checks: Vec<CheckReport>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Its name.
    pub name: String,
    /// How it stands.
    pub state: CheckState,
    /// What it found last, in words.
    pub finding: String,
    /// Seconds since it is in that state.
    pub since_seconds: u64,
    /// How long the last answer took, in seconds.
    #[serde(default)]
    pub last_seconds: Option<f64>,
}

impl CheckReport {
    /// Whether `sshd` turns connections away because it has as many as it takes.
    pub fn is_full(&self) -> bool {
        self.finding.contains(NO_ROOM)
    }
}

/// What all checks found last.
pub struct Results {
    entries: Mutex<BTreeMap<String, Entry>>,
    /// Whose posts count; others are of checks that were told to end.
    names: Mutex<Vec<String>>,
    percent: Mutex<u8>,
    tell: Box<dyn Fn(HealthChange) + Send + Sync>,
}

impl Results {
    /// An empty one, whose changes are told to `tell`.
    pub fn new(tell: impl Fn(HealthChange) + Send + Sync + 'static) -> Self {
        Self {
            entries: Mutex::default(),
            names: Mutex::default(),
            percent: Mutex::new(100),
            tell: Box::new(tell),
        }
    }

    /// Puts up what a check found. Whoever posts has not hung: `patience` is until when it has to post again.
    pub fn record(&self, name: &str, finding: Finding, patience: Duration) {
        let now = Instant::now();
        let mut entries = lock(&self.entries);
        if !lock(&self.names).iter().any(|expected| expected == name) {
            return;
        }
        let before = entries.get(name).map(|entry| (entry.effective().impact, entry.since));
        let impact = finding.impact;
        let since = before.filter(|(before, _)| *before == impact).map_or(now, |(_, since)| since);
        let told = before.map_or(Impact::None, |(before, _)| before);
        if told != impact {
            self.tell(name, &finding, before.map(|(_, since)| now - since));
        }
        entries.insert(name.to_owned(), Entry { finding, since, posted: now, patience, hangs: false });
    }

    /// Makes room for these checks, and takes down what no check posts any more.
    pub fn expect(&self, names: Vec<String>) {
        let mut entries = lock(&self.entries);
        entries.retain(|name, _| names.contains(name));
        *lock(&self.names) = names;
    }

    /// What a check costs as of its newest post; none if it never posted.
    pub fn impact_of(&self, name: &str) -> Impact {
        lock(&self.entries).get(name).map_or(Impact::None, |entry| entry.finding.impact)
    }

    /// Looks at everything. With `trust_clock`, checks that have not posted for longer than they may are found to hang.
    pub fn assess(&self, now: Instant, trust_clock: bool) -> Assessment {
        let mut entries = lock(&self.entries);
        let mut sum = Assessment::default();
        for (name, entry) in entries.iter_mut() {
            let late = now.saturating_duration_since(entry.posted);
            if trust_clock && !entry.hangs && late > entry.patience {
                entry.hangs = true;
                if entry.finding.impact < Impact::Out(POORLY) {
                    entry.since = now;
                }
                self.tell(name, &entry.effective(), None);
            }
            let impact = entry.effective().impact;
            sum.worst = sum.worst.max(impact);
            sum.shed |= impact == Impact::Shed;
        }
        sum
    }

    /// Notes the share of its weight that the node announces.
    pub fn note_percent(&self, percent: u8) {
        *lock(&self.percent) = percent;
    }

    /// For `onevip status`.
    pub fn status(&self) -> HealthReport {
        let entries = lock(&self.entries);
        let check = |(name, entry): (&String, &Entry)| {
            let finding = entry.effective();
            CheckReport {
                name: name.clone(),
                state: finding.impact.state(),
                finding: finding.words,
                since_seconds: entry.since.elapsed().as_secs(),
                last_seconds: entry.finding.took.map(|took| took.as_secs_f64()),
            }
        };
        let worst = entries.values().map(|entry| entry.effective().impact).max().unwrap_or_default();
        HealthReport {
            illness: worst.health().level(),
            weight_percent: *lock(&self.percent),
            checks: entries.iter().map(check).collect(),
        }
    }

    fn tell(&self, name: &str, finding: &Finding, lasted: Option<Duration>) {
        let text = match finding.impact {
            Impact::None => {
                let lasted = lasted.map_or(String::new(), |span| {
                    let span = Duration::from_millis(span.as_millis() as u64 / 100 * 100);
                    format!(" after {}", humantime::format_duration(span))
                });
                format!("{name} is well again{lasted}: {}", finding.words)
            }
            Impact::Shed | Impact::Out(_) => {
                format!("{name}: {}; {}", finding.words, finding.impact.effect())
            }
        };
        let good = finding.impact == Impact::None;
        (self.tell)(HealthChange { check: name.to_owned(), text, good });
    }
}

impl Entry {
    /// The finding; a check that hangs has failed.
    fn effective(&self) -> Finding {
        if !self.hangs {
            return self.finding.clone();
        }
        let words = format!("hangs: no answer for {} s", self.posted.elapsed().as_secs());
        Finding::ill(self.finding.impact.max(Impact::Out(POORLY)), words)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::impact::DEAD;
    use std::sync::mpsc;

    const PATIENCE: Duration = Duration::from_secs(3);

    fn results() -> (Results, mpsc::Receiver<HealthChange>) {
        let (sender, receiver) = mpsc::channel();
        let results = Results::new(move |change| drop(sender.send(change)));
        results.expect(["memory", "cpu", "sshd", "disk"].map(str::to_owned).to_vec());
        (results, receiver)
    }

    fn told(news: &mpsc::Receiver<HealthChange>) -> Vec<String> {
        news.try_iter().map(|change| change.text).collect()
    }

    #[test]
    fn one_line_for_each_change_and_none_for_what_stays() {
        let (results, news) = results();
        results.record("memory", Finding::well("60 % left"), PATIENCE);
        results.record("memory", Finding::well("59 % left"), PATIENCE);
        assert_eq!(told(&news), [""; 0], "well from the start is no news");
        results.record("memory", Finding::ill(Impact::Shed, "4 % left"), PATIENCE);
        results.record("memory", Finding::ill(Impact::Shed, "3 % left"), PATIENCE);
        assert_eq!(told(&news), ["memory: 4 % left; fewer new users come here"]);
        results.record("memory", Finding::well("50 % left"), PATIENCE);
        let told = told(&news);
        assert!(told.len() == 1 && told[0].starts_with("memory is well again after"), "{told:?}");
    }

    #[test]
    fn the_worst_counts_and_shedding_is_remembered_beside_it() {
        let (results, _news) = results();
        results.record("cpu", Finding::ill(Impact::Shed, "busy"), PATIENCE);
        results.record("sshd", Finding::ill(Impact::Out(DEAD), "mute"), PATIENCE);
        let sum = results.assess(Instant::now(), true);
        assert_eq!((sum.worst, sum.shed), (Impact::Out(DEAD), true));
        assert_eq!((results.status().illness, results.status().checks.len()), (3, 2));
        results.expect(vec!["cpu".to_owned()]);
        assert_eq!(results.assess(Instant::now(), true).worst, Impact::Shed);
        results.record("sshd", Finding::ill(Impact::Out(DEAD), "said too late"), PATIENCE);
        assert_eq!(results.assess(Instant::now(), true).worst, Impact::Shed);
    }

    #[test]
    fn a_check_that_hangs_has_failed_unless_we_hung_ourselves() {
        let (results, news) = results();
        results.record("disk", Finding::well("50 % left"), PATIENCE);
        let later = Instant::now() + Duration::from_secs(4);
        assert_eq!(results.assess(later, false).worst, Impact::None);
        assert_eq!(results.assess(later, true).worst, Impact::Out(POORLY));
        assert_eq!(results.assess(later, true).worst, Impact::Out(POORLY));
        assert_eq!(told(&news).len(), 1);
        results.record("disk", Finding::well("50 % left"), PATIENCE);
        assert_eq!(results.assess(Instant::now(), true).worst, Impact::None);
        assert!(told(&news)[0].contains("well again"));
    }
}

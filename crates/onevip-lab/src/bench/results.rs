//! The raw result of a benchmark: samples, what is aimed at, and the machine they come from.
//!
//! Results are written as JSON and read again by [`super::page`]; their form is an interface.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::stats::{Summary, ratio};

/// When others use more than this share of the processors before a run begins, it is marked: they may slow it down. (The
/// load average would still tell of the benchmark before this one.)
const QUIET: f64 = 0.1;
/// How long the processors are watched for that.
const WATCH: Duration = Duration::from_millis(500);

/// Where and when it was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// When it began, in UTC.
    pub date: String,
    /// The kernel's release.
    pub kernel: String,
    /// The processors' model.
    pub processor: String,
    /// How many there are.
    pub processors: usize,
    /// Mean number of runnable tasks over the minute before it began.
    pub load_before: f64,
    /// And over its last minute, the benchmark itself included.
    pub load_after: f64,
    /// The share of the processors that others used just before it began, 0 to 1.
    pub used_before: f64,
    /// That was so much that they may have slowed it down.
    pub busy: bool,
    /// Built without optimisation of the whole.
    pub debug_build: bool,
}

impl Machine {
    /// This one, now.
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let info = read("/proc/cpuinfo");
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let (load, used) = (load(), used());
        Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            kernel: read("/proc/sys/kernel/osrelease"),
            processor: model.map_or_else(String::new, |(_, name)| name.to_owned()),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            load_before: load,
            load_after: load,
            used_before: used,
            busy: used > QUIET,
            debug_build: cfg!(debug_assertions),
        }
    }
}

fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// The share of all processors that is used meanwhile.
fn used() -> f64 {
    let times = || busy_and_all(&fs::read_to_string("/proc/stat").unwrap_or_default());
    let before = times();
    std::thread::sleep(WATCH);
    let after = times();
    (after.0 - before.0) as f64 / ((after.1 - before.1) as f64).max(1.0)
}

/// Ticks that processors were busy, and all ticks, of the first line of `/proc/stat`: user, nice, system, idle, waiting
/// for disks, interrupts (proc(5)).
fn busy_and_all(stat: &str) -> (u64, u64) {
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|t| t.parse().ok()).collect();
    let all: u64 = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    (all - idle, all)
}

/// What one contestant showed of one thing under one circumstance, a sample a round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Series {
    /// What was measured.
    pub metric: String,
    /// Under which circumstance.
    pub scenario: String,
    /// Whom.
    pub contestant: String,
    /// In which unit.
    pub unit: String,
    /// One a round, in order.
    pub samples: Vec<f64>,
}

/// What is wanted of a contestant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Aim {
    /// Of what.
    pub metric: String,
    /// Whose.
    pub contestant: String,
    /// As a ratio to this one; as it is without.
    pub against: Option<String>,
    /// At most so much.
    pub at_most: Option<f64>,
    /// At least so much.
    pub at_least: Option<f64>,
}

impl Aim {
    /// Of `metric`, `contestant` shall have at most `times` what `against` has.
    pub fn at_most(metric: &str, contestant: &str, against: Option<&str>, most: f64) -> Self {
        let (metric, contestant) = (metric.to_owned(), contestant.to_owned());
        Self { metric, contestant, against: against.map(str::to_owned), at_most: Some(most), at_least: None }
    }

    /// Of `metric`, `contestant` shall have at least `times` what `against` has.
    pub fn at_least(metric: &str, contestant: &str, against: Option<&str>, least: f64) -> Self {
        Self { at_most: None, at_least: Some(least), ..Self::at_most(metric, contestant, against, 0.0) }
    }

    fn reached(&self, figure: f64) -> bool {
        self.at_most.is_none_or(|most| figure <= most) && self.at_least.is_none_or(|least| figure >= least)
    }
}

/// An aim held against a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct AimOutcome {
    /// The aim in words.
    pub aim: String,
    /// The scenario.
    pub scenario: String,
    /// The figure: a ratio, or the median.
    pub figure: f64,
    /// Whether it is as wanted.
    pub reached: bool,
}

/// The raw result of one run of a benchmark.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BenchResults {
    /// Which benchmark.
    pub kind: String,
    /// The command that measures it again.
    pub command: String,
    /// Where and when.
    pub machine: Machine,
    /// What it depends on.
    pub settings: BTreeMap<String, String>,
    /// What was said beforehand, or noticed, in words.
    pub remarks: Vec<String>,
    /// What is wanted.
    pub aims: Vec<Aim>,
    /// The samples.
    pub series: Vec<Series>,
}

impl BenchResults {
    /// Empty results for a run that begins now.
    pub fn new(kind: &str, command: String) -> Self {
        Self { kind: kind.to_owned(), command, machine: Machine::here(), ..Self::default() }
    }

    /// Notes a setting.
    pub fn set(&mut self, name: &str, value: impl fmt::Display) {
        self.settings.insert(name.to_owned(), value.to_string());
    }

    /// Notes a sample.
    pub fn note(&mut self, metric: &str, scenario: &str, contestant: &str, unit: &str, sample: f64) {
        let same = |s: &&mut Series| {
            s.metric == metric && s.scenario == scenario && s.contestant == contestant && s.unit == unit
        };
        match self.series.iter_mut().find(same) {
            Some(series) => series.samples.push(sample),
            None => self.series.push(Series {
                metric: metric.to_owned(),
                scenario: scenario.to_owned(),
                contestant: contestant.to_owned(),
                unit: unit.to_owned(),
                samples: vec![sample],
            }),
        }
    }

    /// To be called when all is measured.
    pub fn finish(&mut self) {
        self.machine.load_after = load();
    }

    /// The samples of one contestant; none when it took no part.
    pub fn find(&self, metric: &str, scenario: &str, contestant: &str) -> Option<&Series> {
        let same = |s: &&Series| s.metric == metric && s.scenario == scenario && s.contestant == contestant;
        self.series.iter().find(same)
    }

    /// What was measured, in the order of the first samples.
    pub fn metrics(&self) -> Vec<&str> {
        distinct(self.series.iter().map(|series| series.metric.as_str()))
    }

    /// Under which circumstances.
    pub fn scenarios(&self, metric: &str) -> Vec<&str> {
        distinct(self.series.iter().filter(|s| s.metric == metric).map(|s| s.scenario.as_str()))
    }

    /// Whom.
    pub fn contestants(&self, metric: &str) -> Vec<&str> {
        distinct(self.series.iter().filter(|s| s.metric == metric).map(|s| s.contestant.as_str()))
    }

    /// Every aim, held against every scenario of its metric.
    pub fn evaluate(&self) -> Vec<AimOutcome> {
        let mut all = Vec::new();
        for aim in &self.aims {
            for scenario in self.scenarios(&aim.metric) {
                let Some(own) = self.find(&aim.metric, scenario, &aim.contestant) else { continue };
                let figure = match &aim.against {
                    None => Summary::of(&own.samples),
                    Some(against) => self
                        .find(&aim.metric, scenario, against)
                        .and_then(|other| ratio(&own.samples, &other.samples)),
                };
                let Some(figure) = figure.map(|summary| summary.median) else { continue };
                let (aim_in_words, reached) = (words(aim, &own.unit), aim.reached(figure));
                all.push(AimOutcome { aim: aim_in_words, scenario: scenario.to_owned(), figure, reached });
            }
        }
        all
    }

    /// Keeps it as `DATE-KIND.json` in a directory; returns the path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, dir: &Path) -> Result<PathBuf> {
        let day = self.machine.date.split('T').next().unwrap_or_default();
        let path = dir.join(format!("{day}-{}.json", self.kind));
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

fn words(aim: &Aim, unit: &str) -> String {
    let bound = match (aim.at_most, aim.at_least) {
        (Some(most), _) => format!("≤ {most}"),
        (None, Some(least)) => format!("≥ {least}"),
        (None, None) => "any".into(),
    };
    match &aim.against {
        Some(against) => format!("{} of {}: {bound} × {against}", aim.metric, aim.contestant),
        None => format!("{} of {}: {bound} {unit}", aim.metric, aim.contestant).trim_end().to_owned(),
    }
}

fn distinct<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    words.for_each(|word| {
        if !seen.contains(&word) {
            seen.push(word);
        }
    });
    seen
}

/// A figure with about three digits.
pub fn figure(value: f64) -> String {
    match value.abs() {
        v if v == 0.0 || v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        v if v >= 0.0995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl fmt::Display for BenchResults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.machine.busy {
            let percent = self.machine.used_before * 100.0;
            writeln!(f, "Others used {percent:.0} % of the processors when this began: preliminary.")?;
        }
        for remark in &self.remarks {
            writeln!(f, "{remark}")?;
        }
        for metric in self.metrics() {
            let unit = self.series.iter().find(|s| s.metric == metric).map_or("", |s| s.unit.as_str());
            writeln!(f, "\n{metric}{}: median (least to most)", unit_in_brackets(unit))?;
            for series in self.series.iter().filter(|series| series.metric == metric) {
                let Some(all) = Summary::of(&series.samples) else { continue };
                let spread = format!("({} to {})", figure(all.least), figure(all.most));
                writeln!(
                    f,
                    "  {:<32} {:<26} {:>9} {spread}",
                    series.scenario,
                    series.contestant,
                    figure(all.median)
                )?;
            }
        }
        writeln!(f)?;
        let outcomes = self.evaluate();
        for aim in distinct(outcomes.iter().map(|outcome| outcome.aim.as_str())) {
            write_aim(f, aim, outcomes.iter().filter(|outcome| outcome.aim == aim))?;
        }
        Ok(())
    }
}

fn write_aim<'a>(
    f: &mut fmt::Formatter<'_>,
    aim: &str,
    outcomes: impl Iterator<Item = &'a AimOutcome>,
) -> fmt::Result {
    let (reached, missed): (Vec<_>, Vec<_>) = outcomes.partition(|outcome| outcome.reached);
    writeln!(f, "{:<8} {aim}", if missed.is_empty() { "reached" } else { "MISSED" })?;
    for outcome in missed.iter().chain(if reached.len() == 1 { &reached[..] } else { &[] }) {
        writeln!(f, "         {:<32} {}", outcome.scenario, figure(outcome.figure))?;
    }
    Ok(())
}

/// ` (unit)`, or nothing for a bare number.
pub fn unit_in_brackets(unit: &str) -> String {
    if unit.is_empty() { String::new() } else { format!(" ({unit})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> BenchResults {
        let mut results = BenchResults::new("test", "onevip-lab bench test".into());
        for (own, other) in [(10.0, 100.0), (30.0, 100.0), (20.0, 100.0)] {
            results.note("cost", "small", "ours", "ns", own);
            results.note("cost", "small", "theirs", "ns", other);
        }
        results.aims.push(Aim::at_most("cost", "ours", Some("theirs"), 0.2));
        results.aims.push(Aim::at_least("cost", "theirs", None, 101.0));
        results
    }

    #[test]
    fn aims_are_held_against_medians_of_ratios() {
        let outcomes = results().evaluate();
        assert_eq!(outcomes.len(), 2);
        assert!(outcomes[0].reached && (outcomes[0].figure - 0.2).abs() < 1e-9, "{outcomes:?}");
        assert_eq!(outcomes[0].aim, "cost of ours: ≤ 0.2 × theirs");
        assert!(!outcomes[1].reached && outcomes[1].aim.ends_with("≥ 101 ns"), "{outcomes:?}");
    }

    #[test]
    fn results_read_back() {
        let dir = std::env::temp_dir().join(format!("bench-results-{}", std::process::id()));
        let path = results().save(&dir).unwrap();
        let again: BenchResults = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(again.series[0].samples, [10.0, 30.0, 20.0]);
        assert_eq!(again.evaluate(), results().evaluate());
        assert!(path.to_str().unwrap().ends_with("-test.json"));
    }

    #[test]
    fn waiting_is_not_work() {
        let stat = "cpu  10 1 5 100 20 1 2 0 7 0\ncpu0 1 1 1 1\n";
        assert_eq!(busy_and_all(stat), (19, 139));
    }

    #[test]
    fn figures_have_three_digits() {
        let all = [0.0, 0.0123, 0.5, 1.234, 9.999, 12.34, 99.96, 1234.5].map(figure);
        assert_eq!(all, ["0", "0.012", "0.50", "1.23", "10.0", "12.3", "100", "1234"]);
    }
}

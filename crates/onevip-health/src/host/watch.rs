//! Reads all figures of the host once in an interval and posts what they mean.

use super::cgroup::Cgroup;
use super::pressure::{self, Line, Pressure};
use super::{files, grade, memory, nologin, room, tasks};
use crate::hysteresis::Hysteresis;
use crate::impact::{CLOSING, Finding, Impact, POORLY};
use crate::results::Results;
use onevip_config::health::{HealthSettings, HostScope, NologinCheck, Thresholds, Worse};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Over how long pressure is averaged. Want of memory is felt at once; a processor that is busy for some seconds is only
/// busy.
const MEMORY_WINDOW: Duration = Duration::from_secs(3);
const BUSY_WINDOW: Duration = Duration::from_secs(30);
/// A check that has not come back for so long (and two intervals) hangs.
const PATIENCE: Duration = Duration::from_secs(3);

/// The figures of the host.
pub struct HostWatch {
    settings: HealthSettings,
    root: PathBuf,
    cgroup: Option<Cgroup>,
    memory: Pressure,
    cpu: Pressure,
    io: Pressure,
    steady: HashMap<String, Hysteresis>,
    /// When the reading began that is posted next.
    begun: Instant,
}

impl HostWatch {
    /// Of the host whose root is mounted at `root`.
    pub fn new(settings: &HealthSettings, root: &Path) -> Self {
        let cgroup = match settings.scope {
            HostScope::Host => None,
            HostScope::Cgroup => Some(Cgroup::own()),
        };
        let unified = cgroup.as_ref().and_then(Cgroup::unified);
        let pressure =
            |resource, line, window| Pressure::new(pressure::path(unified, resource), line, window);
        Self {
            memory: pressure("memory", Line::Full, MEMORY_WINDOW),
            cpu: pressure("cpu", Line::Some, BUSY_WINDOW),
            io: pressure("io", Line::Full, BUSY_WINDOW),
            settings: settings.clone(),
            root: root.to_owned(),
            cgroup,
            steady: HashMap::new(),
            begun: Instant::now(),
        }
    }

    /// Looks at everything once. Slow things come last, and each is posted before the next is begun.
    pub fn turn(&mut self, results: &Results) {
        let now = Instant::now();
        self.begun = now;
        if self.settings.nologin == NologinCheck::Drain {
            let finding = match nologin::look(&self.root) {
                Some(words) => Finding::ill(Impact::Out(CLOSING), words),
                None => Finding::well("there is none"),
            };
            // Somebody means it: nothing to wait for.
            results.record("nologin", finding.after(now.elapsed()), self.patience());
            self.begun = Instant::now();
        }
        let stalls = [
            (self.memory.read(now), "memory pressure", "memory", self.settings.memory_pressure),
            (self.cpu.read(now), "cpu pressure", "a processor", self.settings.cpu_pressure),
            (self.io.read(now), "io pressure", "disks", self.settings.io_pressure),
        ];
        for (percent, name, what, thresholds) in stalls {
            let words = |percent| format!("{percent:.0} % of the time work waits for {what}");
            self.figure(results, name, percent, Worse::Upwards, thresholds, words);
        }
        let left = memory::left(self.cgroup.as_ref());
        let thresholds = self.settings.memory_left;
        self.figure(results, "memory", left, Worse::Downwards, thresholds, |p| format!("{p:.1} % is left"));
        let thresholds = self.settings.files_left;
        self.figure(results, "files", files::left(), Worse::Downwards, thresholds, |p| {
            format!("{p:.0} % of the kernel's open files are left")
        });
        self.processes(results);
        self.rooms(results);
    }

    fn processes(&mut self, results: &Results) {
        let thresholds = self.settings.processes_left;
        if thresholds == Thresholds::default() {
            return;
        }
        let finding = match tasks::make_one() {
            Err(words) => Finding::ill(Impact::Out(POORLY), words),
            Ok(()) => match tasks::left(self.cgroup.as_ref()) {
                Some(left) => grade(left.percent, Worse::Downwards, thresholds, left.words),
                None => Finding::well("a process can be made"),
            },
        };
        self.record(results, "processes", finding);
    }

    fn rooms(&mut self, results: &Results) {
        for path in self.settings.filesystems.clone() {
            let below = path.strip_prefix("/").unwrap_or(&path);
            let Some(room) = room::look(&self.root.join(below)) else { continue };
            let what = if room.inodes { "inodes" } else { "room" };
            let words = format!("{:.1} % of its {what} is left", room.percent_left);
            let finding = if room.read_only {
                Finding::ill(Impact::Out(POORLY), "it is read-only")
            } else {
                grade(room.percent_left, Worse::Downwards, self.settings.disk_left, words)
            };
            self.record(results, &format!("disk {}", path.display()), finding);
        }
    }

    fn figure(
        &mut self,
        results: &Results,
        name: &str,
        percent: Option<f64>,
        worse: Worse,
        thresholds: Thresholds,
        words: impl Fn(f64) -> String,
    ) {
        let Some(percent) = percent.filter(|_| thresholds != Thresholds::default()) else { return };
        self.record(results, name, grade(percent, worse, thresholds, words(percent)));
    }

    fn record(&mut self, results: &Results, name: &str, finding: Finding) {
        let (fall, rise) = (self.settings.fall, self.settings.rise);
        let hysteresis = self
            .steady
            .entry(name.to_owned())
            .or_insert_with(|| Hysteresis::new(fall, rise, results.impact_of(name)));
        let impact = hysteresis.hear(finding.impact);
        let finding = finding.after(self.begun.elapsed());
        self.begun = Instant::now();
        results.record(name, Finding { impact, ..finding }, self.patience());
    }

    fn patience(&self) -> Duration {
        PATIENCE + self.settings.interval * 2
    }

    /// The names under which it posts.
    pub fn names(&self) -> Vec<String> {
        let settings = &self.settings;
        let figures = [
            ("memory pressure", settings.memory_pressure),
            ("cpu pressure", settings.cpu_pressure),
            ("io pressure", settings.io_pressure),
            ("memory", settings.memory_left),
            ("files", settings.files_left),
            ("processes", settings.processes_left),
        ];
        let judged = figures.iter().filter(|(_, thresholds)| *thresholds != Thresholds::default());
        let nologin = (settings.nologin == NologinCheck::Drain).then_some("nologin");
        let disks = settings.filesystems.iter().map(|path| format!("disk {}", path.display()));
        judged.map(|(name, _)| *name).chain(nologin).map(ToOwned::to_owned).chain(disks).collect()
    }
}

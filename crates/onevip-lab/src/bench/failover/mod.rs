//! `onevip-lab bench failover`: what users notice when something happens to a cluster, in figures.
//!
//! A [`Testbed`] is a lab with clients at work. A [`Disruption`] is brought about on it ([`scenarios`]). Each scenario
//! becomes a [`FailoverMeasurement`], which is held against its [`aim`]. The measurements of all repeats are a row of the
//! [`FailoverReport`]. The testbed is brought into order between two runs by waiting for conditions. One that does not
//! come to order is replaced by a new one, and the run counts as a problem of the report.

pub mod aim;
pub mod disruption;
pub mod measurement;
pub mod report;
pub mod scenarios;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bench::rounds::Progress;
use crate::lab::{Lab, Options};
use crate::load::TcpConnection;
use crate::plan::Host;
use crate::process::check_interrupt;
use crate::testbed::Testbed;
use disruption::Disruption;
use measurement::FailoverMeasurement;
use report::FailoverReport;
use scenarios::Lengths;

/// So many testbeds may be given up before the benchmark itself is.
const GIVEN_UP_MAX: usize = 8;

/// What to measure.
#[derive(Clone, Debug)]
pub struct FailoverBenchSettings {
    /// The lab: its name, nodes and clients.
    pub options: Options,
    /// What happens.
    pub disruptions: Vec<Disruption>,
    /// How often each disruption happens (those that last a minute or more: once).
    pub repeat: u32,
    /// Long disruptions are cut short.
    pub fast: bool,
    /// Where single measurements and the daemons' logs are kept.
    pub keep_raw: Option<PathBuf>,
}

/// Measures, telling on standard error how far it is.
///
/// # Errors
/// When the lab cannot be built, or something goes wrong (or the user interrupts) before anything was measured; after
/// that, it is a problem of the report.
pub fn run(settings: &FailoverBenchSettings) -> Result<FailoverReport> {
    let lengths = Lengths {
        loss: Duration::from_secs(if settings.fast { 15 } else { 60 }),
        stress: Duration::from_secs(if settings.fast { 60 } else { 600 }),
    };
    let mut run = Run {
        settings,
        measurements: vec![],
        problems: vec![],
        done: vec![],
        progress: Progress::new("failover"),
    };
    for group in [false, true] {
        let is_split = |disruption: &&Disruption| (**disruption == Disruption::Split) == group;
        let disruptions: Vec<Disruption> = settings.disruptions.iter().filter(is_split).copied().collect();
        // Only a split needs clients in two places; elsewhere they would only cost time.
        let hosts: &[Host] = if group { &[Host::Client, Host::Client2] } else { &[Host::Client] };
        if !disruptions.is_empty() {
            let ran = run.run_all(&disruptions, hosts, lengths);
            run.measurements.append(&mut run.done);
            // What was measured until then is worth telling, also when the user has had enough.
            if let Err(error) = ran {
                ensure!(!run.measurements.is_empty(), "{error:#}");
                run.problems.push(format!("{error:#}"));
                break;
            }
        }
    }
    if let Some(dir) = &settings.keep_raw {
        let measurements = serde_json::to_vec_pretty(&run.measurements)?;
        fs::write(dir.join("takes.json"), measurements)
            .with_context(|| format!("cannot write to {}", dir.display()))?;
    }
    Ok(FailoverReport::new(settings.options.nodes, settings.repeat, run.measurements, run.problems))
}

struct Run<'a> {
    settings: &'a FailoverBenchSettings,
    measurements: Vec<FailoverMeasurement>,
    problems: Vec<String>,
    /// Measurements whose connections are not all known.
    done: Vec<FailoverMeasurement>,
    progress: Progress,
}

impl Run<'_> {
    fn run_all(&mut self, disruptions: &[Disruption], hosts: &[Host], lengths: Lengths) -> Result<()> {
        let mut testbed = Testbed::set_up(self.settings.options.clone(), hosts)?;
        for &disruption in disruptions {
            let repeats = if disruption.is_long() { 1 } else { self.settings.repeat };
            for repeat in 0..repeats {
                let what = format!("{} {} of {repeats}", disruption.word(), repeat + 1);
                self.progress.tell(&what, repeat == 0);
                let ran =
                    scenarios::run(&mut testbed, disruption, repeat, lengths).and_then(|measurements| {
                        self.done.extend(measurements);
                        testbed.restore()
                    });
                self.done
                    .iter_mut()
                    .for_each(|measurement| measurement.count_connections(&testbed.connections));
                let Err(error) = ran else { continue };
                check_interrupt()?;
                let problem = format!("{} ({}): {error:#}", disruption.word(), repeat + 1);
                eprintln!("\n{problem}");
                self.keep_logs(&testbed.lab, &format!("problem-{}", self.problems.len()))?;
                self.problems.push(problem);
                ensure!(
                    self.problems.len() < GIVEN_UP_MAX,
                    "the cluster fell into disorder {GIVEN_UP_MAX} times:\n{}",
                    self.problems.join("\n")
                );
                self.settle_connections(&mut testbed)?;
                testbed.take_down()?;
                testbed = Testbed::set_up(self.settings.options.clone(), hosts)?;
            }
        }
        self.settle_connections(&mut testbed)?;
        self.keep_logs(&testbed.lab, if hosts.len() > 1 { "split" } else { "main" })?;
        testbed.take_down()
    }

    /// Waits for the connections that are still open, and counts them.
    fn settle_connections(&mut self, testbed: &mut Testbed) -> Result<()> {
        testbed.settle_connections()?;
        let connections: &[TcpConnection] = &testbed.connections;
        for mut measurement in self.done.drain(..) {
            measurement.count_connections(connections);
            self.measurements.push(measurement);
        }
        Ok(())
    }

    fn keep_logs(&self, lab: &Lab, label: &str) -> Result<()> {
        let Some(dir) = &self.settings.keep_raw else { return Ok(()) };
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        for node in lab.nodes() {
            fs::write(dir.join(format!("{label}-{}.log", node.name())), node.onevip_log())?;
        }
        Ok(())
    }
}

//! From measurements to a table: one row a scenario, the aim beside the figures.

use std::fmt;

use serde::Serialize;

use super::aim::{FailoverAim, NodeAim};
use super::measurement::FailoverMeasurement;
use crate::bench::stats::{median, sorted};

/// All measurements of one scenario. Times in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What happened.
    #[serde(rename = "act")]
    pub scenario: String,
    /// How often.
    #[serde(rename = "takes")]
    pub count: usize,
    /// Median gap in new connections, over all clients that it is about and all measurements.
    pub gap_median: Option<f64>,
    /// Worst gap.
    pub gap_worst: Option<f64>,
    /// Clients that were not served again while it was watched.
    pub unserved: usize,
    /// Sessions elsewhere that were lost.
    pub lost_elsewhere: usize,
    /// Sessions on the node.
    pub sessions_node: usize,
    /// Of these, lost.
    pub lost_node: usize,
    /// Of these, neither lost nor answering at the end.
    pub hanging: usize,
    /// Median time from the client's next packet to the reset.
    pub reset_median: Option<f64>,
    /// Worst.
    pub reset_worst: Option<f64>,
    /// The longest silence of a session on the node that lived.
    pub pause_node: f64,
    /// Connections begun, failed, delayed.
    #[serde(rename = "calls")]
    pub connections: (usize, usize, usize),
    /// SYNs that two nodes answered.
    pub twice: usize,
    /// The most often that the node of one client changed in one measurement.
    pub moves: usize,
    /// When the node last answered anybody.
    pub last_answer: Option<f64>,
    /// News of nodes that are out.
    pub outs: usize,
    /// What is wanted, in words.
    pub aim: String,
    /// What is not as wanted; nothing when all is well.
    pub misses: Vec<String>,
    /// What may never be: a measurement with it ends in failure.
    pub violations: Vec<String>,
}

impl Row {
    /// Sums up the measurements of one scenario, of which there is at least one.
    pub fn of(measurements: &[&FailoverMeasurement]) -> Self {
        let aim = measurements[0].aim;
        let all_gaps = || measurements.iter().flat_map(|measurement| measurement.gaps.values());
        let gaps = sorted(all_gaps().flatten().copied());
        let resets =
            sorted(measurements.iter().flat_map(|measurement| measurement.sessions.resets.iter().copied()));
        let sum = |f: fn(&FailoverMeasurement) -> usize| {
            measurements.iter().map(|measurement| f(measurement)).sum::<usize>()
        };
        let mut row = Self {
            scenario: measurements[0].scenario.clone(),
            count: measurements.len(),
            gap_median: median(&gaps),
            gap_worst: gaps.last().copied(),
            unserved: all_gaps().filter(|gap| gap.is_none()).count(),
            lost_elsewhere: sum(|measurement| measurement.sessions.lost_elsewhere.len()),
            sessions_node: sum(|measurement| measurement.sessions.on_node),
            lost_node: sum(|measurement| measurement.sessions.lost_node),
            hanging: sum(|measurement| measurement.sessions.hanging),
            reset_median: median(&resets),
            reset_worst: resets.last().copied(),
            pause_node: measurements
                .iter()
                .map(|measurement| measurement.sessions.pause_node)
                .fold(0.0, f64::max),
            connections: (
                sum(|measurement| measurement.connections.0),
                sum(|measurement| measurement.connections.1),
                sum(|measurement| measurement.connections.2),
            ),
            twice: sum(|measurement| measurement.twice.len()),
            moves: measurements.iter().map(|measurement| measurement.moves).max().unwrap_or(0),
            last_answer: measurements
                .iter()
                .filter_map(|measurement| measurement.last_answer)
                .reduce(f64::max),
            outs: sum(|measurement| measurement.outs.len()),
            aim: aim.words(),
            misses: vec![],
            violations: vec![],
        };
        row.evaluate(&aim);
        row
    }

    fn evaluate(&mut self, aim: &FailoverAim) {
        let mut misses = Vec::new();
        let mut miss = |so: bool, what: String| misses.extend(so.then_some(what));
        if let Some((median, worst)) = aim.gap {
            miss(self.unserved > 0, format!("{} clients not served again", self.unserved));
            miss(self.gap_median.is_some_and(|gap| gap > median), "median gap".into());
            miss(self.gap_worst.is_some_and(|gap| gap > worst), "worst gap".into());
        }
        match aim.node {
            NodeAim::Reset(seconds) => {
                miss(self.hanging > 0, format!("{} sessions hang", self.hanging));
                miss(self.reset_worst.is_some_and(|reset| reset > seconds), "slow reset".into());
            }
            NodeAim::OutOfReach => {}
            NodeAim::Kept => miss(self.lost_node > 0, format!("{} lost on the node", self.lost_node)),
            NodeAim::NoPause(seconds) => {
                miss(self.lost_node > 0, format!("{} lost on the node", self.lost_node));
                miss(self.pause_node > seconds, format!("a pause of {:.2} s", self.pause_node));
            }
        }
        if aim.no_failure {
            let (all, failed, delayed) = self.connections;
            miss(failed > 0, format!("{failed} connections failed"));
            miss(delayed * 1000 > all, format!("{delayed} connections delayed"));
        }
        if let (Some(within), Some(last)) = (aim.rehomed, self.last_answer) {
            miss(last > within, format!("still answered after {last:.1} s"));
        }
        let beyond = |max: Option<usize>, is: usize| max.is_some_and(|max| is > max);
        miss(beyond(aim.moves_max, self.moves), format!("{} moves of one client", self.moves));
        miss(beyond(aim.outs_max, self.outs), format!("{} false failovers", self.outs));
        self.misses = misses;
        if self.lost_elsewhere > 0 {
            self.violations.push(format!("{} sessions elsewhere lost", self.lost_elsewhere));
        }
        if self.twice > 0 && !aim.twice_allowed {
            self.violations.push(format!("{} SYNs answered twice", self.twice));
        }
    }
}

/// The whole result; its JSON form is an interface.
#[derive(Clone, Debug, Serialize)]
pub struct FailoverReport {
    /// Number of nodes.
    pub nodes: usize,
    /// Repeats that were asked for.
    pub repeat: u32,
    /// One row a scenario.
    pub rows: Vec<Row>,
    /// Acts that could not be measured, and why.
    pub problems: Vec<String>,
    /// Every single measurement.
    #[serde(rename = "takes")]
    pub measurements: Vec<FailoverMeasurement>,
}

impl FailoverReport {
    /// Sums up.
    pub fn new(
        nodes: usize,
        repeat: u32,
        measurements: Vec<FailoverMeasurement>,
        problems: Vec<String>,
    ) -> Self {
        let mut scenarios: Vec<&str> = Vec::new();
        for measurement in &measurements {
            if !scenarios.contains(&measurement.scenario.as_str()) {
                scenarios.push(&measurement.scenario);
            }
        }
        let of = |scenario: &&str| {
            measurements.iter().filter(|measurement| measurement.scenario == *scenario).collect::<Vec<_>>()
        };
        let rows = scenarios.iter().map(|scenario| Row::of(&of(scenario))).collect();
        Self { nodes, repeat, rows, problems, measurements }
    }

    /// Everything that may never be.
    pub fn violations(&self) -> Vec<String> {
        let of =
            |row: &Row| row.violations.iter().map(|v| format!("{}: {v}", row.scenario)).collect::<Vec<_>>();
        self.rows.iter().flat_map(of).collect()
    }
}

impl fmt::Display for FailoverReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<20} {:>5}  {:>13}  {:>9}  {:<32} {:>17}  {:>5}  {:<9} aim",
            "event", "times", "gap med/worst", "elsewhere", "on the node", "failed+delayed/of", "twice", ""
        )?;
        for row in &self.rows {
            write_row(f, row)?;
        }
        for problem in &self.problems {
            writeln!(f, "not measured: {problem}")?;
        }
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    let seconds = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.2}"));
    let gap = if row.unserved > 0 {
        format!("{}/never", seconds(row.gap_median))
    } else {
        format!("{}/{} s", seconds(row.gap_median), seconds(row.gap_worst))
    };
    let mut node = format!("{} of {} lost", row.lost_node, row.sessions_node);
    if row.reset_worst.is_some() {
        node += &format!(", reset {}/{} s", seconds(row.reset_median), seconds(row.reset_worst));
    } else {
        node += &format!(", pause {:.2} s", row.pause_node);
    }
    let (all, failed, delayed) = row.connections;
    let well = row.misses.is_empty() && row.violations.is_empty();
    let verdict = if well {
        "pass"
    } else if row.violations.is_empty() {
        "MISS"
    } else {
        "VIOLATED"
    };
    writeln!(
        f,
        "{:<20} {:>5}  {:>13}  {:>9}  {:<32} {:>17}  {:>5}  {:<9} {}",
        row.scenario,
        row.count,
        gap,
        row.lost_elsewhere,
        node,
        format!("{failed}+{delayed}/{all}"),
        row.twice,
        verdict,
        row.aim
    )?;
    if !well {
        let all: Vec<_> = row.violations.iter().chain(&row.misses).cloned().collect();
        writeln!(f, "{:<20} {}", "", all.join(", "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Instant;

    use super::*;
    use crate::bench::failover::measurement::SessionFigures;

    fn measurement() -> FailoverMeasurement {
        FailoverMeasurement {
            scenario: "cut".into(),
            repeat: 0,
            nodes: vec![1],
            watched: 1.0,
            gaps: BTreeMap::from([([198, 51, 100, 101].into(), Some(0.25))]),
            gap_elsewhere: None,
            sessions: SessionFigures {
                on_node: 2,
                lost_node: 2,
                lost_elsewhere: vec![],
                resets: vec![0.5],
                hanging: 0,
                pause_node: 0.0,
                pause_elsewhere: 0.1,
            },
            probes: (50, 0),
            twice: vec![],
            moves: 1,
            last_answer: None,
            outs: vec![],
            connections: (10, 0, 0),
            failures: vec![],
            aim: FailoverAim::of_planned(),
            window: (Instant::now(), Instant::now()),
        }
    }

    /// `docs/benchmarks.md` is made of reports that were kept, and scripts read them.
    #[test]
    fn the_keys_of_a_report_stay() {
        let report = FailoverReport::new(4, 1, vec![measurement()], vec![]);
        let json = serde_json::to_value(report).unwrap();
        let keys = |value: &serde_json::Value| {
            let object = value.as_object().unwrap();
            object.keys().cloned().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys(&json), "nodes problems repeat rows takes");
        assert_eq!(
            keys(&json["rows"][0]),
            "act aim calls gap_median gap_worst hanging last_answer lost_elsewhere lost_node misses moves outs \
             pause_node reset_median reset_worst sessions_node takes twice unserved violations"
        );
        assert_eq!(
            keys(&json["takes"][0]),
            "act calls failures gap_elsewhere gaps hanging knocks last_answer lost_elsewhere lost_node moves nodes \
             outs pause_elsewhere pause_node repeat resets sessions_node twice watched"
        );
    }
}

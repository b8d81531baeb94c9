//! Tables in Markdown.

use std::fmt::Write;

use serde_json::Value;

use crate::bench::results::{BenchResults, Machine, figure, unit_in_brackets};
use crate::bench::stats::{Summary, ratio};

/// The command, the machine, what it depends on, and what is to be known about the run.
pub fn source(results: &BenchResults) -> String {
    let mut text = format!("    {}\n\n{}", results.command, machine(&results.machine));
    let settings: Vec<String> =
        results.settings.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    if !settings.is_empty() {
        let _ = write!(text, " Settings: {}.", settings.join("; "));
    }
    for remark in &results.remarks {
        let _ = write!(text, "\n\n{remark}");
    }
    text
}

fn machine(machine: &Machine) -> String {
    let mut text = format!(
        "{}, Linux {}, {} × {}, load {:.1} before and {:.1} at the end.",
        machine.date,
        machine.kernel,
        machine.processors,
        machine.processor,
        machine.load_before,
        machine.load_after
    );
    if machine.busy {
        let percent = machine.used_before * 100.0;
        let _ = write!(
            text,
            " **Others used {percent:.0} % of the processors when it began: preliminary figures.**"
        );
    }
    if machine.debug_build {
        text += " **Debug build.**";
    }
    text
}

/// A row a scenario, a column a contestant: median, and least to most.
pub fn medians(results: &BenchResults, metric: &str, scenario: &str) -> String {
    table(results, metric, scenario, |series, _| Summary::of(series), None)
}

/// The same, relative to one contestant, round by round.
pub fn ratios(results: &BenchResults, metric: &str, against: &str, scenario: &str) -> String {
    table(results, metric, scenario, |own, other| ratio(own, other?), Some(against))
}

fn table(
    results: &BenchResults,
    metric: &str,
    prefix: &str,
    sum_up: impl Fn(&[f64], Option<&[f64]>) -> Option<Summary>,
    against: Option<&str>,
) -> String {
    let unit = results.series.iter().find(|s| s.metric == metric).map_or("", |s| s.unit.as_str());
    let head = match against {
        Some(against) => format!("{metric}, relative to {against}"),
        None => format!("{metric}{}", unit_in_brackets(unit)),
    };
    let contestants: Vec<&str> =
        results.contestants(metric).into_iter().filter(|contestant| Some(*contestant) != against).collect();
    let scenarios: Vec<&str> =
        results.scenarios(metric).into_iter().filter(|scenario| scenario.starts_with(prefix)).collect();
    let text_of = |scenario: &str, contestant: &str| {
        let other = against.and_then(|against| results.find(metric, scenario, against));
        let own = results.find(metric, scenario, contestant);
        let all = own.and_then(|own| sum_up(&own.samples, other.map(|other| &other.samples[..])));
        all.map_or_else(|| "–".into(), cell)
    };
    if contestants.len() > COLUMNS_MAX {
        grid(&head, &contestants, &scenarios, |contestant, scenario| text_of(scenario, contestant))
    } else {
        grid(&head, &scenarios, &contestants, text_of)
    }
}

/// More contestants than fit beside each other stand below each other.
const COLUMNS_MAX: usize = 8;

/// A table without the rows and columns in which there is nothing.
fn grid(head: &str, rows: &[&str], columns: &[&str], text_of: impl Fn(&str, &str) -> String) -> String {
    let there = |row: &str, column: &str| text_of(row, column) != "–";
    let filled = |column: &&str| rows.iter().any(|row| there(row, column));
    let columns: Vec<&str> = columns.iter().copied().filter(filled).collect();
    let filled = |row: &&str| columns.iter().any(|column| there(row, column));
    let rows: Vec<&str> = rows.iter().copied().filter(filled).collect();
    let mut text =
        format!("| {head} | {} |\n| --- |{}\n", columns.join(" | "), " --- |".repeat(columns.len()));
    for row in rows {
        let cells: Vec<String> = columns.iter().map(|column| text_of(row, column)).collect();
        let _ = writeln!(text, "| {row} | {} |", cells.join(" | "));
    }
    text
}

fn cell(all: Summary) -> String {
    let (median, least, most) = (figure(all.median), figure(all.least), figure(all.most));
    // Computed figures that are the same in every trial need no spread.
    if all.least == all.most && median == least && all.median == all.median.round() {
        return median;
    }
    format!("{median} ({least}–{most})")
}

/// What was aimed at: one row an aim, with the scenarios in which it was missed.
pub fn aims(results: &BenchResults) -> String {
    let mut text =
        String::from("| aim | reached | best and worst | missed in |\n| --- | --- | --- | --- |\n");
    let outcomes = results.evaluate();
    let mut done: Vec<&str> = Vec::new();
    for outcome in &outcomes {
        let aim = outcome.aim.as_str();
        if done.contains(&aim) {
            continue;
        }
        done.push(aim);
        let all: Vec<_> = outcomes.iter().filter(|other| other.aim == aim).collect();
        let missed: Vec<String> = all
            .iter()
            .filter(|outcome| !outcome.reached)
            .map(|outcome| format!("{} ({})", outcome.scenario, figure(outcome.figure)))
            .collect();
        let spread = Summary::of(&all.iter().map(|outcome| outcome.figure).collect::<Vec<_>>());
        let spread = spread.map_or_else(String::new, |s| format!("{}–{}", figure(s.least), figure(s.most)));
        let verdict = match missed.len() {
            0 => "yes".into(),
            count if count == all.len() => "**missed**".into(),
            count => format!("**missed** in {count} of {}", all.len()),
        };
        let _ = writeln!(text, "| {aim} | {verdict} | {spread} | {} |", missed.join(", "));
    }
    text
}

/// The rows of a failover report.
pub fn failover(date: &str, report: &Value) -> String {
    let mut text = format!(
        "Measured on {date}; {} nodes, {} repeats.\n\n\
         | event | gap, median / worst | sessions lost elsewhere | sessions on the node | failed + delayed, of calls \
         | twice |\n| --- | --- | --- | --- | --- | --- |\n",
        report["nodes"], report["repeat"]
    );
    for row in report["rows"].as_array().into_iter().flatten() {
        let calls: Vec<String> =
            row["calls"].as_array().into_iter().flatten().map(ToString::to_string).collect();
        let [all, failed, delayed] = &calls[..] else { continue };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {failed} + {delayed} of {all} | {} |",
            row["act"].as_str().unwrap_or_default(),
            gap(row),
            row["lost_elsewhere"],
            on_the_node(row),
            row["twice"]
        );
    }
    text
}

fn gap(row: &Value) -> String {
    let median = seconds(&row["gap_median"]);
    match row["unserved"].as_u64() {
        Some(0) | None => format!("{median} / {} s", seconds(&row["gap_worst"])),
        Some(clients) => format!("{median} s / {clients} clients unserved at the end"),
    }
}

fn on_the_node(row: &Value) -> String {
    if row["sessions_node"] == 0 {
        return String::new();
    }
    let lost = format!("{} of {} lost", row["lost_node"], row["sessions_node"]);
    if row["reset_worst"].is_null() {
        format!("{lost}, longest pause {} s", seconds(&row["pause_node"]))
    } else {
        format!("{lost}, reset after {} / {} s", seconds(&row["reset_median"]), seconds(&row["reset_worst"]))
    }
}

fn seconds(value: &Value) -> String {
    value.as_f64().map_or_else(|| "–".into(), |seconds| format!("{seconds:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failover_row_reads_as_a_sentence_would() {
        let report = serde_json::json!({"nodes": 4, "repeat": 5, "rows": [{
            "act": "cut", "gap_median": 0.2612, "gap_worst": 0.28, "unserved": 0, "lost_elsewhere": 0,
            "sessions_node": 81, "lost_node": 81, "reset_median": 0.66, "reset_worst": 0.76, "pause_node": 0.0,
            "calls": [464, 0, 27], "twice": 0
        }]});
        let table = failover("2026-11-22", &report);
        let row =
            "| cut | 0.26 / 0.28 s | 0 | 81 of 81 lost, reset after 0.66 / 0.76 s | 0 + 27 of 464 | 0 |";
        assert!(table.contains(row), "{table}");
    }

    #[test]
    fn many_contestants_stand_below_each_other_and_what_is_empty_is_left_out() {
        let mut results = BenchResults::new("test", String::new());
        for who in 0..9 {
            results.note("time", "XDP", &format!("case {who}"), "ns", f64::from(who));
        }
        let table = medians(&results, "time", "");
        assert!(table.starts_with("| time (ns) | XDP |\n") && table.contains("| case 8 | 8.00 |"), "{table}");
        results = BenchResults::new("test", String::new());
        results.note("time", "here", "a", "ns", 1.0);
        results.note("time", "there", "b", "ns", 1.0);
        assert!(medians(&results, "time", "here").starts_with("| time (ns) | a |\n"));
        assert!(!ratios(&results, "time", "a", "").contains("there"), "nothing to compare with");
    }

    #[test]
    fn a_figure_that_never_changes_has_no_spread() {
        assert_eq!(cell(Summary { median: 1.0, least: 1.0, most: 1.0 }), "1.00");
        assert_eq!(cell(Summary { median: 2.0, least: 1.0, most: 3.0 }), "2.00 (1.00–3.00)");
    }
}

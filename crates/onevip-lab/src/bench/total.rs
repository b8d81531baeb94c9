//! `onevip-lab bench total KIND=SECONDS …`: how long each part of `make bench` took, and all of it.
//!
//! Measured by whoever calls (`scripts/bench`), with building and taking down of labs; kept like any other result, so that
//! the page can say it.

use anyhow::{Context, Result, ensure};

use super::results::{Aim, BenchResults};

const PART: &str = "time of a part";
const ALL: &str = "time of all";
const COMMAND: &str = "make bench";
const TAKEN: &str = "taken";
/// Twenty minutes: who has to wait longer does not measure.
const AT_MOST_S: f64 = 1200.0;

/// Of `part=seconds` words.
///
/// # Errors
/// When there is none, or one is not of that form.
pub fn run(parts: &[String]) -> Result<BenchResults> {
    let mut results = BenchResults::new("total", COMMAND.into());
    ensure!(!parts.is_empty(), "nothing was measured: give parts as PART=SECONDS");
    let mut all = 0.0;
    for part in parts {
        let (name, seconds) = read(part).with_context(|| format!("{part:?} is not like program=41"))?;
        results.note(PART, name, TAKEN, "s", seconds);
        all += seconds;
    }
    results.note(ALL, COMMAND, TAKEN, "s", all);
    results.aims.push(Aim::at_most(ALL, TAKEN, None, AT_MOST_S));
    results.finish();
    Ok(results)
}

fn read(part: &str) -> Option<(&str, f64)> {
    let (name, seconds) = part.split_once('=')?;
    let seconds: f64 = seconds.parse().ok()?;
    (!name.is_empty() && seconds.is_finite() && seconds >= 0.0).then_some((name, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_are_held_against_twenty_minutes() {
        let parts = ["release-build=240", "program=41.5"].map(str::to_owned);
        let results = run(&parts).unwrap();
        assert_eq!(results.find(PART, "program", TAKEN).unwrap().samples, [41.5]);
        let outcomes = results.evaluate();
        assert!(outcomes[0].reached && (outcomes[0].figure - 281.5).abs() < 1e-9, "{outcomes:?}");
        assert!(!run(&["x=1201".to_owned()]).unwrap().evaluate()[0].reached);
    }

    #[test]
    fn what_is_no_part_is_refused() {
        for wrong in ["program", "program=", "=3", "program=soon", "program=-1"] {
            assert!(run(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
        assert!(run(&[]).is_err());
    }
}

//! `onevip limits`: who opened connections lately, and who is refused.

use super::ask::ask;
use crate::cmd::context::Context;
use crate::limits::counters::SourceCount;
use crate::limits::hand_over::Limits;
use crate::sessions::show::span;
use std::io::Write;
use std::process::ExitCode;

/// Lists what this node has counted, those at their limit first.
pub fn run(ctx: &Context) -> anyhow::Result<ExitCode> {
    let lines = ask(ctx, &Limits {})?;
    let mut out = std::io::stdout();
    for line in &lines {
        if ctx.json {
            writeln!(out, "{}", serde_json::to_string(line)?)?;
        } else {
            writeln!(out, "{}", for_people(line))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn for_people(line: &SourceCount) -> String {
    let window = humantime::format_duration(std::time::Duration::from_millis(line.window_ms));
    let standing = match line.refused_for_ms {
        Some(left) => format!("AT ITS LIMIT for {}", span(left.div_ceil(1000))),
        None => "below its limit".to_owned(),
    };
    let (vip, service, attempts, burst) = (&line.vip, &line.service, line.attempts, line.burst);
    let refused = match line.refused {
        0 => String::new(),
        count => format!(", refused {count} times"),
    };
    format!("{:39} {vip} {service}  {attempts} of {burst} in {window}, {standing}{refused}", line.source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_is_refused_and_for_how_long() {
        let mut line = SourceCount {
            vip: "login".into(),
            service: "tcp 22".into(),
            source: "192.0.2.1".into(),
            attempts: 2,
            burst: 2,
            window_ms: 7000,
            refused_for_ms: Some(3100),
            refused: 4,
        };
        let shown = for_people(&line);
        assert!(
            shown.starts_with("192.0.2.1 ")
                && shown.contains("2 of 2 in 7s, AT ITS LIMIT for 4s, refused 4 times"),
            "{shown}"
        );
        (line.refused_for_ms, line.refused, line.attempts) = (None, 0, 1);
        assert!(for_people(&line).ends_with("1 of 2 in 7s, below its limit"));
    }
}

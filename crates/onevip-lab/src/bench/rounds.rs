//! Contestants take turns, so that whatever else the machine does meanwhile befalls all of them.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use anyhow::Result;

use crate::process::check_interrupt;

/// A line on standard error that says how far a benchmark is.
pub struct Progress {
    kind: &'static str,
    start: Instant,
}

impl Progress {
    /// Begins now.
    pub fn new(kind: &'static str) -> Self {
        Self { kind, start: Instant::now() }
    }

    /// Says what comes next. Where standard error is no terminal, only `milestones` are worth a line.
    pub fn tell(&self, what: &str, milestone: bool) {
        let line = format!("{:>4} s  {}: {what}", self.start.elapsed().as_secs(), self.kind);
        let mut err = std::io::stderr();
        // Progress is a courtesy: a stream that is gone is no reason to stop.
        if err.is_terminal() {
            let _ = write!(err, "\r\x1b[K{line}");
        } else if milestone {
            let _ = writeln!(err, "{line}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
    }
}

/// Lets every contestant have its turn in every round. Who begins changes from round to round: the first one after a
/// pause would always find the caches cold.
///
/// # Errors
/// Those of `measure`, and when the user interrupts.
pub fn take_turns<C>(
    progress: &Progress,
    what: &str,
    rounds: usize,
    contestants: &mut [C],
    mut measure: impl FnMut(&mut C) -> Result<()>,
) -> Result<()> {
    for round in 0..rounds {
        progress.tell(&format!("{what}, round {} of {rounds}", round + 1), round == 0);
        let count = contestants.len();
        for turn in 0..count {
            check_interrupt()?;
            measure(&mut contestants[(turn + round) % count])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_in_every_round_and_another_begins() {
        let mut order = Vec::new();
        let mut contestants = ['a', 'b', 'c'];
        take_turns(&Progress::new("test"), "turns", 2, &mut contestants, |&mut who| {
            order.push(who);
            Ok(())
        })
        .unwrap();
        assert_eq!(order, ['a', 'b', 'c', 'b', 'c', 'a']);
    }
}

//! How the demo looks: headings, quoted terminals, claims with a tick, bars. Plain when the output is no terminal.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::process::check_interrupt;

/// Width of a full bar, in characters.
const BAR: usize = 40;
/// Left margin of everything but headings.
const MARGIN: &str = "     ";

/// Where the story is told.
pub struct Screen {
    terminal: bool,
    colour: bool,
    fast: bool,
    step: u32,
    /// Lines of the chart that stands at the bottom and is drawn over.
    chart_lines: usize,
}

/// The colours of the story, as SGR parameters.
#[derive(Clone, Copy)]
pub enum Ink {
    /// What is said beside the story.
    Dim,
    /// What stands out.
    Bold,
    /// What went as promised.
    Good,
    /// What is broken.
    Bad,
    /// A host, by number: each keeps its colour.
    Host(usize),
}

impl Ink {
    fn sgr(self) -> &'static str {
        const HOSTS: [&str; 6] = ["36", "35", "33", "34", "32", "31"];
        match self {
            Ink::Dim => "2",
            Ink::Bold => "1",
            Ink::Good => "1;32",
            Ink::Bad => "1;31",
            Ink::Host(number) => HOSTS[number % HOSTS.len()],
        }
    }
}

impl Screen {
    /// Standard output; `fast` leaves out the pauses for reading.
    pub fn new(fast: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { terminal, colour: terminal && !no_colour, fast, step: 0, chart_lines: 0 }
    }

    /// A text in a colour, where there are colours.
    pub fn ink(&self, ink: Ink, text: &str) -> String {
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", ink.sgr()) } else { text.to_owned() }
    }

    fn line(&self, text: &str) {
        let mut out = io::stdout().lock();
        // Nobody reads any more: the story's end is decided by its claims, not by its audience.
        let _ = writeln!(out, "{}", text.trim_end());
        let _ = out.flush();
    }

    /// The title and what the story is about.
    pub fn title(&self, title: &str, about: &[String]) {
        self.line("");
        self.line(&format!("  {}", self.ink(Ink::Bold, title)));
        for text in about {
            self.line(&format!("  {}", self.ink(Ink::Dim, text)));
        }
    }

    /// The next step begins.
    pub fn step(&mut self, heading: &str) {
        self.step += 1;
        self.line("");
        self.line(&format!(
            "  {}  {}",
            self.ink(Ink::Dim, &self.step.to_string()),
            self.ink(Ink::Bold, heading)
        ));
        self.line("");
    }

    /// A remark of the narrator.
    pub fn say(&self, text: &str) {
        self.line(&format!("{MARGIN}{text}"));
    }

    /// A command as the audience would type it.
    pub fn prompt(&self, host: &str, command: &str) {
        let host = self.ink(Ink::Dim, &format!("{host}$"));
        self.line(&format!("{MARGIN}{host} {command}"));
    }

    /// A line of real output; `marked` picks out a part of it.
    pub fn quote(&self, text: &str, marked: Option<&str>) {
        let text = match marked.filter(|_| self.colour) {
            Some(part) => text.replace(part, &self.ink(Ink::Bad, part)),
            None => text.to_owned(),
        };
        self.line(&format!("{MARGIN}{text}"));
    }

    /// A claim about what was just seen: ticked when it is so; the end of the story when it is not.
    ///
    /// # Errors
    /// When the claim does not hold.
    pub fn claim(&self, holds: bool, claim: &str) -> Result<()> {
        if holds {
            self.line(&format!("{MARGIN}{} {claim}", self.ink(Ink::Good, "✓")));
            return Ok(());
        }
        self.line(&format!("{MARGIN}{} {}", self.ink(Ink::Bad, "✗ not so:"), claim));
        bail!("the demo made a claim that is not so")
    }

    /// What the old way does wrong, measured: a cross although the story goes on.
    pub fn flaw(&self, text: &str) {
        self.line(&format!("{MARGIN}{} {text}", self.ink(Ink::Bad, "✗")));
    }

    /// Draws (or, on a terminal, redraws) one bar a host. Where nothing can be drawn over, only the final chart appears.
    pub fn chart(&mut self, counts: &[(String, usize)], total: usize, is_final: bool) {
        if !self.terminal && !is_final {
            return;
        }
        let mut out = String::new();
        if self.chart_lines > 0 {
            out.push_str(&format!("\x1b[{}A", self.chart_lines));
        }
        for (number, (host, count)) in counts.iter().enumerate() {
            let bar = self.ink(Ink::Host(number), &bar(*count, total, counts.len()));
            let clear = if self.terminal { "\x1b[K" } else { "" };
            out.push_str(&format!("{MARGIN}{host:<7} {bar} {count}{clear}\n"));
        }
        self.chart_lines = if self.terminal && !is_final { counts.len() } else { 0 };
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(out.as_bytes());
        let _ = stdout.flush();
    }

    /// Time to read what was said.
    ///
    /// # Errors
    /// When the user interrupts.
    pub fn pause(&self, time: Duration) -> Result<()> {
        if !self.fast {
            std::thread::sleep(time);
        }
        check_interrupt()
    }
}

/// A bar in eighths of a character; full width is twice a fair share, so that unfair ones still fit.
fn bar(count: usize, total: usize, hosts: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (count * hosts * BAR * 8 / (2 * total.max(1))).min(BAR * 8);
    "█".repeat(eighths / 8) + PARTS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fair_share_is_half_the_width() {
        assert_eq!(bar(15, 60, 4), "█".repeat(BAR / 2));
        assert_eq!(bar(0, 60, 4), "");
        assert_eq!(bar(60, 60, 4), "█".repeat(BAR));
        assert_eq!(bar(1, 1, 1).chars().count(), BAR / 2);
        assert_eq!(bar(0, 0, 4), "");
    }

    #[test]
    fn a_claim_that_does_not_hold_is_an_error() {
        let screen = Screen::new(true);
        assert!(screen.claim(true, "the sky is up").is_ok());
        assert!(screen.claim(false, "the sky is down").is_err());
    }
}

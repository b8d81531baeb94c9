//! Bars as SVG, by hand: small, the same on every machine, and readable on light and on dark ground.
//!
//! Colours come from the palette of Okabe and Ito, which people with colour blindness can tell apart; the text takes
//! the reader's colour scheme.

use std::fmt::Write;

use crate::bench::results::{BenchResults, figure, unit_in_brackets};
use crate::bench::stats::Summary;

const PALETTE: [&str; 8] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8f8f8f", "#b8a800"];
/// All lengths in pixels.
const WIDTH: f64 = 760.0;
const LABELS: f64 = 190.0;
const FIGURES: f64 = 70.0;
const BAR: f64 = 15.0;
const GAP: f64 = 12.0;
const LINE: f64 = 20.0;

/// One group of bars a scenario, one bar a contestant; a thin line shows least and most. Bars begin at `base`, which is 0
/// unless less than something else is impossible.
pub fn bars(results: &BenchResults, metric: &str, prefix: &str, base: f64) -> String {
    let scenarios: Vec<&str> =
        results.scenarios(metric).into_iter().filter(|scenario| scenario.starts_with(prefix)).collect();
    let contestants = results.contestants(metric);
    let unit = results.series.iter().find(|s| s.metric == metric).map_or("", |s| s.unit.as_str());
    let summary = |scenario: &str, contestant: &str| {
        results.find(metric, scenario, contestant).and_then(|series| Summary::of(&series.samples))
    };
    let all = scenarios.iter().flat_map(|s| contestants.iter().filter_map(|c| summary(s, c)));
    let most = all.map(|summary| summary.most - base).fold(f64::MIN_POSITIVE, f64::max);
    let scale = Scale { base, pixels: (WIDTH - LABELS - FIGURES) / most };
    let colours = colours(&contestants);
    let begin = if base == 0.0 { String::new() } else { format!(", bars begin at {base}") };

    let mut body = String::new();
    let _ = writeln!(
        body,
        "<text class=\"title\" x=\"0\" y=\"14\">{}{}{begin}</text>",
        escape(metric),
        unit_in_brackets(unit)
    );
    let mut y = LINE + 6.0;
    y = legend(&mut body, &contestants, &colours, y);
    for scenario in &scenarios {
        let top = y;
        for (index, contestant) in contestants.iter().enumerate() {
            let Some(all) = summary(scenario, contestant) else { continue };
            bar(&mut body, y, &all, &scale, colours[index]);
            y += BAR;
        }
        let middle = f64::midpoint(top, y) + 4.0;
        let _ = writeln!(body, "<text x=\"0\" y=\"{middle:.1}\">{}</text>", escape(scenario));
        y += GAP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y:.0}\" role=\"img\">\n\
         <style>text{{font:12px sans-serif;fill:#1f2328}}.title{{font-weight:bold}}line{{stroke:#1f2328}}\n\
         @media (prefers-color-scheme:dark){{text{{fill:#e6edf3}}line{{stroke:#e6edf3}}}}</style>\n{body}</svg>\n"
    )
}

/// Where a figure lies.
struct Scale {
    base: f64,
    /// Of a unit.
    pixels: f64,
}

impl Scale {
    fn at(&self, figure: f64) -> f64 {
        LABELS + (figure - self.base).max(0.0) * self.pixels
    }
}

/// Ours come first, so that onevip has the same colour in all plots.
fn colours(contestants: &[&str]) -> Vec<&'static str> {
    let ours = |name: &&str| name.starts_with("onevip");
    let (own, others): (Vec<&str>, Vec<&str>) = contestants.iter().copied().partition(|name| ours(name));
    let place = |name: &&str| own.iter().chain(&others).position(|other| other == name).unwrap_or(0);
    contestants.iter().map(|name| PALETTE[place(name) % PALETTE.len()]).collect()
}

fn bar(body: &mut String, y: f64, all: &Summary, scale: &Scale, colour: &str) {
    // Nothing is a hair's breadth, so that one sees that it was measured.
    let length = (scale.at(all.median) - LABELS).max(1.0);
    let (least, most) = (scale.at(all.least), scale.at(all.most));
    let middle = y + BAR / 2.0 - 1.0;
    let _ = writeln!(
        body,
        "<rect x=\"{LABELS}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
         <line x1=\"{least:.1}\" y1=\"{middle:.1}\" x2=\"{most:.1}\" y2=\"{middle:.1}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        BAR - 2.0,
        most.max(LABELS + length) + 5.0,
        y + BAR - 4.0,
        figure(all.median)
    );
}

fn legend(body: &mut String, contestants: &[&str], colours: &[&str], mut y: f64) -> f64 {
    let mut x = 0.0;
    for (index, contestant) in contestants.iter().enumerate() {
        let width = 32.0 + 6.6 * contestant.chars().count() as f64;
        if x + width > WIDTH && x > 0.0 {
            (x, y) = (0.0, y + LINE);
        }
        let _ = writeln!(
            body,
            "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{:.0}\" y=\"{:.0}\">{}</text>",
            colours[index],
            x + 16.0,
            y + 10.0,
            escape(contestant)
        );
        x += width;
    }
    y + LINE + 4.0
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_room_and_the_others_are_in_proportion() {
        let mut results = BenchResults::new("test", String::new());
        results.note("time", "a <b>", "ours", "ns", 50.0);
        results.note("time", "a <b>", "theirs", "ns", 100.0);
        let svg = bars(&results, "time", "", 0.0);
        assert!(svg.contains("width=\"500.0\"") && svg.contains("width=\"250.0\""), "{svg}");
        assert!(svg.contains("a &lt;b&gt;") && svg.contains("prefers-color-scheme:dark"), "{svg}");
    }

    #[test]
    fn only_scenarios_that_begin_so_are_drawn() {
        let mut results = BenchResults::new("test", String::new());
        results.note("time", "here 1", "ours", "ns", 50.0);
        results.note("time", "there 1", "ours", "ns", 5000.0);
        let svg = bars(&results, "time", "here", 0.0);
        assert!(svg.contains("here 1") && !svg.contains("there 1"), "{svg}");
    }

    #[test]
    fn bars_may_begin_at_what_is_the_least() {
        let mut results = BenchResults::new("test", String::new());
        results.note("most / mean", "x", "ours", "", 1.1);
        results.note("most / mean", "x", "theirs", "", 1.2);
        let svg = bars(&results, "most / mean", "", 1.0);
        assert!(svg.contains("width=\"500.0\"") && svg.contains("width=\"250.0\""), "{svg}");
        assert!(svg.contains("bars begin at 1<"), "{svg}");
    }

    #[test]
    fn onevip_has_the_same_colour_wherever_it_stands() {
        assert_eq!(colours(&["direct", "onevip"]), [PALETTE[1], PALETTE[0]]);
        assert_eq!(colours(&["onevip", "onevip, fast", "x"]), PALETTE[..3]);
    }
}

//! `onevip-lab bench page`: `docs/benchmarks.md` and its plots, from a template and the raw results.
//!
//! The template has the words, the raw results have the figures. A line of the template that is `{{…}}` is replaced:
//!
//! | directive | by |
//! | --- | --- |
//! | `{{source KIND}}` | the command, the machine, the settings of the newest result |
//! | `{{table KIND \| METRIC \| SCENARIO}}` | medians and spread: a row a scenario, a column a contestant |
//! | `{{ratios KIND \| METRIC \| AGAINST \| SCENARIO}}` | each contestant relative to one of them |
//! | `{{aims KIND}}` | what was aimed at, and what came of it |
//! | `{{plot KIND \| METRIC \| SCENARIO \| BASE}}` | bars, as an SVG beside the page; they begin at BASE, by default 0 |
//! | `{{failover LABEL}}` | the rows of `DATE-failover-LABEL.json` |
//!
//! A SCENARIO at the end picks those that begin so. A kind that was not measured yet says so where its source stands; a
//! metric that is not in its result leaves nothing behind.
//!
//! Within a line, `{{figure KIND | METRIC | SCENARIO | CONTESTANT}}` is a median, and with `| AGAINST` the median of the
//! ratios. Lines from `{{missed KIND | WORDS}}` to `{{end}}` are there only if an aim whose words contain WORDS was missed:
//! that is where a miss is explained. ("throughput of onevip: ≥ 0.97 × direct" are the words of an aim.)

pub mod plot;
mod tables;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::results::{BenchResults, figure};
use super::stats::{Summary, ratio};

/// Where things are.
#[derive(Clone, Debug)]
pub struct PagePaths {
    /// The raw results.
    pub results: PathBuf,
    /// The template.
    pub template: PathBuf,
    /// The page; plots go to `plots` beside it.
    pub page: PathBuf,
}

/// Writes page and plots.
///
/// # Errors
/// When a file cannot be read or written, or the template has a directive that is none.
pub fn write(paths: &PagePaths) -> Result<()> {
    let template = fs::read_to_string(&paths.template)
        .with_context(|| format!("cannot read the template {}", paths.template.display()))?;
    let archive = ResultArchive::read(&paths.results)?;
    let page = render(&template, &archive)?;
    let dir = paths.page.parent().context("the page needs a directory")?;
    remove_old_plots(dir, &page)?;
    for (name, svg) in &page.plots {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    fs::write(&paths.page, page.text).with_context(|| format!("cannot write {}", paths.page.display()))
}

/// Plots that the page does not show any more.
fn remove_old_plots(dir: &Path, page: &RenderedPage) -> Result<()> {
    for path in fs::read_dir(dir.join(PLOTS)).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_plot = path.extension().is_some_and(|extension| extension == "svg");
        if is_plot && !page.plots.contains_key(&format!("{PLOTS}/{name}")) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Where plots lie beside the page, and nothing else.
const PLOTS: &str = "plots";

/// The newest raw result of each kind.
#[derive(Default)]
pub struct ResultArchive {
    by_kind: BTreeMap<String, BenchResults>,
    /// By label.
    failovers: BTreeMap<String, (String, Value)>,
}

impl ResultArchive {
    /// Reads a directory: the names begin with the date, so the last one of a kind is the newest.
    ///
    /// # Errors
    /// When a file is no result.
    pub fn read(dir: &Path) -> Result<Self> {
        let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        let mut archive = Self::default();
        for path in paths {
            let text = fs::read(&path)?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            archive.add(&stem, &text).with_context(|| format!("{} is no raw result", path.display()))?;
        }
        Ok(archive)
    }

    fn add(&mut self, stem: &str, text: &[u8]) -> Result<()> {
        match stem.split_once("-failover-") {
            Some((date, label)) => {
                self.failovers.insert(label.to_owned(), (date.to_owned(), serde_json::from_slice(text)?));
            }
            None => {
                let results: BenchResults = serde_json::from_slice(text)?;
                self.by_kind.insert(results.kind.clone(), results);
            }
        }
        Ok(())
    }
}

/// A page and the plots that it shows.
pub struct RenderedPage {
    /// Markdown.
    pub text: String,
    /// Path relative to the page, and SVG.
    pub plots: BTreeMap<String, String>,
}

/// Replaces the directives of a template.
///
/// # Errors
/// When one is none, or a block does not end.
pub fn render(template: &str, archive: &ResultArchive) -> Result<RenderedPage> {
    let mut page = RenderedPage { text: String::new(), plots: BTreeMap::new() };
    // Whether the lines of the block that we are in are to be there.
    let mut block = None;
    for line in template.lines() {
        let directive = line.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
        let text = match directive {
            Some("end") => {
                block.take().context("{{end}} ends nothing")?;
                continue;
            }
            Some(directive) if directive.starts_with("missed ") => {
                ensure!(block.is_none(), "{line} begins within another block");
                block = Some(missed(directive.trim_start_matches("missed "), archive));
                continue;
            }
            _ if block == Some(false) => continue,
            Some(directive) if !directive.contains("{{") && !directive.starts_with("figure ") => {
                replace(directive, archive, &mut page.plots).with_context(|| line.to_owned())?
            }
            _ => figures(line, archive).with_context(|| line.to_owned())?,
        };
        append(&mut page.text, text.trim_end());
    }
    ensure!(block.is_none(), "a block {{{{missed …}}}} has no {{{{end}}}}");
    Ok(page)
}

/// What leaves nothing behind leaves no gap either: one blank line is enough.
fn append(page: &mut String, text: &str) {
    if !text.is_empty() || !(page.is_empty() || page.ends_with("\n\n")) {
        page.push_str(text);
        page.push('\n');
    }
}

/// Whether an aim with these words was missed.
fn missed(words: &str, archive: &ResultArchive) -> bool {
    let (kind, words) = words.split_once('|').unwrap_or((words, ""));
    let results = archive.by_kind.get(kind.trim());
    let outcomes = results.map(BenchResults::evaluate).unwrap_or_default();
    outcomes.iter().any(|outcome| !outcome.reached && outcome.aim.contains(words.trim()))
}

/// A line with its figures.
fn figures(line: &str, archive: &ResultArchive) -> Result<String> {
    let (mut text, mut rest) = (String::new(), line);
    while let Some((before, after)) = rest.split_once("{{figure ") {
        let (directive, after) = after.split_once("}}").context("a figure has no end")?;
        text = text + before + &one_figure(directive, archive)?;
        rest = after;
    }
    ensure!(!rest.contains("{{"), "only figures can stand within a line");
    Ok(text + rest)
}

/// What was not measured is a dash.
fn one_figure(directive: &str, archive: &ResultArchive) -> Result<String> {
    let words: Vec<&str> = directive.split('|').map(str::trim).collect();
    let (kind, metric, scenario, contestant, against) = match words[..] {
        [kind, metric, scenario, contestant] => (kind, metric, scenario, contestant, None),
        [kind, metric, scenario, contestant, against] => (kind, metric, scenario, contestant, Some(against)),
        _ => bail!("a figure has a kind, a metric, a scenario, a contestant, and perhaps another"),
    };
    let samples = |contestant: &str| {
        let series = archive.by_kind.get(kind)?.find(metric, scenario, contestant)?;
        Some(series.samples.as_slice())
    };
    let summary = match against {
        None => samples(contestant).and_then(Summary::of),
        Some(against) => samples(contestant).zip(samples(against)).and_then(|(own, other)| ratio(own, other)),
    };
    Ok(summary.map_or_else(|| "–".into(), |summary| figure(summary.median)))
}

fn replace(directive: &str, archive: &ResultArchive, plots: &mut BTreeMap<String, String>) -> Result<String> {
    let (verb, rest) = directive.split_once(' ').context("a directive is a verb and a kind")?;
    let words: Vec<&str> = rest.split('|').map(str::trim).collect();
    let kind = words[0];
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    if verb == "failover" {
        return Ok(match archive.failovers.get(kind) {
            Some((date, report)) => tables::failover(date, report),
            None => not_yet("failover"),
        });
    }
    let Some(results) = archive.by_kind.get(kind) else {
        return Ok(if verb == "source" { not_yet(kind) } else { String::new() });
    };
    if matches!(verb, "table" | "ratios" | "plot") && !results.metrics().contains(&word(1)) {
        return Ok(String::new());
    }
    match verb {
        "source" => Ok(tables::source(results)),
        "table" => Ok(tables::medians(results, word(1), word(2))),
        "ratios" => Ok(tables::ratios(results, word(1), word(2), word(3))),
        "aims" => Ok(tables::aims(results)),
        "plot" => {
            let name = format!("{PLOTS}/{}.svg", slug(&[kind, word(1), word(2)].join(" ")));
            let base = if word(3).is_empty() { 0.0 } else { word(3).parse().context("where bars begin")? };
            plots.insert(name.clone(), plot::bars(results, word(1), word(2), base));
            Ok(format!("![{}]({name})", word(1)))
        }
        _ => bail!("there is no directive {verb:?}"),
    }
}

fn not_yet(kind: &str) -> String {
    format!("Not measured yet: `onevip-lab bench {kind}`.")
}

fn slug(text: &str) -> String {
    let dashed: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    dashed.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::Aim;

    fn archive() -> ResultArchive {
        let mut results = BenchResults::new("test", "onevip-lab bench test".into());
        for round in 0..3 {
            results.note("time", "small", "ours", "ns", f64::from(10 + round));
            results.note("time", "small", "theirs", "ns", f64::from(100 + 10 * round));
        }
        results.aims.push(Aim::at_most("time", "ours", Some("theirs"), 0.05));
        let mut archive = ResultArchive::default();
        archive.add("2026-01-02-test", &serde_json::to_vec(&results).unwrap()).unwrap();
        archive
    }

    #[test]
    fn figures_replace_directives_and_words_stay() {
        let template = "# Title\n{{source test}}\n{{table test | time}}\n{{ratios test | time | theirs}}\n\
                        {{aims test}}\n{{plot test | time}}\nwords\n";
        let page = render(template, &archive()).unwrap();
        assert!(page.text.starts_with("# Title\n") && page.text.ends_with("words\n"), "{}", page.text);
        assert!(page.text.contains("onevip-lab bench test"), "{}", page.text);
        assert!(page.text.contains("| small | 11.0 (10.0–12.0) | 110 (100–120) |"), "{}", page.text);
        assert!(page.text.contains("| small | 0.10 (0.10–0.10) |"), "{}", page.text);
        assert!(page.text.contains("**missed**"), "{}", page.text);
        assert!(page.text.contains("![time](plots/test-time.svg)"), "{}", page.text);
        assert!(page.plots["plots/test-time.svg"].contains("<svg"));
    }

    #[test]
    fn what_was_not_measured_says_so_and_nonsense_is_refused() {
        let page = render("{{source reject}}\n{{table reject | time}}\n", &archive()).unwrap();
        assert!(page.text.contains("Not measured yet: `onevip-lab bench reject`"), "{}", page.text);
        assert!(render("{{dance test}}", &archive()).is_err());
    }

    #[test]
    fn what_leaves_nothing_behind_leaves_no_gap() {
        let page =
            render("words\n\n{{table test | weight}}\n\n{{aims reject}}\n\nmore\n", &archive()).unwrap();
        assert_eq!(page.text, "words\n\nmore\n");
    }

    #[test]
    fn a_miss_is_explained_only_where_there_is_one() {
        let explained = |aim: &str| {
            let template = format!("{{{{missed test | {aim}}}}}\nbecause\n{{{{end}}}}\n");
            render(&template, &archive()).unwrap().text
        };
        assert_eq!(explained("time of ours"), "because\n");
        assert_eq!(explained("time of theirs"), "");
        assert!(render("{{missed test | time}}\n", &archive()).is_err(), "a block has to end");
        assert!(render("{{end}}\n", &archive()).is_err(), "nothing has begun");
    }

    #[test]
    fn figures_stand_within_sentences() {
        let line = "It takes {{figure test | time | small | ours}} ns, {{figure test|time|small|ours|theirs}} of theirs, \
                    and {{figure test | weight | small | ours}} kg.";
        assert_eq!(render(line, &archive()).unwrap().text, "It takes 11.0 ns, 0.10 of theirs, and – kg.\n");
        assert!(render("a {{table test | time}} within", &archive()).is_err());
        assert!(render("{{figure test | time}}", &archive()).is_err());
    }

    #[test]
    fn plots_that_are_not_shown_any_more_go_away() {
        let dir = std::env::temp_dir().join(format!("bn-page-{}", std::process::id()));
        let paths =
            PagePaths { results: dir.join("results"), template: dir.join("t.md"), page: dir.join("page.md") };
        fs::create_dir_all(&paths.results).unwrap();
        fs::create_dir_all(dir.join(PLOTS)).unwrap();
        let results = &archive().by_kind["test"];
        results.save(&paths.results).unwrap();
        fs::write(dir.join("plots/old.svg"), "").unwrap();
        fs::write(&paths.template, "{{plot test | time}}\n").unwrap();
        write(&paths).unwrap();
        let left: Vec<_> = fs::read_dir(dir.join(PLOTS)).unwrap().flatten().map(|e| e.file_name()).collect();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(left, ["test-time.svg"]);
    }

    #[test]
    fn a_newer_result_takes_the_place_of_an_older_one() {
        let mut archive = archive();
        let newer = BenchResults::new("test", "a newer command".into());
        archive.add("2026-01-03-test", &serde_json::to_vec(&newer).unwrap()).unwrap();
        assert_eq!(archive.by_kind["test"].command, "a newer command");
    }
}

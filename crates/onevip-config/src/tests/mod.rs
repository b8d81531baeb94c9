//! What the configuration accepts and refuses, seen from outside: text in, a configuration or mistakes out.

mod accepted;
mod health;
mod hostile;
mod limits;
mod refused;
mod settings;
mod several_files;

use super::*;

/// A file with these lines at the top, in its first `[[vip]]`, and after everything. A default line gives way to a line
/// that sets the same key; `end` that begins with `[[node]]` replaces the default nodes.
fn file(top: &str, vip: &str, end: &str) -> String {
    let defaults = |lines: &str, defaults: &[&str]| {
        let sets = |key: &str| lines.lines().any(|line| line.starts_with(key));
        let kept = defaults.iter().filter(|line| !line.split_once(" =").is_some_and(|(key, _)| sets(key)));
        kept.map(|line| format!("{line}\n")).collect::<String>() + lines + "\n"
    };
    let top = defaults(top, &["cluster = \"lab\""]);
    let vip = defaults(vip, &["name = \"login\"", "addresses = [\"198.51.100.10\"]"]);
    let nodes = if end.contains("[[node]]") { String::new() } else { node(1, "") + &node(2, "") };
    format!("{top}[[vip]]\n{vip}{nodes}{end}\n")
}

/// `[[node]]` with this number, and these lines besides.
fn node(id: u8, more: &str) -> String {
    format!(
        "[[node]]\nname = \"unix{id}\"\nid = {id}\naddress = \"198.51.100.{}\"\n{more}\n",
        100 + u16::from(id)
    )
}

/// The configuration of a text that has no mistakes.
fn accepted(text: &str) -> Config {
    let (config, found) = Config::inspect_text("onevip.toml", text);
    config.unwrap_or_else(|| panic!("{found}\n{text}"))
}

/// What was found in a text, as line, reason and remedy.
fn found(text: &str) -> Vec<(usize, String, String)> {
    let (config, found) = Config::inspect_text("onevip.toml", text);
    assert_eq!(
        config.is_none(),
        found.has_mistakes(),
        "no configuration exactly when there are mistakes\n{text}"
    );
    let line = |one: &Diagnostic| one.place.line_column().map_or(0, |(line, _)| line);
    found.iter().map(|one| (line(one), one.reason.clone(), one.remedy.clone())).collect()
}

/// Exactly one thing is found in the text, on the line that ends with `# here`, and says this.
#[track_caller]
fn finds(text: &str, reason: &str, remedy: &str) {
    let found = found(text);
    let [(line, its_reason, its_remedy)] = found.as_slice() else { panic!("not one: {found:#?}\n{text}") };
    let here = text.lines().position(|line| line.ends_with("# here")).map(|line| line + 1);
    assert_eq!(Some(*line), here, "{found:#?}\n{text}");
    assert!(its_reason.contains(reason), "reason {its_reason:?} lacks {reason:?}");
    assert!(its_remedy.contains(remedy), "remedy {its_remedy:?} lacks {remedy:?}");
}

//! The page `docs/configuration.md`, made of the table of settings.

use crate::settings::{Agreement, DefaultValue, OnReload, Setting, SettingTable, TABLES, ValueKind};
use std::fmt::Write as _;

/// What stands before the tables.
const HEAD: &str = "\
# Configuration

<!-- Made from the table of settings in crates/onevip-config/src/settings. Change it there, then run
     `cargo run -p onevip-config --example configuration > docs/configuration.md`. -->

onevip reads one file, `/etc/onevip/onevip.toml`. Give every node the same file. Files in
`conf.d/*.toml` beside it are read as well. They may add `[[vip]]` and `[[node]]`, but they override
nothing.

`onevip check` finds mistakes in the file, all at once. `packaging/onevip.toml` is a file with every
setting in it.

The format is [TOML](https://toml.io). Texts stand in double quotes. A time is a text with a unit:
`\"50ms\"`, `\"7s\"`, `\"5m\"`, `\"1h\"`. A list with one text may also be that text alone.

What the columns say:

- **Reload**: whether a running daemon takes a new value by `onevip reload` or SIGHUP. If not,
  restart the daemon. Sessions go on in both cases.
  - *yes*: it does.
  - *living*: it does with `membership = \"living\"`. With a fixed set of nodes, restart the daemons.
  - *living, others*: it does with `membership = \"living\"`, but not for this node's own `[[node]]`.
  - *no*: it takes a restart of the daemon.
- **Nodes**: *same* means that all nodes must have the same value. Nodes compare a digest of these
  settings, and say so when it differs. *own* means that each host may have a value of its own.
";

/// The page, in Markdown.
pub fn reference() -> String {
    let mut out = HEAD.to_owned();
    for table in TABLES {
        section(&mut out, table);
    }
    out
}

fn section(out: &mut String, table: &SettingTable) {
    let _ = write!(out, "\n## {}\n\n{}\n", heading(table), wrapped(table.about));
    if !table.example.is_empty() {
        let _ = write!(out, "\n```toml\n{}\n```\n", table.example);
    }
    out.push_str(
        "\n| Setting | Takes | Default | Meaning | Reload | Nodes |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for setting in table.settings {
        row(out, setting);
    }
    own_values(out, table);
}

/// The name of a section: as a file has its header, or in words where it has none.
fn heading(table: &SettingTable) -> String {
    match table.path {
        "" => "The top level".to_owned(),
        "health.thresholds" => "Thresholds of `[health]`".to_owned(),
        "vip.prefix" => "`prefix` of `[[vip]]`".to_owned(),
        "vip.service.limit.prefix" => "`prefix` of `[vip.service.limit]`".to_owned(),
        _ => format!("`{}`", table.title),
    }
}

fn row(out: &mut String, setting: &Setting) {
    let default = match setting.default {
        DefaultValue::Required => "*must be there*".to_owned(),
        DefaultValue::Value(value) => format!("`{value}`"),
        DefaultValue::Otherwise(words) => words.to_owned(),
    };
    let reload = match setting.reload {
        OnReload::Taken => "yes",
        OnReload::Living => "living",
        OnReload::LivingOthers => "living, others",
        OnReload::Restart => "no",
    };
    let nodes = match setting.agreement {
        Agreement::Cluster => "same",
        Agreement::Host(_) => "own",
    };
    let (name, takes, about) = (setting.name, takes(&setting.kind), setting.about);
    let _ = writeln!(out, "| `{name}` | {takes} | {default} | {about} | {reload} | {nodes} |");
}

/// Why hosts may have values of their own, each reason once.
fn own_values(out: &mut String, table: &SettingTable) {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for setting in table.settings {
        let Agreement::Host(why) = setting.agreement else { continue };
        let name = format!("`{}`", setting.name);
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(name),
            None => reasons.push((why, vec![name])),
        }
    }
    if !reasons.is_empty() {
        out.push('\n');
    }
    for (why, names) in reasons {
        let whose = if names.len() == table.settings.len() { "All".to_owned() } else { names.join(", ") };
        let text = wrapped(&format!("- {whose}: each host has its own, because {why}."));
        let _ = writeln!(out, "{}", text.replace('\n', "\n  "));
    }
}

/// What a setting takes, in words.
fn takes(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Word(words) => {
            let words: Vec<String> = words().iter().map(|word| format!("`\"{word}\"`")).collect();
            words.join(", ")
        }
        ValueKind::Number(range) => format!("a number from {} to {}", range.start(), range.end()),
        ValueKind::Time(range) => {
            let time = |time| humantime::format_duration(time);
            let (least, most) = (time(*range.start()), time(*range.end()));
            if range.start().as_millis() == 0 {
                format!("a time of at most `\"{most}\"`")
            } else {
                format!("a time from `\"{least}\"` to `\"{most}\"`")
            }
        }
        ValueKind::Text(words) => (*words).to_owned(),
        ValueKind::List(words) => format!("a list: {words}"),
        ValueKind::Ports => "a port from 1 to 65535, or a range of ports".to_owned(),
        ValueKind::ByNode(range) => {
            format!("names of nodes, each with a number from {} to {}", range.start(), range.end())
        }
        ValueKind::Thresholds(_) => "thresholds, see below".to_owned(),
        ValueKind::Table(table) => format!("a table, see {} below", heading(table)),
        ValueKind::Tables(table) => format!("any number of tables, see {} below", heading(table)),
    }
}

/// Lines of at most 100 characters.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let room = lines.last().map_or(0, |line| line.chars().count());
        if room > 0 && room + 1 + word.chars().count() > 100 {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

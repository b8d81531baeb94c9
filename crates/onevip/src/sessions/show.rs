//! Sessions as people read them: a table, and a sentence that counts them.

use super::list::Session;
use crate::base::clock::unix_time;
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

/// How many users a summary names.
const NAMED_MAX: usize = 8;

/// A table with a line for each session; empty when there is none.
pub fn table(sessions: &[Session]) -> String {
    if sessions.is_empty() {
        return String::new();
    }
    let head = ["USER", "FROM", "NODE", "SINCE", "AGE", "IDLE", "TERMINAL"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(sessions.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn row(session: &Session) -> [String; 7] {
    let dash = || "-".to_owned();
    let age = session.since.map(|since| unix_time().as_secs().saturating_sub(since));
    let terminals = match session.terminals.as_slice() {
        [] => session.program.clone().map_or_else(dash, |program| format!("({program})")),
        some => some.join(","),
    };
    [
        printable(session.user.as_deref().unwrap_or("-")),
        std::net::SocketAddr::new(session.address, session.port).to_string(),
        session.node.clone(),
        session.since.map_or_else(dash, moment),
        age.map_or_else(dash, span),
        session.idle_seconds.map_or_else(dash, span),
        printable(&terminals),
    ]
}

/// `3 sessions left: anna 2, bob 1`.
pub fn left(sessions: &[Session]) -> String {
    let mut by_user: BTreeMap<&str, usize> = BTreeMap::new();
    for session in sessions {
        *by_user.entry(session.user.as_deref().unwrap_or("nobody yet")).or_default() += 1;
    }
    let mut users: Vec<(&str, usize)> = by_user.into_iter().collect();
    users.sort_by_key(|(user, count)| (std::cmp::Reverse(*count), *user));
    let mut named: Vec<String> =
        users.iter().take(NAMED_MAX).map(|(user, count)| format!("{} {count}", printable(user))).collect();
    if users.len() > NAMED_MAX {
        named.push(format!("{} others", users.len() - NAMED_MAX));
    }
    let count = sessions.len();
    let what = if count == 1 { "session" } else { "sessions" };
    if named.is_empty() {
        format!("{count} {what} left")
    } else {
        format!("{count} {what} left: {}", named.join(", "))
    }
}

/// Seconds as people say them: the two largest units.
pub fn span(seconds: u64) -> String {
    let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// A moment in UTC, to the minute.
fn moment(since: u64) -> String {
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(since)).to_string();
    format!("{}Z", text.get(..16).unwrap_or(&text))
}

/// What users and programs call themselves must not steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(user: Option<&str>, port: u16) -> Session {
        Session {
            node: "unix1".into(),
            vip: "login".into(),
            user: user.map(str::to_owned),
            address: "198.51.100.101".parse().unwrap(),
            port,
            service: 22,
            program: Some("sshd".into()),
            since: Some(1_700_000_000),
            idle_seconds: Some(3661),
            terminals: vec!["pts/3".into()],
            holders: Vec::new(),
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_session() {
        let text = table(&[session(Some("anna"), 50022), session(None, 50023)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("USER"), "{text}");
        assert!(lines[1].starts_with("anna  198.51.100.101:50022  unix1  2023-11-14T22:13Z"), "{text}");
        assert!(lines[1].ends_with("1h 1m  pts/3") && lines[2].starts_with("-  "), "{text}");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn what_is_left_is_counted_by_user() {
        let sessions =
            [session(Some("bob"), 1), session(Some("anna"), 2), session(Some("anna"), 3), session(None, 4)];
        assert_eq!(left(&sessions), "4 sessions left: anna 2, bob 1, nobody yet 1");
        assert_eq!(left(&sessions[..1]), "1 session left: bob 1");
        assert_eq!(left(&[]), "0 sessions left");
        let many: Vec<Session> = (0..20).map(|n| session(Some(&format!("user{n:02}")), n)).collect();
        assert!(left(&many).ends_with("user07 1, 12 others"), "{}", left(&many));
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert!(!table(&[session(Some("a\x1b[2J"), 1)]).contains('\x1b'));
    }
}

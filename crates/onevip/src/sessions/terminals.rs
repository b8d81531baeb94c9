//! Writing to people's terminals, as `wall` does, but only to the terminals of certain sessions.

use crate::sessions::list::Session;
use nix::unistd::Uid;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

/// The longest message, in characters.
pub const TEXT_MAX: usize = 1000;

/// Writes `text` to every terminal of `sessions`, once each; returns how many got it.
///
/// A terminal that takes nothing (somebody pressed Ctrl-S) is passed over, never waited for.
pub fn tell<'a>(sessions: impl IntoIterator<Item = &'a Session>, host: &str, text: &str) -> usize {
    let terminals: BTreeSet<&String> = sessions.into_iter().flat_map(|session| &session.terminals).collect();
    let message = message(host, text);
    // A terminal may have gone meanwhile, with its session.
    terminals.iter().filter(|terminal| write(terminal, &message).is_ok()).count()
}

/// Whether this user may write to other people's terminals.
pub fn may_tell() -> bool {
    Uid::effective().is_root()
}

/// A bell, who speaks, and the text; nothing in it can steer a terminal.
fn message(host: &str, text: &str) -> String {
    let clean: String =
        text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).take(TEXT_MAX).collect();
    let lines = clean.lines().map(|line| format!("{line}\r\n")).collect::<String>();
    format!("\r\n\x07Message from {host}:\r\n{lines}\r\n")
}

fn write(terminal: &str, message: &str) -> io::Result<()> {
    // It must not become our controlling terminal, and must not be able to hold us.
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let mut file = OpenOptions::new().write(true).custom_flags(flags).open(format!("/dev/{terminal}"))?;
    if !file.metadata()?.file_type().is_char_device() {
        return Err(io::Error::other("not a terminal"));
    }
    file.write_all(message.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_who_speaks_and_steers_nothing() {
        let shown = message("unix1", "going down\nat \x1b[2J noon\r");
        assert_eq!(shown, "\r\n\x07Message from unix1:\r\ngoing down\r\nat ?[2J noon?\r\n\r\n");
        assert!(message("unix1", &"x".repeat(5000)).len() < TEXT_MAX + 100);
    }

    #[test]
    fn what_is_no_terminal_is_passed_over() {
        assert!(write("pts/no-such", "x").is_err());
        assert!(write("../etc/hostname-that-is-not", "x").is_err());
    }
}

//! An open `ssh` session that types, as a person in a terminal does: for everything that says "the session lives".

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::lab::Lab;

/// A session whose far end echoes lines. Dropping it closes the connection at once, without a farewell.
pub struct SshSession {
    child: Child,
    keys: Option<ChildStdin>,
    screen: Receiver<String>,
    /// What `hostname` said there.
    pub host: String,
    /// The client's address and port as the server sees them.
    pub client: (IpAddr, u16),
    typed: u64,
}

impl Lab {
    /// Opens a session to the VIP from a client's address (by default the client's first).
    ///
    /// # Errors
    /// When the address is no client's, or nobody answers within ten seconds.
    pub fn session(&self, from: Option<IpAddr>) -> Result<SshSession> {
        let from = from.unwrap_or_else(|| self.clients()[0]);
        self.session_to(self.vip_for(from), Some(from))
    }

    /// Opens a session to any address.
    ///
    /// # Errors
    /// As [`Lab::session`].
    pub fn session_to(&self, to: IpAddr, from: Option<IpAddr>) -> Result<SshSession> {
        self.session_saying(to, from, Stdio::inherit())
    }

    /// [`Lab::session`] with `ssh`'s complaints about its end kept from the terminal.
    ///
    /// # Errors
    /// As [`Lab::session`].
    pub fn quiet_session(&self, from: IpAddr) -> Result<SshSession> {
        self.session_saying(self.vip_for(from), Some(from), Stdio::null())
    }

    fn session_saying(&self, to: IpAddr, from: Option<IpAddr>, complaints: Stdio) -> Result<SshSession> {
        let mut ssh = self.ssh_command(to, from)?;
        ssh.arg("hostname; echo $SSH_CONNECTION; exec cat").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = ssh.stderr(complaints).spawn().context("cannot run ssh")?;
        let stdout = child.stdout.take().context("ssh has no standard output")?;
        let (sender, screen) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody reads any more once the session is dropped.
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let keys = child.stdin.take();
        let unknown = (to, 0);
        let mut session = SshSession { child, keys, screen, host: String::new(), client: unknown, typed: 0 };
        let greeting_until = Instant::now() + Duration::from_secs(10);
        session.host = session.line(greeting_until).with_context(|| format!("no login at {to}"))?;
        let connection = session.line(greeting_until)?;
        session.client =
            parse_connection(&connection).with_context(|| format!("$SSH_CONNECTION is {connection:?}"))?;
        Ok(session)
    }
}

impl SshSession {
    /// Types a line and waits until the far end has sent it back. Returns how long that took.
    ///
    /// # Errors
    /// When the session has ended, or the line is not back within `deadline`. It may still come after that: then it
    /// is skipped by the next call.
    pub fn echo(&mut self, deadline: Duration) -> Result<Duration> {
        let start = Instant::now();
        self.typed += 1;
        let wanted = format!("line {}", self.typed);
        let keys = self.keys.as_mut().context("the session is closed")?;
        writeln!(keys, "{wanted}").with_context(|| format!("the session on {} has ended", self.host))?;
        while self.line(start + deadline)? != wanted {}
        Ok(start.elapsed())
    }

    /// True while `ssh` runs: the client has noticed no end.
    pub fn is_open(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends the session as a person does, and waits for it.
    ///
    /// # Errors
    /// When it did not end well: it was reset, for example.
    pub fn close(mut self) -> Result<()> {
        drop(self.keys.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the session on {} ended with {status}", self.host);
        Ok(())
    }

    fn line(&self, deadline: Instant) -> Result<String> {
        match self.screen.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!("the session on {:?} stays silent", self.host),
            Err(RecvTimeoutError::Disconnected) => bail!("the session on {:?} has ended", self.host),
        }
    }
}

impl Drop for SshSession {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The client's side of `$SSH_CONNECTION`: "client port server port".
fn parse_connection(text: &str) -> Option<(IpAddr, u16)> {
    let mut words = text.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_side_comes_first() {
        let client = parse_connection("198.51.100.101 4711 198.51.100.10 22").unwrap();
        assert_eq!(client, ("198.51.100.101".parse().unwrap(), 4711));
        assert_eq!(parse_connection(""), None);
    }
}

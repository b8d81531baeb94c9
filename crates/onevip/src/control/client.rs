//! Asking the daemon.

use super::protocol::{Request, decode_reply, encode_request};
use super::server::{PATIENCE, write_line};
use crate::base::tagged::OTHER_VERSION;
use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A conversation with the daemon.
pub struct Conversation {
    lines: BufReader<UnixStream>,
}

impl Conversation {
    /// Asks the daemon behind `path`; `None` when there is none, or when it ends before it answers.
    ///
    /// # Errors
    /// It is there but does not answer, refuses, or may not be asked by this user.
    pub fn begin<R: Request>(path: &Path, request: &R) -> anyhow::Result<Option<(Self, R::Reply)>> {
        use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ConnectionRefused | NotFound) => return Ok(None),
            Err(error) if error.kind() == PermissionDenied => {
                bail!("you may not talk to the onevip daemon: only root and the group in control_group may")
            }
            Err(error) => return Err(error).with_context(|| format!("cannot connect to {}", path.display())),
        };
        stream.set_read_timeout(Some(PATIENCE * 3))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut this = Self { lines: BufReader::new(stream) };
        let answer = write_line(this.lines.get_ref(), encode_request(request)?).and_then(|()| this.line());
        match answer {
            Ok(None) => Ok(None),
            Ok(Some(text)) => Ok(Some((this, decode_reply::<R>(text.as_bytes())?))),
            Err(error) if has_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What follows the reply; `None` when the daemon has ended.
    ///
    /// # Errors
    /// The line does not come in time or cannot be understood.
    pub fn next_line<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        let Some(line) = self.line()? else { return Ok(None) };
        serde_json::from_str(&line)
            .map(Some)
            .with_context(|| format!("the daemon's answer cannot be understood; {OTHER_VERSION}"))
    }

    /// Waits for lines however long it takes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn be_patient(&self) -> anyhow::Result<()> {
        Ok(self.lines.get_ref().set_read_timeout(None)?)
    }

    fn line(&mut self) -> anyhow::Result<Option<String>> {
        let mut line = String::new();
        let length =
            self.lines.read_line(&mut line).context("the daemon does not answer; is its host overloaded?")?;
        Ok((length > 0).then_some(line))
    }
}

/// Asks for one thing; `None` when no daemon runs.
///
/// # Errors
/// As [`Conversation::begin`].
pub fn call<R: Request>(path: &Path, request: &R) -> anyhow::Result<Option<R::Reply>> {
    Ok(Conversation::begin(path, request)?.map(|(_, reply)| reply))
}

/// Whether the other end closed the connection in the middle of it.
fn has_gone(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| matches!(cause.kind(), BrokenPipe | ConnectionReset))
}

//! The control socket: how commands of this host reach the daemon.
//!
//! One line of JSON each way. Who may connect is decided by the file system: root, and the configured group. A thread
//! of its own answers, one short conversation at a time, with a deadline on every read and write, so that nobody who
//! connects and says nothing can keep others waiting for long, and nobody at all can delay a beat.

use anyhow::{Context, bail};
use nix::unistd::{Gid, Group, chown};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

/// How long one side of a conversation may take to speak.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest request that is read, in bytes.
const REQUEST_MAX: u64 = 4096;

/// What can be asked of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// Everything that `onevip status` shows.
    Status,
}

/// What the daemon answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response<T> {
    /// As asked.
    Done(T),
    /// Why not.
    Refused(String),
}

/// Opens the socket at `path`, replacing one that a dead daemon left behind; the caller holds the run directory's lock.
///
/// # Errors
/// The socket cannot be made, or the group does not exist.
pub fn listen(path: &Path, group: Option<&str>) -> anyhow::Result<UnixListener> {
    let gid = group.map(group_id).transpose()?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mode = if gid.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))?;
    if let Some(gid) = gid {
        let dir = path.parent().unwrap_or(Path::new("/"));
        for path in [path, dir] {
            chown(path, None, Some(gid))
                .with_context(|| format!("cannot give {} to the group {gid}", path.display()))?;
        }
    }
    Ok(listener)
}

fn group_id(name: &str) -> anyhow::Result<Gid> {
    match Group::from_name(name).with_context(|| format!("cannot look up the group {name}"))? {
        Some(group) => Ok(group.gid),
        None => bail!(
            "group {name} (control_group) does not exist on this host; `groupadd --system {name}` adds it"
        ),
    }
}

/// Answers requests for ever with what `answer` says.
pub fn serve<T: Serialize>(listener: &UnixListener, mut answer: impl FnMut(Request) -> anyhow::Result<T>) {
    for stream in listener.incoming() {
        let outcome = stream.context("accepting").and_then(|stream| converse(&stream, &mut answer));
        if let Err(error) = outcome {
            tracing::debug!("control connection: {error:#}");
        }
    }
}

fn converse<T: Serialize>(
    stream: &UnixStream,
    answer: &mut impl FnMut(Request) -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(REQUEST_MAX)).read_line(&mut line)?;
    if line.is_empty() {
        return Ok(()); // somebody only looked whether we are here
    }
    let response = match serde_json::from_str(&line) {
        Err(error) => Response::Refused(format!("not understood: {error}")),
        Ok(request) => match answer(request) {
            Ok(done) => Response::Done(done),
            Err(error) => Response::Refused(format!("{error:#}")),
        },
    };
    let mut text = serde_json::to_vec(&response)?;
    text.push(b'\n');
    (&mut &*stream).write_all(&text).context("answering")
}

/// Asks the daemon behind `path`; `None` when there is none, or when it ends before it answers.
///
/// # Errors
/// It is there but does not answer, refuses, or may not be asked by this user.
pub fn ask<T: DeserializeOwned>(path: &Path, request: &Request) -> anyhow::Result<Option<T>> {
    use std::io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, PermissionDenied};
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
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    let mut line = String::new();
    let conversation = (&stream).write_all(&text).and_then(|()| BufReader::new(&stream).read_line(&mut line));
    match conversation {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(error) if matches!(error.kind(), BrokenPipe | ConnectionReset) => return Ok(None),
        Err(error) => return Err(error).context("the daemon does not answer; is its host overloaded?"),
    }
    match serde_json::from_str(&line)
        .context("the daemon's answer cannot be understood; is it of another version?")?
    {
        Response::Done(done) => Ok(Some(done)),
        Response::Refused(why) => bail!(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_nonsense_refused_and_a_glance_tolerated() {
        let path = std::env::temp_dir().join(format!("onevip-control-{}.sock", std::process::id()));
        assert!(ask::<u32>(&path, &Request::Status).unwrap().is_none(), "nobody is there yet");
        let listener = listen(&path, None).unwrap();
        std::thread::spawn(move || serve(&listener, |_| Ok(7u32)));
        drop(UnixStream::connect(&path).unwrap());
        let mut nonsense = UnixStream::connect(&path).unwrap();
        nonsense.write_all(b"{\"command\": 5}\n").unwrap();
        let mut answer = String::new();
        nonsense.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("refused"), "{answer}");
        assert_eq!(ask::<u32>(&path, &Request::Status).unwrap(), Some(7));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_daemon_that_ends_before_it_answers_is_none() {
        let path = std::env::temp_dir().join(format!("onevip-ending-{}.sock", std::process::id()));
        let listener = listen(&path, None).unwrap();
        // Hangs up with the request unread, as the kernel does for one that was killed: a reset.
        let ending = std::thread::spawn(move || drop(listener.accept().unwrap()));
        assert_eq!(ask::<u32>(&path, &Request::Status).unwrap(), None);
        ending.join().unwrap();
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_unknown_group_is_named_with_its_remedy() {
        let error = group_id("no-such-group-here").unwrap_err().to_string();
        assert!(error.contains("no-such-group-here") && error.contains("groupadd"), "{error}");
    }
}

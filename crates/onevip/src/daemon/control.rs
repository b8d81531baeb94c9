//! The control socket: how commands of this host reach the daemon.
//!
//! One line of JSON each way. Who may connect is decided by the file system: root, and the configured group. A thread
//! of its own answers, one short conversation at a time, with a deadline on every read and write, so that nobody who
//! connects and says nothing can keep others waiting for long, and nobody at all can delay a beat.

use super::news::Line;
use super::steward::Outcome;
use crate::bans::wire::{self, Listed};
use crate::desk::question::{Order, Question, Reply};
use crate::desk::sessions::Session;
use crate::limits::tally;
use crate::status::Status;
use anyhow::{Context, bail};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Gid, Group, chown};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// How long one side of a conversation may take to speak.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a connection could not be accepted, none is for so long.
const REST: Duration = Duration::from_millis(100);
/// The longest request that is read, in bytes.
const REQUEST_MAX: u64 = 4096;

/// What can be asked of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// Everything that `onevip status` shows.
    Status,
    /// Claim nothing new, hand over, hold what is held.
    Drain {
        /// Even if nobody else would serve the clients.
        #[serde(default)]
        force: bool,
        /// At this VIP only.
        #[serde(default)]
        vip: Option<String>,
    },
    /// The end of a drain.
    Undrain {
        /// At this VIP only.
        #[serde(default)]
        vip: Option<String>,
    },
    /// Move now what is planned to move.
    Rebalance,
    /// This silent node is gone: reset its orphans. Only root may.
    Forget {
        /// Which node.
        node: String,
    },
    /// Read the configuration again.
    Reload,
    /// Tell what happens as it happens.
    Watch,
    /// Every session that this node holds.
    Who,
    /// Keep somebody out.
    Ban(wire::Order),
    /// Let somebody in again.
    Unban {
        /// Whom.
        prefix: String,
    },
    /// Who is kept out.
    Bans,
    /// Who opens connections, and is at a limit.
    Limits,
    /// Ask all nodes, this one included, or a single one.
    Ask {
        /// What.
        question: Question,
        /// Whom; `None`: all.
        #[serde(default)]
        node: Option<String>,
    },
    /// Have another node do something. Only root may.
    Order {
        /// Which node.
        node: String,
        /// What.
        order: Order,
    },
}

/// What the daemon answers. After `Watching`, [`Line`]s follow for as long as both sides like.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// The state of this node.
    Status(Box<Status>),
    /// The sessions that were asked for.
    Sessions(Vec<Session>),
    /// What the nodes said.
    Replies(Vec<Reply>),
    /// The bans in force.
    Bans(Vec<Listed>),
    /// The sources that were counted.
    Limits(Vec<tally::Line>),
    /// Done; in words.
    Done(String),
    /// Lines follow.
    Watching,
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

/// The group of that name.
///
/// # Errors
/// There is none on this host, or it cannot be looked up.
pub(super) fn group_id(name: &str) -> anyhow::Result<Gid> {
    match Group::from_name(name).with_context(|| format!("cannot look up the group {name}"))? {
        Some(group) => Ok(group.gid),
        None => bail!(
            "group {name} (control_group) does not exist on this host; `groupadd --system {name}` adds it"
        ),
    }
}

/// Answers requests for ever. `handle` is told whether root asks.
pub fn serve(listener: &UnixListener, handle: impl Fn(&Request, bool) -> anyhow::Result<Outcome>) {
    for stream in listener.incoming() {
        let outcome = match stream {
            Ok(stream) => converse(stream, &handle),
            Err(error) => {
                // Too many descriptors are open; whoever waits is still there when there are fewer.
                std::thread::sleep(REST);
                Err(error).context("accepting")
            }
        };
        if let Err(error) = outcome {
            tracing::debug!("control connection: {error:#}");
        }
    }
}

fn converse(
    stream: UnixStream,
    handle: impl Fn(&Request, bool) -> anyhow::Result<Outcome>,
) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(REQUEST_MAX)).read_line(&mut line)?;
    if line.is_empty() {
        return Ok(()); // somebody only looked whether we are here
    }
    let outcome = match serde_json::from_str(&line) {
        Err(error) => return say(&stream, &Response::Refused(format!("not understood: {error}"))),
        Ok(request) => handle(&request, is_of_root(&stream)),
    };
    match outcome {
        Ok(Outcome::Status(status)) => say(&stream, &Response::Status(status)),
        Ok(Outcome::Bans(bans)) => say(&stream, &Response::Bans(bans)),
        Ok(Outcome::Limits(lines)) => say(&stream, &Response::Limits(lines)),
        Ok(Outcome::Sessions(sessions)) => say(&stream, &Response::Sessions(sessions)),
        // Others may take their time: nobody else shall wait for them.
        Ok(Outcome::Replies(replies)) => super::spawn("replies", move || {
            if let Err(error) = say(&stream, &Response::Replies(replies.wait())) {
                tracing::debug!("control connection: {error:#}");
            }
        })
        .map(drop),
        Ok(Outcome::Later(work)) => super::spawn("order", move || {
            let response = match work() {
                Ok(words) => Response::Done(words),
                Err(error) => Response::Refused(format!("{error:#}")),
            };
            if let Err(error) = say(&stream, &response) {
                tracing::debug!("control connection: {error:#}");
            }
        })
        .map(drop),
        Ok(Outcome::Done(words)) => say(&stream, &Response::Done(words)),
        Ok(Outcome::Lines(lines)) => {
            say(&stream, &Response::Watching)?;
            super::spawn("watch", move || pass_on(&stream, &lines)).map(drop)
        }
        Err(error) => say(&stream, &Response::Refused(format!("{error:#}"))),
    }
}

fn is_of_root(stream: &UnixStream) -> bool {
    getsockopt(stream, sockopt::PeerCredentials).is_ok_and(|peer| peer.uid() == 0)
}

/// Passes lines on until the watcher is gone.
fn pass_on(stream: &UnixStream, lines: &Receiver<Line>) {
    for line in lines {
        if say(stream, &line).is_err() {
            return;
        }
    }
}

fn say(mut stream: &UnixStream, what: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec(what)?;
    text.push(b'\n');
    stream.write_all(&text).context("answering")
}

/// A conversation with the daemon.
pub struct Conversation {
    lines: BufReader<UnixStream>,
}

impl Conversation {
    /// Asks the daemon behind `path`; `None` when there is none, or when it ends before it answers.
    ///
    /// # Errors
    /// It is there but does not answer, refuses, or may not be asked by this user.
    pub fn begin(path: &Path, request: Request) -> anyhow::Result<Option<(Self, Response)>> {
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
        let answer = say(this.lines.get_ref(), &request).and_then(|()| this.next_line());
        match answer {
            Ok(None) => Ok(None),
            Ok(Some(Response::Refused(why))) => bail!(why),
            Ok(Some(response)) => Ok(Some((this, response))),
            Err(error) if has_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next line; `None` when the daemon has ended.
    ///
    /// # Errors
    /// The line does not come in time or cannot be understood.
    pub fn next_line<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        let mut line = String::new();
        let length =
            self.lines.read_line(&mut line).context("the daemon does not answer; is its host overloaded?")?;
        if length == 0 {
            return Ok(None);
        }
        serde_json::from_str(&line)
            .map(Some)
            .context("the daemon's answer cannot be understood; is it of another version?")
    }

    /// Waits for lines however long it takes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn be_patient(&self) -> anyhow::Result<()> {
        Ok(self.lines.get_ref().set_read_timeout(None)?)
    }
}

/// Whether the other end closed the connection in the middle of it.
fn has_gone(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| matches!(cause.kind(), BrokenPipe | ConnectionReset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_nonsense_refused_and_a_glance_tolerated() {
        let path = std::env::temp_dir().join(format!("onevip-control-{}.sock", std::process::id()));
        assert!(
            Conversation::begin(&path, Request::Drain { force: false, vip: None }).unwrap().is_none(),
            "nobody is there yet"
        );
        let listener = listen(&path, None).unwrap();
        std::thread::spawn(move || {
            serve(&listener, |request, _| match request {
                Request::Drain { .. } => Ok(Outcome::Done("as you like".to_owned())),
                _ => bail!("not today"),
            });
        });
        drop(UnixStream::connect(&path).unwrap());
        let mut nonsense = UnixStream::connect(&path).unwrap();
        nonsense.write_all(b"{\"command\": 5}\n").unwrap();
        let mut answer = String::new();
        nonsense.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("refused"), "{answer}");
        let (_, response) = Conversation::begin(&path, Request::Drain { force: false, vip: None })
            .unwrap()
            .expect("somebody is there");
        assert!(matches!(response, Response::Done(words) if words == "as you like"));
        let refused = Conversation::begin(&path, Request::Reload).err().expect("refused").to_string();
        assert_eq!(refused, "not today");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_unknown_group_is_named_with_its_remedy() {
        let error = group_id("no-such-group-here").unwrap_err().to_string();
        assert!(error.contains("no-such-group-here") && error.contains("groupadd"), "{error}");
    }
}

//! Answers commands over the control socket.
//!
//! Who may connect is decided by the file system: root, and the configured group. One thread answers, one short
//! conversation at a time, with a deadline on every read and write, so that nobody who connects and says nothing can keep
//! others waiting for long, and nobody at all can delay a beat. What takes longer is answered by a thread of its own.

use super::protocol::{Request, command_of, encode_refusal, encode_reply};
use crate::base::supervisor::background;
use anyhow::{Context, bail};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Gid, Group, chown};
use serde::Serialize;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// How long one side of a conversation may take to speak.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// After a connection could not be accepted, none is for so long.
const REST: Duration = Duration::from_millis(100);
/// The longest request that is read, in bytes.
const REQUEST_MAX: usize = 4096;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Whether it is root.
    pub is_root: bool,
}

/// Work that takes a while.
pub type Work<T> = Box<dyn FnOnce() -> anyhow::Result<T> + Send>;

/// What comes of a request.
enum Outcome {
    /// This reply.
    Now(Vec<u8>),
    /// One that takes a while.
    Later(Box<dyn FnOnce() -> Vec<u8> + Send>),
    /// This reply, and lines for as long as both sides like.
    Lines(Vec<u8>, Box<dyn Iterator<Item = Vec<u8>> + Send>),
}

type Run = Box<dyn Fn(&str, Caller) -> anyhow::Result<Outcome> + Send + Sync>;

/// Carries out one command.
pub struct Handler {
    command: &'static str,
    run: Run,
}

impl Handler {
    /// One whose reply comes at once.
    pub fn new<R: Request>(
        run: impl Fn(R, Caller) -> anyhow::Result<R::Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::of::<R>(move |request, caller| Ok(Outcome::Now(encode_reply::<R>(&run(request, caller)?)?)))
    }

    /// One whose reply takes a while: nobody else waits for it.
    pub fn slow<R: Request<Reply: 'static>>(
        run: impl Fn(R, Caller) -> anyhow::Result<Work<R::Reply>> + Send + Sync + 'static,
    ) -> Self {
        Self::of::<R>(move |request, caller| {
            let work = run(request, caller)?;
            Ok(Outcome::Later(Box::new(move || {
                let reply = work().and_then(|reply| Ok(encode_reply::<R>(&reply)?));
                reply.unwrap_or_else(|error| encode_refusal(&format!("{error:#}")))
            })))
        })
    }

    /// One that is followed by lines.
    pub fn stream<R: Request<Reply = ()>, T: Serialize + Send + 'static>(
        run: impl Fn(R, Caller) -> anyhow::Result<Receiver<T>> + Send + Sync + 'static,
    ) -> Self {
        Self::of::<R>(move |request, caller| {
            let lines = run(request, caller)?.into_iter();
            // What cannot be written is left out.
            let lines = lines.filter_map(|line| serde_json::to_vec(&line).ok());
            Ok(Outcome::Lines(encode_reply::<R>(&())?, Box::new(lines)))
        })
    }

    fn of<R: Request>(run: impl Fn(R, Caller) -> anyhow::Result<Outcome> + Send + Sync + 'static) -> Self {
        let run = move |text: &str, caller| {
            let request =
                serde_json::from_str(text).map_err(|error| anyhow::anyhow!("not understood: {error}"))?;
            run(request, caller)
        };
        Self { command: R::COMMAND, run: Box::new(run) }
    }
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
pub fn group_id(name: &str) -> anyhow::Result<Gid> {
    match Group::from_name(name).with_context(|| format!("cannot look up the group {name}"))? {
        Some(group) => Ok(group.gid),
        None => bail!(
            "group {name} (control_group) does not exist on this host; `groupadd --system {name}` adds it"
        ),
    }
}

/// Answers requests by these handlers for ever: in the background, since a client that is slow must not hold up the end of
/// the daemon.
pub fn serve(listener: &UnixListener, handlers: &[Handler]) {
    for stream in listener.incoming() {
        let outcome = match stream {
            Ok(stream) => converse(stream, handlers),
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

fn converse(stream: UnixStream, handlers: &[Handler]) -> anyhow::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let line = read_line(&stream, PATIENCE)?;
    if line.is_empty() {
        return Ok(()); // somebody only looked whether we are here
    }
    let is_root = getsockopt(&stream, sockopt::PeerCredentials).is_ok_and(|peer| peer.uid() == 0);
    match handle(&line, handlers, Caller { is_root }) {
        Ok(Outcome::Now(reply)) => write_line(&stream, reply),
        Ok(Outcome::Later(work)) => background("reply", move || {
            if let Err(error) = write_line(&stream, work()) {
                tracing::debug!("control connection: {error:#}");
            }
        }),
        Ok(Outcome::Lines(reply, mut lines)) => {
            write_line(&stream, reply)?;
            // Until the reader is gone.
            background("watch", move || drop(lines.try_for_each(|line| write_line(&stream, line))))
        }
        Err(error) => write_line(&stream, encode_refusal(&format!("{error:#}"))),
    }
}

fn handle(line: &str, handlers: &[Handler], caller: Caller) -> anyhow::Result<Outcome> {
    let command = command_of(line).map_err(|error| anyhow::anyhow!("not understood: {error}"))?;
    match handlers.iter().find(|handler| handler.command == command) {
        Some(handler) => (handler.run)(line, caller),
        None => bail!("not understood: there is no command {command:?}"),
    }
}

/// The first line that a client sends, of at most [`REQUEST_MAX`] bytes; all of it has to come within `patience`.
fn read_line(mut stream: &UnixStream, patience: Duration) -> anyhow::Result<String> {
    let (until, mut line, mut some) = (Instant::now() + patience, Vec::new(), [0; 1024]);
    while line.len() < REQUEST_MAX && !line.contains(&b'\n') {
        let left = until.saturating_duration_since(Instant::now());
        anyhow::ensure!(!left.is_zero(), "a client took longer than {patience:?} to say what it wants");
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut some)? {
            0 => break,
            length => line.extend_from_slice(&some[..length]),
        }
    }
    let end = line.iter().position(|byte| *byte == b'\n').map_or(line.len(), |at| at + 1);
    line.truncate(end.min(REQUEST_MAX));
    Ok(String::from_utf8(line)?)
}

/// Writes one line.
///
/// # Errors
/// The kernel's; a reader that is too slow.
pub fn write_line(mut stream: &UnixStream, mut line: Vec<u8>) -> anyhow::Result<()> {
    line.push(b'\n');
    stream.write_all(&line).context("answering")
}

#[cfg(test)]
mod tests {
    use super::super::client::Conversation;
    use super::super::protocol::{DONE, Request};
    use super::*;
    use serde::Deserialize;
    use std::sync::mpsc::channel;

    #[derive(Serialize, Deserialize)]
    struct Drain {
        force: bool,
    }

    impl Request for Drain {
        const COMMAND: &'static str = "drain";
        type Reply = String;
        const REPLY: &'static str = DONE;
    }

    #[derive(Serialize, Deserialize)]
    struct Reload {}

    impl Request for Reload {
        const COMMAND: &'static str = "reload";
        type Reply = String;
        const REPLY: &'static str = DONE;
    }

    #[derive(Serialize, Deserialize)]
    struct Count {
        to: u8,
    }

    impl Request for Count {
        const COMMAND: &'static str = "count";
        type Reply = ();
        const REPLY: &'static str = "counting";
    }

    fn handlers() -> Vec<Handler> {
        vec![
            Handler::new(|Drain { force }, _| {
                Ok(if force { "as you must" } else { "as you like" }.to_owned())
            }),
            Handler::slow::<Reload>(|_, _| Ok(Box::new(|| bail!("not today")))),
            Handler::stream(|Count { to }, _| {
                let (sender, receiver) = channel();
                (0..to).for_each(|number| _ = sender.send(number));
                Ok(receiver)
            }),
        ]
    }

    #[test]
    fn a_request_is_answered_nonsense_refused_and_a_glance_tolerated() {
        let path = std::env::temp_dir().join(format!("onevip-control-{}.sock", std::process::id()));
        assert!(
            Conversation::begin(&path, &Drain { force: false }).unwrap().is_none(),
            "nobody is there yet"
        );
        let listener = listen(&path, None).unwrap();
        background("control", move || serve(&listener, &handlers())).unwrap();
        drop(UnixStream::connect(&path).unwrap());
        for nonsense in ["{\"command\": 5}\n", "{\"command\": \"dance\"}\n", "{\"command\": \"drain\"}\n"] {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(nonsense.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.contains("refused") && answer.contains("not understood"), "{answer}");
        }
        let (_, reply) =
            Conversation::begin(&path, &Drain { force: false }).unwrap().expect("somebody is there");
        assert_eq!(reply, "as you like");
        let refused = Conversation::begin(&path, &Reload {}).err().expect("refused").to_string();
        assert_eq!(refused, "not today");
        let (mut counting, ()) = Conversation::begin(&path, &Count { to: 2 }).unwrap().expect("it is there");
        let numbers: Vec<Option<u8>> = (0..3).map(|_| counting.next_line().unwrap()).collect();
        assert_eq!(numbers, [Some(0), Some(1), None]);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_client_that_drips_is_given_up_in_time() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let drips = std::thread::spawn(move || {
            // Until nobody listens any more.
            while theirs.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let begun = Instant::now();
        assert!(read_line(&ours, Duration::from_millis(300)).is_err());
        assert!(begun.elapsed() < Duration::from_secs(20));
        drop(ours);
        drips.join().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"one\ntwo").unwrap();
        assert_eq!(
            read_line(&ours, Duration::from_secs(60)).unwrap(),
            "one\n",
            "what follows is not waited for"
        );
        theirs.write_all(&[b'x'; 2 * REQUEST_MAX]).unwrap();
        assert_eq!(read_line(&ours, Duration::from_secs(60)).unwrap().len(), REQUEST_MAX);
    }

    #[test]
    fn an_unknown_group_is_named_with_its_remedy() {
        let error = group_id("no-such-group-here").unwrap_err().to_string();
        assert!(error.contains("no-such-group-here") && error.contains("groupadd"), "{error}");
    }
}

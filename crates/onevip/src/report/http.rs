//! A server for a few pages that are only read: HTTP/1.1, one request a connection.
//!
//! Whoever may connect (any user of this host, over TCP) may do so and say nothing, speak slowly, send rubbish or never
//! read the answer. So every connection has a bound on its size and an end to its time, counted from its beginning
//! and not from its last byte; there are few at a time, and the one that has waited longest makes room for the next.
//! One thread serves them all and waits for none of them. Of a request only its head is read, of that only its first
//! line (RFC 9112) matters.

use crate::base::supervisor::StopSignal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// The longest head of a request, in bytes, as in many servers. Prometheus sends some 300.
const HEAD_MAX: usize = 8192;
/// How long a client may take to send it. It is on this host.
const HEAD_WITHIN: Duration = Duration::from_secs(2);
/// How long it may take until it has its answer. Prometheus gives a scrape 10 s.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to close its side once the answer is sent. Whoever has sent more than was read would lose the
/// answer if we closed first.
const LEAVES_WITHIN: Duration = Duration::from_secs(1);
/// So many connections at a time.
const CONNECTIONS_MAX: usize = 64;
/// So much at most is read from one of them before others have their turn, in bytes.
const TURN_MAX: usize = 16 * 1024;
/// After a connection could not be accepted (too many descriptors are open), none is for so long.
const REST: Duration = Duration::from_millis(100);

/// Where connections come in.
pub struct Door(Kind);

enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What is sent.
pub struct HttpPage {
    /// Its code and its name.
    pub status: &'static str,
    /// Its media type.
    pub kind: &'static str,
    /// The page.
    pub body: String,
}

impl HttpPage {
    /// Words for somebody who looks what is here.
    pub fn words(status: &'static str, words: impl Into<String>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: words.into() }
    }

    fn bytes(&self, head_only: bool) -> Vec<u8> {
        let Self { status, kind, body } = self;
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
        );
        if head_only { head.into_bytes() } else { (head + body).into_bytes() }
    }
}

impl Door {
    /// A port that [`serve`] can watch without waiting at it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn tcp(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self(Kind::Tcp(listener)))
    }

    /// The same for a socket in the file system.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unix(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self(Kind::Unix(listener)))
    }
}

/// Answers until told to stop; `page` is told the path that is asked for.
pub fn serve(door: &Door, mut page: impl FnMut(&str) -> HttpPage, stop: &StopSignal) {
    let mut clients: Vec<Client> = Vec::new();
    let mut rests_until = Instant::now();
    while !stop.is_set() {
        wait(door, &clients, rests_until, stop);
        // Those that are here first: what they have sent in time they have sent in time, also if we are late.
        clients.retain_mut(|client| client.turn(&mut page) && Instant::now() < client.deadline());
        if Instant::now() < rests_until {
            continue;
        }
        // Not for ever, so that those who are here have their turn as well.
        for _ in 0..CONNECTIONS_MAX {
            match accept(door) {
                Ok(Some(stream)) => welcome(&mut clients, Client::new(stream), &mut page),
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!("metrics: cannot accept: {error}");
                    rests_until = Instant::now() + REST;
                    break;
                }
            }
        }
    }
}

/// A request mostly comes along with its connection, and whoever sent one needs no room.
fn welcome(clients: &mut Vec<Client>, mut client: Client, page: &mut impl FnMut(&str) -> HttpPage) {
    if !client.turn(page) {
        return;
    }
    if clients.len() >= CONNECTIONS_MAX {
        let silent = clients.iter().position(|client| !matches!(client.phase, Phase::Answering { .. }));
        clients.remove(silent.unwrap_or(0));
    }
    clients.push(client);
}

/// Waits until somebody comes, has something to say, can take more, or has had his time.
fn wait(door: &Door, clients: &[Client], rests_until: Instant, stop: &StopSignal) {
    let now = Instant::now();
    let open = now >= rests_until;
    let ends = clients.iter().map(Client::deadline).chain((!open).then_some(rests_until));
    let until = ends.min().map(|end| end.saturating_duration_since(now));
    let at_door = match &door.0 {
        Kind::Tcp(listener) => listener.as_fd(),
        Kind::Unix(listener) => listener.as_fd(),
    };
    let mut fds: Vec<PollFd<'_>> = clients
        .iter()
        .map(|client| PollFd::new(client.stream.as_fd(), client.waits_for()))
        .chain(open.then(|| PollFd::new(at_door, PollFlags::POLLIN)))
        .chain([PollFd::new(stop.as_fd(), PollFlags::POLLIN)])
        .collect();
    // Rounded up, so that the end has come when the wait is over.
    let timeout = until.map_or(PollTimeout::NONE, |span| PollTimeout::from(span.as_millis() as u16 + 1));
    if poll(&mut fds, timeout).is_err_and(|error| error != nix::Error::EINTR) {
        // The kernel has no memory for it; it is the same in a moment, and not worth a processor.
        std::thread::sleep(REST);
    }
}

/// A connection of either kind.
trait Stream: Read + Write + AsFd + Send {
    fn end_sending(&self) -> io::Result<()>;
}

impl Stream for std::net::TcpStream {
    fn end_sending(&self) -> io::Result<()> {
        self.shutdown(std::net::Shutdown::Write)
    }
}

impl Stream for std::os::unix::net::UnixStream {
    fn end_sending(&self) -> io::Result<()> {
        self.shutdown(std::net::Shutdown::Write)
    }
}

/// The next one; `None` when nobody waits any more.
fn accept(door: &Door) -> io::Result<Option<Box<dyn Stream>>> {
    let accepted: io::Result<Box<dyn Stream>> = match &door.0 {
        Kind::Tcp(listener) => listener.accept().and_then(|(stream, _)| {
            stream.set_nonblocking(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        }),
        Kind::Unix(listener) => listener.accept().and_then(|(stream, _)| {
            stream.set_nonblocking(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        }),
    };
    match accepted {
        Ok(stream) => Ok(Some(stream)),
        // The last one is gone again already: there may be others, and the next `poll` says so.
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => {
            Ok(None)
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

/// A connection and how far it has come.
struct Client {
    stream: Box<dyn Stream>,
    since: Instant,
    phase: Phase,
}

enum Phase {
    /// What there is of the head.
    Asking(Vec<u8>),
    /// The answer, and how much of it is sent.
    Answering { bytes: Vec<u8>, sent: usize },
    /// The answer is sent, since then.
    Leaving(Instant),
}

/// What somebody wants to hear of [`Client::turn`]'s steps: another one, or to be left alone.
enum Step {
    Next(Phase),
    Wait,
    Gone,
}

impl Client {
    fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, since: Instant::now(), phase: Phase::Asking(Vec::new()) }
    }

    fn waits_for(&self) -> PollFlags {
        if matches!(self.phase, Phase::Answering { .. }) { PollFlags::POLLOUT } else { PollFlags::POLLIN }
    }

    fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Asking(_) => self.since + HEAD_WITHIN,
            Phase::Answering { .. } => self.since + ANSWERED_WITHIN,
            Phase::Leaving(since) => since + LEAVES_WITHIN,
        }
    }

    /// Goes as far as it can without waiting; false when it is done with.
    fn turn(&mut self, page: &mut impl FnMut(&str) -> HttpPage) -> bool {
        loop {
            let step = match &mut self.phase {
                Phase::Asking(head) => hear(&mut self.stream, head, page),
                Phase::Answering { bytes, sent } => tell(&mut self.stream, bytes, sent),
                Phase::Leaving(_) => see_off(&mut self.stream),
            };
            match step {
                Step::Next(phase) => self.phase = phase,
                Step::Wait => return true,
                Step::Gone => return false,
            }
        }
    }
}

fn hear(stream: &mut Box<dyn Stream>, head: &mut Vec<u8>, page: &mut impl FnMut(&str) -> HttpPage) -> Step {
    let mut some = [0; HEAD_MAX];
    let room = HEAD_MAX - head.len();
    match stream.read(&mut some[..room]) {
        Ok(0) => Step::Gone,
        Ok(length) => {
            head.extend_from_slice(&some[..length]);
            match understand(head) {
                Heard::NotAll => Step::Wait,
                Heard::Wrong(status) => begin(&HttpPage::words(status, format!("{status}\n")), false),
                Heard::Asked { path, head_only } => begin(&page(path), head_only),
            }
        }
        Err(error) => after(&error),
    }
}

fn begin(answer: &HttpPage, head_only: bool) -> Step {
    Step::Next(Phase::Answering { bytes: answer.bytes(head_only), sent: 0 })
}

fn tell(stream: &mut Box<dyn Stream>, bytes: &[u8], sent: &mut usize) -> Step {
    match stream.write(&bytes[*sent..]) {
        Ok(0) => Step::Gone,
        Ok(length) => {
            *sent += length;
            if *sent < bytes.len() {
                return Step::Wait;
            }
            match stream.end_sending() {
                Ok(()) => Step::Next(Phase::Leaving(Instant::now())),
                Err(_) => Step::Gone,
            }
        }
        Err(error) => after(&error),
    }
}

/// Takes what still comes, and forgets it.
fn see_off(stream: &mut Box<dyn Stream>) -> Step {
    match stream.read(&mut [0; TURN_MAX]) {
        Ok(0) => Step::Gone,
        Ok(_) => Step::Wait,
        Err(error) => after(&error),
    }
}

fn after(error: &io::Error) -> Step {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Step::Wait,
        _ => Step::Gone,
    }
}

/// What the beginning of a request says.
#[derive(Debug, PartialEq, Eq)]
enum Heard<'a> {
    /// More has to come.
    NotAll,
    /// This is no request, or not one for us.
    Wrong(&'static str),
    /// Somebody asks for a page, or (`head_only`) what it would be.
    Asked { path: &'a str, head_only: bool },
}

fn understand(head: &[u8]) -> Heard<'_> {
    let end = head.iter().position(|byte| *byte == b'\n');
    let line = &head[..end.unwrap_or(head.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(line) =
        std::str::from_utf8(line).ok().filter(|line| line.bytes().all(|b| (0x20..0x7f).contains(&b)))
    else {
        return Heard::Wrong("400 Bad Request");
    };
    let is_long = head.len() >= HEAD_MAX;
    if end.is_none() {
        return if is_long { Heard::Wrong("414 URI Too Long") } else { Heard::NotAll };
    }
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = words[..] else { return Heard::Wrong("400 Bad Request") };
    if !target.starts_with('/') || !version.starts_with("HTTP/1.") {
        return Heard::Wrong("400 Bad Request");
    }
    if !matches!(method, "GET" | "HEAD") {
        return Heard::Wrong("405 Method Not Allowed");
    }
    let is_whole =
        [&b"\n\r\n"[..], b"\n\n"].iter().any(|mark| head.windows(mark.len()).any(|part| part == *mark));
    match (is_whole, is_long) {
        (true, _) => Heard::Asked {
            path: target.split_once('?').map_or(target, |(path, _)| path),
            head_only: method == "HEAD",
        },
        (false, true) => Heard::Wrong("431 Request Header Fields Too Large"),
        (false, false) => Heard::NotAll,
    }
}

#[cfg(test)]
mod tests;

//! The two questions to `sshd`, without ever waiting: a probe and a call.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect as connect_socket, setsockopt, socket,
    sockopt,
};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// More than any banner with the lines that may come before it (RFC 4253, 4.2).
const BANNER_MAX: usize = 4096;
/// What we call ourselves, so that nobody wonders.
const OURSELVES: &[u8] = b"SSH-2.0-onevip_health\r\n";

/// What came of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeOutcome {
    /// `sshd` identified itself.
    Banner(String),
    /// Nobody listens.
    Refused,
    /// The connection was closed without a word.
    Closed,
    /// `sshd` is there, and has no room (`MaxStartups`).
    Full,
    /// `sshd` is there, and does not want to speak to our address (`PerSourcePenalties`); or OpenSSH 10 has no room.
    Penalised,
    /// Somebody else speaks there.
    Stranger(String),
    /// The question could not be asked.
    Unasked(String),
}

/// Opens a connection and resets it at once: the kernel queues it for `sshd` all the same. Whether it was taken from there
/// is to be seen at the queue.
///
/// # Errors
/// The answer that is known already: most often [`ProbeOutcome::Refused`].
pub fn connect(to: SocketAddr) -> Result<(), ProbeOutcome> {
    let stream = dial(None, to, |_| Ok(()))?;
    // Between two ends on one host the handshake is over when `connect` returns.
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
    let _ = poll(&mut fds, PollTimeout::ZERO);
    let outcome = refused(&stream);
    reset(&stream);
    outcome.map_or(Ok(()), Err)
}

/// A connection that waits for the banner.
pub struct BannerProbe {
    stream: TcpStream,
    said: Vec<u8>,
}

impl BannerProbe {
    /// Begins to ask.
    ///
    /// # Errors
    /// The answer that is known already.
    pub fn begin(to: SocketAddr) -> Result<Self, ProbeOutcome> {
        Ok(Self { stream: dial(None, to, |_| Ok(()))?, said: Vec::new() })
    }

    /// Begins to ask from this address.
    ///
    /// # Errors
    /// The answer that is known already.
    pub fn begin_from(from: IpAddr, to: SocketAddr) -> Result<Self, ProbeOutcome> {
        Ok(Self { stream: dial(Some(from), to, |_| Ok(()))?, said: Vec::new() })
    }

    /// Over a connection that was begun elsewhere; it must not block.
    pub fn over(stream: TcpStream) -> Self {
        Self { stream, said: Vec::new() }
    }

    /// Takes in what has arrived; the answer once there is one.
    pub fn proceed(&mut self) -> Option<ProbeOutcome> {
        let mut bytes = [0; 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Some(self.outcome().unwrap_or(ProbeOutcome::Closed)),
                Ok(length) => {
                    self.said.extend_from_slice(&bytes[..length]);
                    let complete = self.said.len() > BANNER_MAX || self.said.contains(&b'\n');
                    if complete && let Some(answer) = self.outcome() {
                        return Some(answer);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Some(ProbeOutcome::Refused);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Some(ProbeOutcome::Closed);
                }
                Err(error) => return Some(ProbeOutcome::Unasked(error.to_string())),
            }
        }
    }

    /// What the lines that came so far mean; none while the banner may still come.
    fn outcome(&mut self) -> Option<ProbeOutcome> {
        let text = String::from_utf8_lossy(&self.said).into_owned();
        let mut lines = text.lines().filter(|line| !line.is_empty());
        if let Some(banner) = lines.clone().find(|line| line.starts_with("SSH-")) {
            // With this and an orderly end `sshd` logs one line; without, two.
            let _ = self.stream.write(OURSELVES);
            return Some(ProbeOutcome::Banner(banner.to_owned()));
        }
        let first = lines.next()?;
        if first.starts_with("Exceeded MaxStartups") {
            return Some(ProbeOutcome::Full);
        }
        if first.starts_with("Not allowed at this time") {
            return Some(ProbeOutcome::Penalised);
        }
        (self.said.len() > BANNER_MAX).then(|| ProbeOutcome::Stranger(first.chars().take(60).collect()))
    }

    /// Ends a call that was not answered. Its place in the accept queue stays.
    pub fn give_up(self) {
        reset(&self.stream);
    }
}

impl AsFd for BannerProbe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// A socket that connects, or has connected; never waits. From this address, if one is given; `prepare` sees it before it
/// connects.
///
/// # Errors
/// The answer that is known already.
pub fn dial(
    from: Option<IpAddr>,
    to: SocketAddr,
    prepare: impl FnOnce(&TcpStream) -> nix::Result<()>,
) -> Result<TcpStream, ProbeOutcome> {
    let unasked = |error: nix::errno::Errno| ProbeOutcome::Unasked(error.to_string());
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None).map_err(unasked)?;
    if let Some(from) = from {
        bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0))).map_err(unasked)?;
    }
    let stream = TcpStream::from(fd);
    prepare(&stream).map_err(unasked)?;
    match connect_socket(stream.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(nix::errno::Errno::EINPROGRESS) => Ok(stream),
        Err(nix::errno::Errno::ECONNREFUSED) => Err(ProbeOutcome::Refused),
        Err(error) => Err(unasked(error)),
    }
}

fn refused(stream: &TcpStream) -> Option<ProbeOutcome> {
    match stream.take_error() {
        Ok(None) => None,
        Ok(Some(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Some(ProbeOutcome::Refused),
        Ok(Some(error)) | Err(error) => Some(ProbeOutcome::Unasked(error.to_string())),
    }
}

/// Makes the end of the socket a reset.
fn reset(stream: &TcpStream) {
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    // Without it the end is an orderly one, which costs a line in a log.
    let _ = setsockopt(stream, sockopt::Linger, &at_once);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sshd::socket_snapshot::Snapshotter;
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    fn server() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn answer(call: &mut BannerProbe) -> ProbeOutcome {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(answer) = call.proceed() {
                return answer;
            }
            assert!(Instant::now() < deadline, "no answer");
            let mut fds = [PollFd::new(call.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::from(100u8));
        }
    }

    /// The answer to a call whose server says this and closes.
    fn said(text: &str) -> ProbeOutcome {
        let (listener, address) = server();
        let mut call = BannerProbe::begin(address).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        drop(stream);
        answer(&mut call)
    }

    #[test]
    fn the_banner_is_told_from_everything_else() {
        assert_eq!(said("SSH-2.0-OpenSSH_9.2\r\n"), ProbeOutcome::Banner("SSH-2.0-OpenSSH_9.2".into()));
        assert_eq!(
            said("hello\r\nSSH-2.0-x\r\n"),
            ProbeOutcome::Banner("SSH-2.0-x".into()),
            "RFC 4253 allows lines before"
        );
        assert_eq!(said("Exceeded MaxStartups\r\n"), ProbeOutcome::Full);
        assert_eq!(said("Not allowed at this time\r\n"), ProbeOutcome::Penalised);
        assert_eq!(said(""), ProbeOutcome::Closed);
        assert!(matches!(said(&"x".repeat(5000)), ProbeOutcome::Stranger(_)));
    }

    #[test]
    fn who_does_not_listen_refuses() {
        let (listener, address) = server();
        drop(listener);
        let refused = match BannerProbe::begin(address) {
            Err(answer) => answer,
            Ok(mut call) => answer(&mut call),
        };
        assert_eq!(refused, ProbeOutcome::Refused);
        assert_eq!(connect(address), Err(ProbeOutcome::Refused));
    }

    #[test]
    fn a_connection_stays_in_the_queue_until_it_is_taken() {
        let (listener, address) = server();
        let snapshotter = Snapshotter::new(address.port());
        connect(address).unwrap();
        assert_eq!(snapshotter.glance().unwrap().queue, 1);
        let (mut taken, _) = listener.accept().unwrap();
        assert_eq!(snapshotter.glance().unwrap().queue, 0);
        assert!(
            taken.peer_addr().is_err() || taken.read(&mut [0]).is_err(),
            "whoever takes it finds it reset"
        );
    }
}

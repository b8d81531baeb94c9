//! A session that types: real `ssh` from a client's address, with `cat` at the other end.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use onevip_lab::Lab;

use super::PATIENCE;

pub struct Session {
    ssh: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    /// The host on which it landed.
    pub host: String,
    /// The port it comes from.
    pub port: u16,
    typed: u32,
}

impl Session {
    /// Logs in to the VIP.
    pub fn open(lab: &Lab, from: IpAddr) -> Self {
        Self::begin(lab.ssh_command(lab.vip_for(from), Some(from)).unwrap(), from)
    }

    /// Logs in to the VIP from an address that the test has given to `client`.
    pub fn open_beyond(lab: &Lab, from: IpAddr) -> Self {
        let mut command = lab.openssh("ssh", None).unwrap();
        let user = onevip_lab::ssh::Login::of(lab.name()).user;
        command.arg("-o").arg(format!("BindAddress={from}")).arg(format!("{user}@{}", lab.vip_for(from)));
        Self::begin(command, from)
    }

    fn begin(mut command: Command, from: IpAddr) -> Self {
        command
            .arg("echo $(hostname) $SSH_CONNECTION; exec cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut ssh = command.spawn().unwrap();
        let (keys, screen) = (ssh.stdin.take().unwrap(), ssh.stdout.take().unwrap());
        let mut session = Self { ssh, keys, screen, host: String::new(), port: 0, typed: 0 };
        // Where it landed, and then whence and whither it goes as the server sees it.
        let line = session.line(from);
        let mut fields = line.split(' ');
        session.host = fields.next().unwrap().to_owned();
        session.port = fields.nth(1).unwrap().parse().unwrap();
        session
    }

    fn line(&mut self, from: IpAddr) -> String {
        let (mut line, mut byte) = (String::new(), [0]);
        loop {
            assert!(self.read(&mut byte, PATIENCE), "{from} could not log in");
            match byte[0] {
                b'\n' => return line,
                letter => line.push(char::from(letter)),
            }
        }
    }

    /// Types, all the time, while `story` goes on; nothing that is typed may fail to come back, unchanged. The story
    /// can look how many echoes have come back so far.
    ///
    /// Returns what the story returns, and the longest time that an echo took.
    pub fn while_typing<T>(&mut self, bytes: usize, story: impl FnOnce(&AtomicU32) -> T) -> (T, Duration) {
        let (done, echoes) = (AtomicBool::new(false), AtomicU32::new(0));
        std::thread::scope(|scope| {
            let typing = scope.spawn(|| {
                let mut longest = Duration::ZERO;
                while !done.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    assert!(self.echoes_within(bytes, PATIENCE), "the session of port {} is lost", self.port);
                    longest = longest.max(start.elapsed());
                    echoes.fetch_add(1, Ordering::Relaxed);
                }
                longest
            });
            // Also a story that fails must let the thread end.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| story(&echoes)));
            done.store(true, Ordering::Relaxed);
            let longest = typing.join();
            match result {
                Ok(told) => (told, longest.unwrap()),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Types something and looks whether exactly that comes back in time.
    pub fn echoes_within(&mut self, bytes: usize, deadline: Duration) -> bool {
        self.typed += 1;
        let line: Vec<u8> = self.typed.to_be_bytes().into_iter().cycle().take(bytes).collect();
        let mut echo = vec![0; bytes];
        self.keys.write_all(&line).is_ok() && self.read(&mut echo, deadline) && echo == line
    }

    /// A line comes back, with all patience.
    pub fn echoes(&mut self) -> bool {
        self.echoes_within(80, PATIENCE)
    }

    /// Types without waiting for an answer.
    pub fn types(&mut self) {
        self.keys.write_all(b"x").unwrap();
    }

    /// True while `ssh` has not given up.
    pub fn is_open(&mut self) -> bool {
        self.ssh.try_wait().unwrap().is_none()
    }

    fn read(&mut self, mut into: &mut [u8], within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while !into.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.screen.as_fd(), PollFlags::POLLIN)];
            if left.is_zero() || poll(&mut fds, timeout).unwrap() == 0 {
                return false;
            }
            match self.screen.read(into) {
                Ok(0) | Err(_) => return false,
                Ok(length) => into = &mut into[length..],
            }
        }
        true
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}

//! Somebody at a terminal: `ssh -tt`, with everything that appears on the screen.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};

use onevip_lab::{Lab, wait_until};

use super::PATIENCE;

/// An open session with a terminal; dropping it ends it.
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<String>>,
    /// The node at the other end.
    pub host: String,
}

impl Terminal {
    /// Logs in to the VIP.
    pub fn open(lab: &Lab, from: IpAddr) -> Self {
        let mut ssh = lab.ssh_command(lab.vip_for(from), Some(from)).unwrap();
        // Options may follow the destination.
        ssh.args(["-tt", "echo host=$(hostname).; exec cat"]);
        let mut child =
            ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                written.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        let keys = child.stdin.take().unwrap();
        let mut terminal = Self { child, keys, screen, host: String::new() };
        terminal.until_it_shows(".\r\n");
        let text = terminal.text();
        let (_, rest) = text.split_once("host=").unwrap();
        terminal.host = rest.split_once('.').unwrap().0.to_owned();
        terminal
    }

    /// Everything that has appeared so far.
    pub fn text(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    pub fn until_it_shows(&self, text: &str) {
        wait_until(PATIENCE, &format!("{text:?} on the screen"), || self.text().contains(text))
            .unwrap_or_else(|error| panic!("{error}; it shows {:?}", self.text()));
    }

    /// Types a line and waits for its echo.
    pub fn types(&mut self, line: &str) {
        writeln!(self.keys, "{line}").unwrap();
        self.until_it_shows(line);
    }

    pub fn until_it_ends(&mut self) {
        wait_until(PATIENCE, "the session to end", || self.child.try_wait().unwrap().is_some()).unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

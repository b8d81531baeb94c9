//! Somebody at a terminal, with everything that appears on the screen.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onevip_lab::wait_until;

/// What the other end has to run first.
pub const GREETING: &str = "echo host=$(hostname).";
/// mosh waits for seconds between its attempts when nothing answers.
const PATIENCE: Duration = Duration::from_secs(40);

/// An open session with a terminal; dropping it ends it.
pub struct Terminal {
    /// The client.
    pub child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<String>>,
    /// The node at the other end.
    pub host: String,
}

impl Terminal {
    /// Starts the client, and waits for the [`GREETING`].
    pub fn open(client: &mut Command) -> Self {
        let mut child =
            client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
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
        self.until(&format!("{text:?} on the screen"), |shown| shown.contains(text));
    }

    pub fn until(&self, what: &str, condition: impl Fn(&str) -> bool) {
        wait_until(PATIENCE, what, || condition(&self.text()))
            .unwrap_or_else(|error| panic!("{error}; it shows {:?}", self.text()));
    }

    pub fn press(&mut self, keys: &str) {
        write!(self.keys, "{keys}").unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

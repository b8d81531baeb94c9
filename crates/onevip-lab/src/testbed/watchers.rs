//! What the daemons themselves say meanwhile: `onevip watch --json` on every node.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use anyhow::{Context, Result};

use crate::lab::Lab;

/// The commands that watch; they end when this is dropped.
pub struct EventWatchers {
    children: Vec<Child>,
    /// Node that says it, and the line.
    lines: Receiver<(u8, serde_json::Value)>,
}

impl EventWatchers {
    /// Watches on every node whose daemon runs.
    ///
    /// # Errors
    /// When a command does not start.
    pub fn start(lab: &Lab) -> Result<Self> {
        let (sender, lines) = channel();
        let mut all = Self { children: vec![], lines };
        for node in lab.nodes().filter(|node| node.onevip().is_some()) {
            let mut watch = node.onevip_command("watch")?;
            let mut child = watch.arg("--json").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
            let stdout = child.stdout.take().context("onevip watch has no standard output")?;
            all.children.push(child);
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let Ok(value) = serde_json::from_str(&line) else { continue };
                    if sender.send((node.id, value)).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(all)
    }

    /// What was said about nodes that are out since the last time this was asked.
    pub fn outs(&self) -> Vec<String> {
        self.told(&["node-out", "lapsed", "kernel-gone"])
    }

    /// What was said of these kinds of events since the last time anything was asked.
    pub fn told(&self, kinds: &[&str]) -> Vec<String> {
        let is_of =
            |line: &serde_json::Value| line["event"].as_str().is_some_and(|event| kinds.contains(&event));
        let said = self.lines.try_iter().filter(|(_, line)| is_of(line));
        said.map(|(node, line)| format!("unix{node}: {}", line["text"].as_str().unwrap_or_default()))
            .collect()
    }
}

impl Drop for EventWatchers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

//! Counts move with their buckets: whoever claims other buckets than before asks the others what they have counted in them.

use crate::daemon::news::Line;
use crate::desk::question::Answer;
use onevip_core::NodeId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How long an answer may take: a little longer than the desk waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the end may have to be waited for.
const LOOK_UP: Duration = Duration::from_millis(200);

/// What came of a question to a node.
pub type Replied = (NodeId, Result<Answer, String>);

/// Asks whenever the claims of this node change. `ask` asks all nodes that are heard, and returns how many; `take`
/// takes an answer.
pub fn inherit(
    lines: &Receiver<Line>,
    stop: &AtomicBool,
    ask: impl Fn(std::sync::mpsc::Sender<Replied>) -> usize,
    take: impl Fn(Answer),
) {
    while !stop.load(Ordering::Relaxed) {
        match lines.recv_timeout(LOOK_UP) {
            Ok(line) if line.event == "claims" => {}
            Ok(_) | Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let (to, answers) = channel();
        let asked = ask(to);
        for _ in 0..asked {
            match answers.recv_timeout(PATIENCE) {
                Ok((_, Ok(answer))) => take(answer),
                Ok((_, Err(_))) => {}
                Err(_) => break,
            }
        }
    }
}

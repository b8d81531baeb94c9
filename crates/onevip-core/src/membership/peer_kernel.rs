//! What we know of the kernel of one other node. Who asks it, and what follows: `kernels.rs`.

use super::timing::PROBES;
use crate::time::Time;

/// What we know of a node's kernel.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct PeerKernel {
    /// It left this many questions in a row unanswered since its daemon fell silent.
    pub unanswered: u32,
    /// When it is to be asked next, if its daemon is silent.
    pub next_probe: Time,
    /// It is not there.
    pub gone: bool,
    /// Whether it answers while it lives; `None`: that is not known yet.
    pub askable: Option<bool>,
    /// It left this many questions in a row unanswered while its daemon spoke.
    pub ignored: u32,
    /// When it is to be asked next while its daemon speaks.
    pub next_ask: Time,
}

impl PeerKernel {
    /// Nothing is known yet.
    pub fn unknown(now: Time) -> Self {
        Self { unanswered: 0, next_probe: now, gone: false, askable: None, ignored: 0, next_ask: now }
    }

    /// Its daemon speaks, so it lives.
    pub fn alive(&mut self, now: Time) {
        (self.unanswered, self.next_probe, self.gone) = (0, now, false);
    }

    /// Its daemon has begun to speak: whether it answers is to be found out now.
    pub fn ask_soon(&mut self, now: Time) {
        (self.ignored, self.next_ask) = (0, now);
    }

    /// Its silence means that it is not there.
    pub fn is_found_gone(&self) -> bool {
        self.unanswered >= PROBES && self.askable == Some(true)
    }
}

//! What reaches a simulated host, and what becomes of it while the daemon or the machine is stopped.

use super::host::Input;
use super::queue::SimEvent;
use super::world::{CUT_NS, World};
use crate::membership::Family;

impl World {
    pub(super) fn arrive(&mut self, to: usize, input: Input) {
        let n = &mut self.nodes[to];
        if n.paused_until.is_some() && matches!(input, Input::Reincarnate(_)) {
            // It comes from the host itself, so it waits.
            let span = self.beat_ns();
            return self.after(span, SimEvent::Arrive(to, input));
        }
        if !n.powered || n.paused_until.is_some() || n.engine.is_none() {
            return;
        }
        if n.stopped_until.is_some() {
            n.inbox.push(input);
            return;
        }
        self.take(to, input);
    }

    fn take(&mut self, to: usize, input: Input) {
        match input {
            Input::Beat(beat) => self.act(to, |engine, now| engine.beat_received(now, Family::V4, &beat)),
            Input::Datagram(datagram, family) => self.open(to, family, &datagram),
            Input::KernelAsked(node) => self.act(to, |engine, now| engine.kernel_asked(now, node)),
            Input::KernelAnswered(node) => {
                self.nodes[to].askable.insert(node);
                self.act(to, |engine, now| engine.kernel_answered(now, node));
            }
            Input::Reincarnate(incarnation) => {
                // Unless it was started again meanwhile.
                self.act(to, |engine, now| {
                    if engine.incarnation() < incarnation {
                        engine.reincarnate(now, incarnation);
                    }
                });
            }
        }
    }

    fn open(&mut self, to: usize, family: Family, datagram: &[u8]) {
        let n = &mut self.nodes[to];
        let began = self.setup.measure.then(std::time::Instant::now);
        let received = n.receiver.as_mut().map(|receiver| receiver.receive(family, datagram));
        if let Some(began) = began {
            n.cost_ns += (began.elapsed().as_nanos() as u64).min(CUT_NS);
        }
        if let Some(Ok(beat)) = received {
            self.act(to, |engine, now| engine.beat_received(now, family, &beat));
        }
    }

    /// A stopped daemon goes on: what is queued first, then the timers.
    pub(super) fn carry_on(&mut self, node: usize) {
        if self.nodes[node].stopped_until.is_none_or(|until| until > self.now) {
            return;
        }
        self.nodes[node].stopped_until = None;
        self.nodes[node].running_since = self.now;
        if self.nodes[node].paused_until.is_some() {
            return;
        }
        for input in std::mem::take(&mut self.nodes[node].inbox) {
            self.take(node, input);
        }
        self.act(node, |engine, now| engine.timeout(now));
        self.testify(node);
    }

    /// A paused machine goes on; what was sent to it meanwhile is lost.
    pub(super) fn resume(&mut self, node: usize) {
        let Some((until, stops_clock)) = self.nodes[node].paused_until else { return };
        if until > self.now {
            return;
        }
        let n = &mut self.nodes[node];
        n.paused_until = None;
        n.running_since = self.now;
        if stops_clock {
            n.clock.at = self.now;
        }
        n.timer_at = 0;
        if self.nodes[node].runs() {
            if stops_clock {
                self.set_timer(node);
            } else {
                self.act(node, |engine, now| engine.timeout(now));
            }
        }
        self.check.step(self.now, &self.nodes, &self.net, Some(node));
    }
}

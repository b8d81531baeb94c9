//! What a fault does to a simulated cluster, and how everything is repaired.

use super::faults::Fault;
use super::host::HostKernel;
use super::queue::SimEvent;
use super::world::World;
use crate::beat::{Health, Incarnation};
use crate::ids::BucketSet;
use crate::table::Weight;

impl World {
    /// Lets `fault` happen after `span` nanoseconds.
    pub fn plan(&mut self, span: u64, fault: Fault) {
        self.after(span, SimEvent::Fault(fault));
    }

    /// Lets `fault` happen now.
    pub fn inflict(&mut self, fault: Fault) {
        if self.setup.trace {
            self.trace(0, &format!("*** {fault:?}"));
        }
        match fault {
            Fault::PowerOff(i) => {
                let node = &mut self.nodes[i];
                node.engine = None;
                node.powered = false;
                node.kernel = HostKernel::booted();
            }
            Fault::PowerOn(i) => {
                self.nodes[i].powered = true;
                self.start(i);
            }
            Fault::Crash(i) => self.nodes[i].engine = None,
            Fault::Start(i) => self.start(i),
            Fault::Stop(i, span) => {
                let until = self.now + span;
                let node = &mut self.nodes[i];
                node.stopped_until = Some(node.stopped_until.unwrap_or(0).max(until));
                self.after(span, SimEvent::Continue(i));
            }
            Fault::Pause(i, span, stops_clock) => self.pause(i, span, stops_clock),
            Fault::Mute(i, on) => self.net.mute[i] = on,
            Fault::Deaf(i, on) => self.net.deaf[i] = on,
            Fault::Unplug(i, on) => self.net.unplugged[i] = on,
            Fault::Block(from, to, on) => self.net.blocked[from][to] = on,
            Fault::Split(word) => {
                for (i, side) in self.net.side.iter_mut().enumerate() {
                    *side = (word >> i & 1) as u8;
                }
            }
            Fault::Loss(i, ppm) => self.net.loss_ppm[i] = ppm,
            Fault::Feel(i, level) => self.feel(i, Health::new(level)),
            Fault::Blame(i, by) => self.blame(i, by),
            Fault::Unaskable(i, on) => self.nodes[i].unaskable = on,
            Fault::CannotSend(i, on) => {
                self.net.cannot_send[i] = on;
                self.nodes[i].mute_since = on.then_some(self.now);
            }
            Fault::Amnesia(i) => self.nodes[i].incarnation = Incarnation(0),
            Fault::Drain(_)
            | Fault::Undrain(_)
            | Fault::Leave(_)
            | Fault::Weight(..)
            | Fault::Rebalance(_) => self.command(fault),
        }
        self.net.note_connections(self.now);
        self.check.step(self.now, &self.nodes, &self.net, None);
    }

    /// What an administrator does; nothing happens while the daemon does not run.
    fn command(&mut self, fault: Fault) {
        match fault {
            Fault::Drain(i) if self.nodes[i].runs() => self.act(i, |engine, now| engine.drain(now)),
            Fault::Undrain(i) if self.nodes[i].runs() => self.act(i, |engine, now| engine.undrain(now)),
            Fault::Leave(i) if self.nodes[i].runs() => self.act(i, |engine, now| engine.leave(now)),
            Fault::Rebalance(i) if self.nodes[i].runs() => self.act(i, |engine, now| engine.rebalance(now)),
            Fault::Weight(i, weight) => {
                self.nodes[i].config.weight = Weight::new(weight).unwrap_or_default();
                if self.nodes[i].runs() {
                    let config = self.nodes[i].config.clone();
                    self.act(i, |engine, now| engine.reconfigure(now, config));
                }
            }
            _ => {}
        }
    }

    fn pause(&mut self, i: usize, span: u64, stops_clock: bool) {
        if self.nodes[i].paused_until.is_some() {
            return;
        }
        let (now, node) = (self.now, &mut self.nodes[i]);
        if stops_clock {
            node.clock.shows = node.clock.local(now).nanos();
            node.clock.at = now;
        }
        node.paused_until = Some((now + span, stops_clock));
        self.after(span, SimEvent::Resume(i));
    }

    /// Everything that can be repaired is repaired: power, daemons, links, drains, weights, health.
    pub fn repair(&mut self) {
        self.net.heal();
        self.net.note_connections(self.now);
        for i in 0..self.nodes.len() {
            self.nodes[i].powered = true;
            self.nodes[i].mute_since = None;
            if self.nodes[i].stopped_until.is_some() {
                self.nodes[i].stopped_until = Some(self.now);
                self.after(0, SimEvent::Continue(i));
            }
            if let Some((_, stops)) = self.nodes[i].paused_until {
                self.nodes[i].paused_until = Some((self.now, stops));
                self.after(0, SimEvent::Resume(i));
            }
            self.plan(0, Fault::Start(i));
            self.plan(0, Fault::Undrain(i));
            self.plan(0, Fault::Feel(i, 0));
            self.plan(0, Fault::Blame(i, 0));
        }
    }

    /// Stops all clients from holding anything: then planned moves cannot wait for them.
    pub fn hang_up_all(&mut self) {
        for node in &mut self.nodes {
            node.kernel.sessions.fill(0);
            node.kernel.held = BucketSet::EMPTY;
        }
    }
}

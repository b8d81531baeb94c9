//! The first place in a chain of tcx programs: demanded, looked after, and taken back.

use crate::error::{Error, Result};
use crate::load::chain;
use crate::load::link::{Attacher, what};
use crate::load::pins::InterfacePin;
use crate::load::repair::Cause;
use crate::neighbour::Neighbour;
use crate::sys::netlink::TcDirection;
use crate::sys::{self, ChainEntry};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How often the first place is taken back at once; after that somebody else demands it as we do.
const ROUNDS: u32 = 10;
/// How often it is taken back then: often enough to hear a beat now and then, too seldom to be a burden.
const PACE: Duration = Duration::from_secs(1);
/// A contest is over when nobody has been before us for so long.
const OVER_AFTER: Duration = Duration::from_secs(60);

/// A link that should be alive, with the pin that keeps it.
#[derive(Debug)]
pub(crate) struct Held {
    pub pin: InterfacePin,
    pub link: OwnedFd,
    id: u32,
    /// Of tcx: the chain that begins with it, as it was when all was well; else empty.
    chain: Vec<ChainEntry>,
}

impl Held {
    fn new(pin: InterfacePin, link: OwnedFd) -> io::Result<Self> {
        let id = sys::link_info(link.as_fd())?.id;
        Ok(Self { pin, link, id, chain: Vec::new() })
    }

    /// Of tcx, the direction on which it is.
    const fn direction(&self) -> Option<TcDirection> {
        match self.pin {
            InterfacePin::Ingress => Some(TcDirection::Ingress),
            InterfacePin::Egress => Some(TcDirection::Egress),
            InterfacePin::XdpNative
            | InterfacePin::XdpGeneric
            | InterfacePin::Clsact
            | InterfacePin::Qdisc => None,
        }
    }
}

/// How often the first place had to be taken back lately.
#[derive(Debug, Default)]
pub(crate) struct Contest {
    rounds: u32,
    last: Option<Instant>,
}

impl Contest {
    /// Whether the place may be taken back now; if so, it counts.
    fn may_take(&mut self, now: Instant) -> bool {
        let quiet = self.last.map(|last| now - last);
        if quiet.is_none_or(|quiet| quiet >= OVER_AFTER) {
            self.rounds = 0;
        }
        if self.is_on() && quiet.is_some_and(|quiet| quiet < PACE) {
            return false;
        }
        self.rounds = self.rounds.saturating_add(1);
        self.last = Some(now);
        true
    }

    fn is_on(&self) -> bool {
        self.rounds > ROUNDS
    }
}

impl Attacher<'_> {
    /// Our program on a pinned link; in tcx, on the first of its chain. Says who was before it.
    pub(crate) fn hold(&self, pin: InterfacePin) -> io::Result<(Held, Option<Neighbour>)> {
        let mut held = Held::new(pin, self.attach_link(pin)?)?;
        let Some(direction) = held.direction() else { return Ok((held, None)) };
        let first = chain::tcx(self.ifindex, direction)?.first().copied();
        let before = first.filter(|first| first.link != held.id);
        if before.is_some() {
            self.take_first(&mut held, direction)?;
        }
        held.chain = self.good_chain(&held, direction)?;
        Ok((held, before.map(|first| Neighbour::of(first.program))))
    }

    /// Whether a link is where it should be. One call for tcx: the ids of the whole chain, which nobody has touched if
    /// they are still the same.
    pub(crate) fn is_in_place(&self, held: &Held) -> bool {
        let alive = match held.direction() {
            Some(direction) => chain::tcx(self.ifindex, direction).is_ok_and(|chain| chain == held.chain),
            None => self.is_alive(held),
        };
        alive && held.pin.path(self.dir, self.ifindex).exists()
    }

    fn is_alive(&self, held: &Held) -> bool {
        sys::link_info(held.link.as_fd()).is_ok_and(|info| info.ifindex == self.ifindex)
    }

    /// Puts a link back where it should be; says what it took.
    pub(crate) fn put_in_place(&self, held: &mut Held, contest: &mut Contest) -> Result<Option<Cause>> {
        let pin = held.pin;
        let failed = |error| self.failed(pin, error);
        if !self.is_alive(held) {
            *held = self.hold(pin).map_err(failed)?.0;
            return Ok(Some(Cause::Removed));
        }
        let mut cause = None;
        let path = pin.path(self.dir, self.ifindex);
        if !path.exists() {
            // Only the pin is gone. Without it the program would leave with the process.
            sys::pin_over(held.link.as_fd(), &path).map_err(failed)?;
            cause = Some(Cause::Removed);
        }
        let Some(direction) = held.direction() else { return Ok(cause) };
        let first = chain::tcx(self.ifindex, direction).map_err(failed)?.first().copied();
        if let Some(first) = first.filter(|first| first.link != held.id) {
            let by = Neighbour::of(first.program);
            if contest.may_take(Instant::now()) {
                self.take_first(held, direction).map_err(failed)?;
            }
            if contest.is_on() {
                return Err(Error::Contested { interface: self.name.to_owned(), what: what(pin), by });
            }
            cause = Some(Cause::Displaced(by));
        }
        held.chain = self.good_chain(held, direction).map_err(failed)?;
        Ok(cause)
    }

    /// The chain as it is, if it begins with this link; else none, which will be looked at again.
    fn good_chain(&self, held: &Held, direction: TcDirection) -> io::Result<Vec<ChainEntry>> {
        let chain = chain::tcx(self.ifindex, direction)?;
        let first = chain.first().is_some_and(|first| first.link == held.id);
        Ok(if first { chain } else { Vec::new() })
    }

    /// Takes the first place of the chain, without a moment in which our program is not in it. A link cannot be moved,
    /// and the kernel refuses to have one program twice in a chain: so a stand-in goes before all others, which calls
    /// our program; the old link goes; and our program takes the stand-in's place. For a moment it may classify a
    /// packet twice, which changes nothing.
    fn take_first(&self, held: &mut Held, direction: TcDirection) -> io::Result<()> {
        let program = self.program(held.pin);
        let stand_in = sys::stand_in(program)?;
        let new = sys::link_create(
            stand_in.program.as_fd(),
            self.ifindex,
            chain::point(direction),
            sys::BEFORE_ALL,
        )?;
        sys::link_detach(held.link.as_fd())?;
        sys::link_update(new.as_fd(), program)?;
        sys::pin_over(new.as_fd(), &held.pin.path(self.dir, self.ifindex))?;
        *held = Held::new(held.pin, new)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_the_place_again_and_again_is_answered_more_slowly() {
        let (start, mut contest) = (Instant::now(), Contest::default());
        let at = |millis| start + Duration::from_millis(millis);
        for round in 0..u64::from(ROUNDS) {
            assert!(contest.may_take(at(50 * round)) && !contest.is_on(), "round {round}");
        }
        assert!(contest.may_take(at(500)) && contest.is_on());
        assert!(!contest.may_take(at(1400)));
        assert!(contest.may_take(at(1500)) && contest.is_on());
        assert!(contest.may_take(at(70_000)) && !contest.is_on(), "a minute of quiet, and it is over");
    }
}

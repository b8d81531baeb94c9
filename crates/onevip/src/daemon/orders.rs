//! Orders between nodes: `onevip drain unix3` on unix1.
//!
//! They travel as letters, which only nodes with the cluster's key can write; root alone may give them, and both ends
//! write them down. Each takes a permit, which the obeying node draws for one asker, one order and a few seconds.

use super::desk::{Mail, Slot, random};
use crate::desk::question::{Answer, Order, Question};
use anyhow::{Context, bail};
use onevip_core::NodeId;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a permit is good.
const GOOD_FOR: Duration = Duration::from_secs(5);
/// How many there may be at once.
const PERMITS_MAX: usize = 64;

/// The permits that were drawn and not used yet.
#[derive(Default)]
pub struct Permits(Mutex<Vec<Permit>>);

struct Permit {
    number: u64,
    asker: NodeId,
    until: Instant,
}

impl Permits {
    /// Draws one; none when too many are out, or the kernel has no randomness.
    pub fn draw(&self, asker: NodeId, now: Instant) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|permit| permit.until > now);
        let number = random().filter(|_| all.len() < PERMITS_MAX)?;
        all.push(Permit { number, asker, until: now + GOOD_FOR });
        Some(number)
    }

    /// Whether this one is good; it is not any more then.
    pub fn take(&self, asker: NodeId, number: u64, now: Instant) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let good = |permit: &Permit| permit.number == number && permit.asker == asker && permit.until > now;
        all.iter().position(good).map(|place| all.swap_remove(place)).is_some()
    }
}

/// Gives an order and waits for what comes of it: at most for as long as two questions may take.
///
/// # Errors
/// The node refuses, or does not answer.
pub fn give(letters: &Slot, node: NodeId, name: &str, order: Order) -> anyhow::Result<String> {
    let permit = match ask(letters, node, name, Question::Permit)? {
        Answer::Permit(permit) => permit,
        Answer::Refused(why) => bail!("{name} refuses: {why}"),
        _ => bail!("{name} answered something else; is it of another version?"),
    };
    tracing::warn!("root on this host orders {name} to {order}");
    match ask(letters, node, name, Question::Order { permit, order })? {
        Answer::Done(words) => Ok(format!("{name}: {words}")),
        Answer::Refused(why) => bail!("{name} refuses: {why}"),
        _ => bail!("{name} answered something else; is it of another version?"),
    }
}

fn ask(letters: &Slot, node: NodeId, name: &str, question: Question) -> anyhow::Result<Answer> {
    let (to, answer) = channel();
    if !letters.post(Mail::Ask { node, question, to }) {
        bail!("too many questions are open; ask again");
    }
    let (_, answer) = answer.recv().context("the daemon is ending")?;
    answer.map_err(|why| anyhow::anyhow!("{name} cannot be asked: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_good_once_for_one_asker_and_not_for_long() {
        let node = |id| NodeId::new(id).unwrap();
        let (permits, now) = (Permits::default(), Instant::now());
        let first = permits.draw(node(1), now).unwrap();
        assert!(!permits.take(node(2), first, now), "somebody else's");
        assert!(!permits.take(node(1), first ^ 1, now), "invented");
        assert!(permits.take(node(1), first, now));
        assert!(!permits.take(node(1), first, now), "used");
        let second = permits.draw(node(1), now).unwrap();
        assert!(!permits.take(node(1), second, now + GOOD_FOR), "too old");
        assert_eq!((0..200).filter(|_| permits.draw(node(3), now).is_some()).count(), PERMITS_MAX - 1);
    }
}

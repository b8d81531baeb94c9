//! What becomes of a new connection in the chains of a firewall, as far as that can be told without knowing the client.
//!
//! Each rule is understood as applying to every such connection, to none, or to some. Only what befalls every client is
//! reported: a rule that drops some (a ban list, a rate) is somebody's intention, and one that accepts some makes the
//! end uncertain.

use std::collections::HashMap;

/// Chains deeper than this are a loop, or nothing that can be told.
const DEPTH_MAX: u8 = 32;

/// Whether a rule applies to a new connection of any client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Applies {
    /// To none.
    No,
    /// To some, or it cannot be told.
    Maybe,
    /// To all.
    Yes,
}

impl Applies {
    pub(super) const fn when(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    /// For `!=` and `!`.
    pub(super) const fn inverted(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }
}

/// What a rule does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Act {
    /// Counts, logs, or the like.
    Nothing,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// A program decides (`queue`), or something that is not understood.
    Unknown,
}

/// A rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rule {
    pub(super) applies: Applies,
    pub(super) act: Act,
}

/// The chains of one table, by name.
pub(super) type Chains = HashMap<String, Vec<Rule>>;

/// What becomes of the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It comes to the end of the chain.
    Through,
    Accepted,
    /// By a rule of this chain.
    Dropped(String),
    /// That depends.
    Unknown,
}

/// Follows a connection through a chain, and those that it leads to.
pub(super) fn follow(chains: &Chains, chain: &str) -> Fate {
    walk(chains, chain, 0)
}

fn walk(chains: &Chains, chain: &str, depth: u8) -> Fate {
    let (Some(rules), true) = (chains.get(chain), depth < DEPTH_MAX) else { return Fate::Unknown };
    for rule in rules {
        let sure = match rule.applies {
            Applies::No => continue,
            Applies::Maybe => false,
            Applies::Yes => true,
        };
        match (&rule.act, sure) {
            // Some are dropped; the others go on.
            (Act::Nothing, _) | (Act::Drop, false) => {}
            (Act::Drop, true) => return Fate::Dropped(chain.to_owned()),
            (Act::Accept, true) => return Fate::Accepted,
            (Act::Return, true) => return Fate::Through,
            (Act::Accept | Act::Return, false) | (Act::Unknown, _) => return Fate::Unknown,
            (Act::Goto(to), true) => return walk(chains, to, depth + 1),
            (Act::Jump(to), true) => match walk(chains, to, depth + 1) {
                Fate::Through => {}
                end => return end,
            },
            (Act::Jump(to), false) => match walk(chains, to, depth + 1) {
                Fate::Through | Fate::Dropped(_) => {}
                Fate::Accepted | Fate::Unknown => return Fate::Unknown,
            },
            (Act::Goto(to), false) => match walk(chains, to, depth + 1) {
                Fate::Dropped(_) => {}
                _ => return Fate::Unknown,
            },
        }
    }
    Fate::Through
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(applies: Applies, act: Act) -> Rule {
        Rule { applies, act }
    }

    fn fate(chains: &[(&str, &[Rule])]) -> Fate {
        let chains = chains.iter().map(|(name, rules)| ((*name).to_owned(), rules.to_vec())).collect();
        follow(&chains, "in")
    }

    #[test]
    fn the_first_rule_that_applies_to_all_decides() {
        use Act::{Accept, Drop, Nothing};
        use Applies::{Maybe, No, Yes};
        assert_eq!(fate(&[("in", &[])]), Fate::Through);
        assert_eq!(
            fate(&[("in", &[rule(No, Accept), rule(Yes, Nothing), rule(Yes, Drop)])]),
            Fate::Dropped("in".into())
        );
        assert_eq!(fate(&[("in", &[rule(Maybe, Drop), rule(Yes, Accept)])]), Fate::Accepted, "a ban list");
        assert_eq!(
            fate(&[("in", &[rule(Maybe, Accept), rule(Yes, Drop)])]),
            Fate::Unknown,
            "for some it is open"
        );
    }

    #[test]
    fn chains_that_lead_elsewhere_are_followed() {
        use Applies::{Maybe, Yes};
        let to = |act: fn(String) -> Act| act("b".to_owned());
        let jump = |applies| rule(applies, to(Act::Jump));
        let (accept, drop) = (rule(Yes, Act::Accept), rule(Yes, Act::Drop));
        let ends = |first: Rule, there: &[Rule]| fate(&[("in", &[first, accept.clone()]), ("b", there)]);
        assert_eq!(ends(jump(Yes), std::slice::from_ref(&drop)), Fate::Dropped("b".into()));
        assert_eq!(ends(jump(Yes), &[rule(Yes, Act::Return), drop.clone()]), Fate::Accepted);
        assert_eq!(ends(jump(Maybe), std::slice::from_ref(&drop)), Fate::Accepted);
        assert_eq!(
            ends(rule(Yes, to(Act::Goto)), &[]),
            Fate::Through,
            "what comes behind a goto is not reached"
        );
        assert_eq!(ends(rule(Yes, Act::Jump("nowhere".into())), &[]), Fate::Unknown);
        assert_eq!(fate(&[("in", &[rule(Yes, Act::Jump("in".into()))])]), Fate::Unknown, "a loop");
    }
}

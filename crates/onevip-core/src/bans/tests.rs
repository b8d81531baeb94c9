//! Lists of bans on several nodes: what they keep, and that they come to agree.
#![allow(clippy::unwrap_used)] // A test may panic, its helpers included.

use super::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;

fn node(id: u8) -> NodeId {
    NodeId::new(id).unwrap()
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(1_000_000 + seconds)
}

/// A second of a node's clocks: its own, and the time of day.
fn clock(seconds: u64) -> (Time, u64) {
    (at(seconds), 1_700_000_000_000 + seconds * 1000)
}

const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

/// Tells `to` everything that `from` knows, as messages do: what is left of each ban, on clocks that differ.
fn tell(from: &BanList, to: &mut BanList, now_there: Time, now_here: Time) {
    for (prefix, mut entry) in from.changes(0, usize::MAX).0 {
        if entry.until != Time::NEVER {
            entry.until =
                if entry.until > now_there { now_here + entry.until.since(now_there) } else { Time::ZERO };
        }
        to.merge(prefix, entry, now_here);
    }
}

fn banned(list: &BanList, now: Time) -> Vec<String> {
    list.in_force(now).map(|(prefix, _)| prefix.to_string()).collect()
}

#[test]
fn networks_are_read_and_shown_as_people_write_them() {
    for (text, shown) in [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("192.0.2.77/24", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8:1:2:3::/48", "2001:db8:1::/48"),
        ("::/0", "::/0"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
    ] {
        assert_eq!(prefix(text).to_string(), shown);
    }
    for text in ["", "host", "192.0.2.1/33", "2001:db8::/129", "192.0.2.1/", "192.0.2.1/+8", "1.2.3.4/8/8"] {
        assert!(text.parse::<Prefix>().is_err(), "{text}");
    }
    assert!(prefix("10.0.0.0/8").contains(&prefix("10.255.0.1")));
    assert!(!prefix("10.0.0.0/8").contains(&prefix("11.0.0.0/8")));
    assert!(!prefix("0.0.0.0/0").contains(&prefix("::1")));
}

#[test]
fn a_ban_ends_by_itself_and_is_remembered_for_a_while() {
    let mut list = BanList::new(node(1));
    list.ban(prefix("192.0.2.1"), HOUR, false, "guessing\npasswords", clock(0)).unwrap();
    assert_eq!(list.get(&prefix("192.0.2.1")).unwrap().reason, "guessing passwords");
    assert_eq!((banned(&list, at(3599)).len(), banned(&list, at(3600)).len()), (1, 0));
    assert_eq!(list.expire(at(3600)), [prefix("192.0.2.1")]);
    assert_eq!(list.expire(at(3601)), [], "it is told once");
    assert!(list.get(&prefix("192.0.2.1")).is_some());
    list.expire(at(3601) + REMEMBERED_FOR);
    assert!(list.get(&prefix("192.0.2.1")).is_none());
    assert!(!list.lift(prefix("192.0.2.1"), clock(9999)));
}

#[test]
fn whoever_lifts_a_ban_that_it_knows_of_wins_however_wrong_its_clock_is() {
    let (mut one, mut two) = (BanList::new(node(1)), BanList::new(node(2)));
    one.ban(prefix("192.0.2.1"), HOUR, false, "", (at(0), 9_000_000_000_000)).unwrap();
    tell(&one, &mut two, at(0), at(500));
    assert_eq!(banned(&two, at(500)), ["192.0.2.1"]);
    assert!(two.lift(prefix("192.0.2.1"), (at(501), 0)), "its clock is decades behind");
    tell(&two, &mut one, at(501), at(1));
    assert_eq!(banned(&one, at(1)), [""; 0]);
    tell(&one, &mut two, at(2), at(502));
    assert_eq!(banned(&two, at(502)), [""; 0], "and it does not come back");
}

#[test]
fn a_node_that_was_away_does_not_bring_back_what_ran_out_meanwhile() {
    let (mut one, mut two) = (BanList::new(node(1)), BanList::new(node(2)));
    one.ban(prefix("192.0.2.1"), HOUR, false, "", clock(0)).unwrap();
    // Two was off for a day, with a clock that stood still.
    tell(&one, &mut two, at(0), at(0));
    one.expire(at(86_400));
    tell(&two, &mut one, at(1), at(86_401));
    assert_eq!(banned(&one, at(86_401)), [""; 0]);
    tell(&one, &mut two, at(86_402), at(2));
    assert_eq!(banned(&two, at(2)), [""; 0], "it learns that it is over");
}

#[test]
fn the_narrowest_entry_says_what_the_wider_ones_say_too() {
    let (mut list, now) = (BanList::new(node(1)), at(1));
    list.ban(prefix("10.0.0.0/8"), None, true, "", clock(0)).unwrap();
    list.ban(prefix("10.1.0.0/16"), HOUR, false, "", clock(0)).unwrap();
    list.ban(prefix("10.1.2.3"), Some(Duration::from_secs(60)), true, "", clock(0)).unwrap();
    let stop = |text: &str, now| list.stop(&prefix(text), now, |_| true);
    let hour = at(3600);
    assert_eq!(stop("10.1.2.3", now), Some(Stop { everything_until: hour, openings_until: Time::NEVER }));
    assert_eq!(
        stop("10.0.0.0/8", now),
        Some(Stop { everything_until: Time::ZERO, openings_until: Time::NEVER })
    );
    assert_eq!(stop("10.1.2.3", at(61)), None, "its own is over, the wider one is found");
    assert_eq!(stop("10.2.0.0/16", now), None);
    let within: Vec<_> = list.within(&prefix("10.1.0.0/16")).collect();
    assert_eq!(within, [prefix("10.1.0.0/16"), prefix("10.1.2.3")]);
    assert_eq!(list.covering(&prefix("10.1.9.9"), now).unwrap().0, prefix("10.1.0.0/16"));
    assert_eq!(list.covering(&prefix("11.1.9.9"), now), None);
}

#[test]
fn there_is_a_limit_and_it_is_said() {
    let mut list = BanList::new(node(1));
    for number in 0..BANS_MAX as u32 {
        list.ban(Prefix::host(Ipv4Addr::from_bits(number).into()), HOUR, false, "", clock(0)).unwrap();
    }
    assert_eq!(list.ban(prefix("192.0.2.1"), HOUR, false, "", clock(0)), Err(Full));
    assert!(Full.to_string().contains("16384 bans"));
    list.ban(prefix("0.0.0.7"), None, false, "", clock(0))
        .expect("one that is banned can be banned for longer");
    list.ban(prefix("192.0.2.1"), HOUR, false, "", clock(3600)).expect("all others are over");
}

#[test]
fn a_long_list_is_told_in_parts() {
    let (mut one, mut two) = (BanList::new(node(1)), BanList::new(node(2)));
    for number in 0..250 {
        one.ban(Prefix::host(Ipv4Addr::from_bits(number * 7919).into()), HOUR, false, "", clock(0)).unwrap();
    }
    let (mut after, mut parts) = (0, 0);
    while after < one.number() {
        let (changes, upto) = one.changes(after, 100);
        changes.into_iter().for_each(|(prefix, entry)| assert!(two.merge(prefix, entry, at(0))));
        (after, parts) = (upto, parts + 1);
    }
    assert_eq!((banned(&two, at(0)).len(), parts), (250, 3));
    assert_eq!(one.changes(after, 100), (Vec::new(), 250));
}

#[test]
fn nonsense_is_not_believed() {
    let mut list = BanList::new(node(1));
    let stamp = Stamp { time_ms: u64::MAX, node: node(2) };
    let entry = Entry { stamp, until: Time::NEVER, spares_sessions: false, reason: String::new() };
    assert!(!list.merge(prefix("192.0.2.1"), entry, at(0)));
}

#[derive(Clone, Debug)]
enum Act {
    Ban(usize, u8, u64),
    Lift(usize, u8),
    Tell(usize, usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..3usize, 0..6u8, 1..5000u64).prop_map(|(who, what, long)| Act::Ban(who, what, long)),
        (0..3usize, 0..6u8).prop_map(|(who, what)| Act::Lift(who, what)),
        (0..3usize, 0..3usize).prop_map(|(from, to)| Act::Tell(from, to)),
    ]
}

proptest! {
    /// Whatever was done in whatever order, with clocks that differ by hours: once all have told all, all say the same.
    #[test]
    fn books_agree_once_everybody_has_heard_everybody(acts in prop::collection::vec(act(), 0..60)) {
        let mut lists: Vec<BanList> = (1..=3).map(|id| BanList::new(node(id))).collect();
        let offset = [0, 7200, 40];
        let now = |who: usize, second: usize| at(offset[who] + second as u64);
        let source = |what: u8| Prefix::new(Ipv4Addr::new(10, what, 0, 0).into(), 8 + 8 * (what % 3)).unwrap();
        for (second, act) in acts.iter().enumerate() {
            match *act {
                Act::Ban(who, what, long) => {
                    let clocks = (now(who, second), (offset[2 - who] * 1000) + second as u64);
                    lists[who].ban(source(what), Some(Duration::from_secs(long)), false, "", clocks).unwrap();
                }
                Act::Lift(who, what) => {
                    let clocks = (now(who, second), offset[2 - who] * 1000);
                    lists[who].lift(source(what), clocks);
                }
                Act::Tell(from, to) => {
                    let teller = lists[from].clone();
                    tell(&teller, &mut lists[to], now(from, second), now(to, second));
                }
            }
            for (who, list) in lists.iter_mut().enumerate() {
                list.expire(now(who, second));
            }
        }
        let end = acts.len();
        for (from, to) in [(0, 1), (1, 2), (2, 1), (1, 0), (0, 1)] {
            let teller = lists[from].clone();
            tell(&teller, &mut lists[to], now(from, end), now(to, end));
        }
        for who in 1..3 {
            prop_assert_eq!(banned(&lists[who], now(who, end)), banned(&lists[0], now(0, end)));
        }
    }
}

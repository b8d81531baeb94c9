//! `[vip.service.limit]` and `[bans]`.

use super::*;
use onevip_core::limit::Refusal;
use std::time::Duration;

/// The service belongs to the VIP, which the nodes follow.
fn text(limit: &str) -> String {
    let vip = format!("[[vip.service]]\nprotocol = \"tcp\"\nport = 22\n{limit}");
    file("", &vip, "")
}

#[test]
fn the_classic_rule_is_two_lines() {
    let config = accepted(&text("[vip.service.limit]\nburst = 2\nwindow = \"7s\""));
    let limit = config.vips[0].services[0].limit.clone().unwrap();
    assert_eq!((limit.burst, limit.window, limit.counts_refused), (2, Duration::from_secs(7), true));
    assert_eq!((limit.refusal, limit.v4_prefix, limit.v6_prefix), (Refusal::Unreachable, 32, 64));
    assert_ne!(config.digest(), accepted(&text("")).digest(), "all nodes must have it");
}

#[test]
fn everything_can_be_said_of_a_limit() {
    let all = "[vip.service.limit]\nburst = 32\nwindow = \"1h\"\naction = \"tcp-reset\"\nrefused = \"ignore\"\n\
               prefix = { ipv4 = 24, ipv6 = 56 }\nallow = [\"10.0.0.0/8\", \"2001:db8::1\"]";
    let limit = accepted(&text(all)).vips[0].services[0].limit.clone().unwrap();
    assert_eq!((limit.burst, limit.counts_refused, limit.refusal), (32, false, Refusal::Reset));
    assert_eq!((limit.v4_prefix, limit.v6_prefix, limit.allow.len()), (24, 56, 2));
}

#[test]
fn mistakes_of_limits_and_bans() {
    let limit = |lines: &str, reason, remedy| {
        finds(&text(&format!("[vip.service.limit]\n{lines}")), reason, remedy);
    };
    limit("burst = 33 # here\nwindow = \"7s\"", "`burst` is 33", "from 1 to 32");
    limit("burst = 2\nwindow = \"2h\" # here", "`window` cannot be \"2h\"", "to \"1h\"");
    limit(
        "burst = 2\nwindow = \"7s\"\naction = \"tcp-rst\" # here",
        "cannot be \"tcp-rst\"",
        "did you mean \"tcp-reset\"?",
    );
    limit("burst = 2\nwindow = \"7s\"\nallow = [\"10.0.0.0/40\"] # here", "is not a network", "192.0.2.0/24");
    let udp = "[[vip.service]]\nprotocol = \"udp\"\nport = 53\nlimit = { burst = 2, window = \"7s\" } # here";
    finds(&file("", udp, ""), "UDP has none", "leave `limit` out");
    finds(&file("", "", "[bans]\nnever = [\"here\"] # here"), "is not a network", "2001:db8::/32");
    let never = accepted(&file("", "", "[bans]\nnever = [\"192.0.2.0/24\"]"));
    assert_eq!(never.never_banned.len(), 1);
    assert_ne!(never.digest(), accepted(&file("", "", "")).digest());
}

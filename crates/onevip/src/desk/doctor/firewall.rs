//! Firewalls, as far as they can be judged from outside: rules of nftables that plainly drop what the VIP serves.
//!
//! Beats do not care: the ingress program takes them before any firewall. So a node whose firewall drops its clients
//! looks healthy to the others. What a chain does in the end cannot be told without running it; a rule or a policy that
//! drops, with nothing before it that accepts the port, is what is reported.

use super::{Finding, Patient};
use crate::config::Protocol;
use crate::desk::sshd::output_of;
use serde_json::Value;
use std::process::Command;

pub(super) fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    let Some(text) = output_of(Command::new("nft").args(["-j", "list", "ruleset"])) else {
        return Vec::new();
    };
    let Ok(ruleset) = serde_json::from_str::<Value>(&text) else { return Vec::new() };
    let services = patient.plan.vips.iter().flat_map(|plan| &plan.vip.services);
    let mut ports: Vec<u16> = services
        .filter(|service| service.protocol == Protocol::Tcp && service.ports.start() == service.ports.end())
        .map(|service| *service.ports.start())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports.iter().flat_map(|port| dropped(&ruleset, *port)).collect()
}

/// The chains at `input` that drop a TCP port, and by what.
fn dropped(ruleset: &Value, port: u16) -> Vec<Finding> {
    let objects: Vec<&Value> = ruleset["nftables"].as_array().into_iter().flatten().collect();
    let inputs = objects.iter().map(|object| &object["chain"]).filter(|chain| {
        chain["hook"] == "input" && matches!(chain["family"].as_str(), Some("ip" | "ip6" | "inet"))
    });
    inputs
        .filter_map(|chain| {
            let same = |rule: &&Value| {
                rule["family"] == chain["family"]
                    && rule["table"] == chain["table"]
                    && rule["chain"] == chain["name"]
            };
            let rules: Vec<&Value> = objects.iter().map(|object| &object["rule"]).filter(same).collect();
            let by = match rules.iter().find_map(|rule| fate(rule, port)) {
                Some(Fate::Lost) => "a rule",
                Some(Fate::Unknown) => return None,
                None if chain["policy"] == "drop" => "its policy",
                None => return None,
            };
            let word = |key: &str| chain[key].as_str().unwrap_or("?").to_owned();
            let place = format!("{} {} {}", word("family"), word("table"), word("name"));
            Some(Finding::new(
                "firewall",
                format!("the nftables chain {place} drops new connections to TCP port {port}: {by} does"),
                "beats come through all the same, so this node gets its share, and its clients get no answer",
                format!(
                    "accept the port there (`nft insert rule {place} tcp dport {port} accept`), on every node"
                ),
            ))
        })
        .collect()
}

/// What a rule means for a port.
enum Fate {
    /// It drops or rejects new connections to it, and nothing else restricts it.
    Lost,
    /// It may accept it: nobody can say more.
    Unknown,
}

fn fate(rule: &Value, port: u16) -> Option<Fate> {
    let expressions: Vec<&Value> = rule["expr"].as_array().into_iter().flatten().collect();
    let drops = expressions.iter().any(|e| e.get("drop").is_some() || e.get("reject").is_some());
    let others = ["accept", "jump", "goto", "queue", "vmap", "xt", "return"];
    let goes_on = expressions.iter().any(|e| others.iter().any(|word| e.get(word).is_some()));
    let matches: Vec<&Value> = expressions.iter().map(|e| &e["match"]).filter(|m| !m.is_null()).collect();
    let about =
        |m: &&&Value| m["left"]["payload"]["field"] == "dport" && m["left"]["payload"]["protocol"] == "tcp";
    let ports: Vec<&&Value> = matches.iter().filter(about).collect();
    if ports.iter().any(|m| !has(&m["right"], port)) {
        return None;
    }
    // What is already established, and what comes from this host itself, says nothing about new clients.
    let other_traffic = matches.iter().any(|m| {
        m["left"]["ct"]["key"] == "state"
            || m["left"]["meta"]["key"] == "iif"
            || m["left"]["meta"]["key"] == "iifname"
            || m["left"]["meta"]["key"] == "l4proto" && !names(&m["right"], "tcp")
            || matches!(m["left"]["payload"]["protocol"].as_str(), Some("icmp" | "icmpv6" | "udp"))
    });
    match (drops, goes_on) {
        (true, _) if !ports.is_empty() && matches.len() == ports.len() => Some(Fate::Lost),
        (false, true) if !other_traffic => Some(Fate::Unknown),
        _ => None,
    }
}

/// Whether a value, a set or a range of ports has this one in it. What is not understood might.
fn has(right: &Value, port: u16) -> bool {
    let within = |low: &Value, high: &Value| match (low.as_u64(), high.as_u64()) {
        (Some(low), Some(high)) => (low..=high).contains(&u64::from(port)),
        _ => true,
    };
    match right {
        Value::Number(number) => number.as_u64() == Some(u64::from(port)),
        Value::Object(object) => match (object.get("set"), object.get("range")) {
            (Some(Value::Array(all)), _) => all.iter().any(|one| has(one, port)),
            (_, Some(range)) => within(&range[0], &range[1]),
            _ => true,
        },
        _ => true,
    }
}

fn names(right: &Value, protocol: &str) -> bool {
    match right {
        Value::String(name) => name == protocol,
        other => other.to_string().contains(protocol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ruleset(policy: &str, rules: &[Value]) -> Value {
        let place =
            |expr: &Value| json!({"rule": {"family": "inet", "table": "f", "chain": "in", "expr": expr}});
        let chain = json!({"chain": {"family": "inet", "table": "f", "name": "in", "hook": "input", "policy": policy}});
        json!({"nftables": std::iter::once(chain).chain(rules.iter().map(place)).collect::<Vec<_>>()})
    }

    fn dport(right: Value) -> Value {
        json!({"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": right}})
    }

    fn found(policy: &str, rules: &[Value]) -> bool {
        !dropped(&ruleset(policy, rules), 22).is_empty()
    }

    #[test]
    fn a_rule_or_a_policy_that_drops_the_port_is_found() {
        assert!(found("accept", &[json!([dport(json!(22)), {"drop": null}])]));
        assert!(found("accept", &[json!([dport(json!({"set": [80, 22]})), {"reject": null}])]));
        assert!(found("accept", &[json!([dport(json!({"range": [1, 1023]})), {"drop": null}])]));
        assert!(found("drop", &[]));
        let established = json!({"match": {"left": {"ct": {"key": "state"}}, "right": "established"}});
        assert!(found(
            "drop",
            &[json!([established, {"accept": null}]), json!([dport(json!(80)), {"accept": null}])]
        ));
    }

    #[test]
    fn what_lets_the_port_in_or_cannot_be_judged_is_no_finding() {
        assert!(!found("accept", &[]));
        assert!(!found("accept", &[json!([dport(json!(80)), {"drop": null}])]));
        assert!(!found("drop", &[json!([dport(json!({"set": [22, 80]})), {"accept": null}])]));
        assert!(!found("drop", &[json!([{"jump": {"target": "more"}}])]));
        let one_source = json!({"match": {"left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "192.0.2.1"}});
        assert!(!found("accept", &[json!([one_source, dport(json!(22)), {"drop": null}])]));
    }
}

//! Rules of nftables, from `nft -j list ruleset` (libnftables-json(5)).

use super::connection::TestConnection;
use super::rules::{Act, Applies, Chains, Fate, Rule, follow};
use serde_json::Value;
use std::collections::BTreeMap;

/// A chain of the kernel's that drops the connection, and where.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Loss {
    /// Family, table and chain in which it ends.
    pub(super) place: String,
    /// Whether the policy of the chain does it, not a rule.
    pub(super) policy: bool,
}

/// A rule set.
pub(super) struct Ruleset<'a> {
    chains: Vec<&'a Value>,
    rules: BTreeMap<(&'a str, &'a str, &'a str), Vec<&'a Value>>,
    sets: Vec<&'a Value>,
}

impl<'a> Ruleset<'a> {
    pub(super) fn of(listing: &'a Value) -> Self {
        let objects: Vec<&Value> = listing["nftables"].as_array().into_iter().flatten().collect();
        let all = |key: &str| objects.iter().map(|o| &o[key]).filter(|o| o.is_object()).collect::<Vec<_>>();
        let mut rules: BTreeMap<_, Vec<&Value>> = BTreeMap::new();
        for rule in all("rule") {
            rules
                .entry((word(rule, "family"), word(rule, "table"), word(rule, "chain")))
                .or_default()
                .push(rule);
        }
        Self { chains: all("chain"), rules, sets: all("set") }
    }

    /// Whether iptables made rules that nftables cannot show.
    pub(super) fn has_foreign_rules(&self) -> bool {
        let foreign = |rule: &&Value| expressions(rule).any(|expression| expression.get("xt").is_some());
        self.rules.values().flatten().any(foreign)
    }

    /// Where the connection is lost.
    pub(super) fn losses(&self, question: &TestConnection) -> Vec<Loss> {
        let families: &[&str] = if question.vip.is_ipv4() { &["ip", "inet"] } else { &["ip6", "inet"] };
        let on_its_way = |chain: &&&Value| {
            let hook = chain["hook"].as_str();
            let here =
                families.contains(&word(chain, "family")) && matches!(hook, Some("prerouting" | "input"));
            here && word(chain, "type") != "nat"
        };
        let loss = |chain: &&Value| {
            let (family, table, name) = (word(chain, "family"), word(chain, "table"), word(chain, "name"));
            let (by, policy) = match follow(&self.table(family, table, question), name) {
                Fate::Dropped(by) => (by, false),
                Fate::Through if chain["policy"] == "drop" => (name.to_owned(), true),
                _ => return None,
            };
            Some(Loss { place: format!("{family} {table} {by}"), policy })
        };
        self.chains.iter().filter(on_its_way).filter_map(loss).collect()
    }

    fn table(&self, family: &str, table: &str, question: &TestConnection) -> Chains {
        let ours = self.chains.iter().filter(|c| word(c, "family") == family && word(c, "table") == table);
        ours.map(|chain| {
            let name = word(chain, "name");
            let rules = self.rules.get(&(family, table, name)).into_iter().flatten();
            (name.to_owned(), rules.map(|rule| self.rule((family, table), rule, question)).collect())
        })
        .collect()
    }

    fn rule(&self, table: (&str, &str), rule: &Value, question: &TestConnection) -> Rule {
        let mut found = Rule { applies: Applies::Yes, act: Act::Nothing };
        for expression in expressions(rule) {
            let Some((kind, value)) = expression.as_object().and_then(|o| o.iter().next()) else {
                found.applies = found.applies.min(Applies::Maybe);
                continue;
            };
            match kind.as_str() {
                "match" => found.applies = found.applies.min(self.matches(table, value, question)),
                "counter" | "log" | "notrack" | "mangle" | "meta" | "comment" => {}
                "vmap" => found.act = self.by_map(table, value, question),
                _ => match act(kind, value) {
                    Some(act) => found.act = act,
                    // A rate, an iptables match, a set that grows: for some.
                    None => found.applies = found.applies.min(Applies::Maybe),
                },
            }
        }
        found
    }

    /// `ct state vmap { new : jump x, … }` and its like.
    fn by_map(&self, table: (&str, &str), map: &Value, question: &TestConnection) -> Act {
        let Some(entries) = map["data"]["set"].as_array() else { return Act::Unknown };
        for entry in entries {
            let one = serde_json::json!({"op": "==", "left": map["key"], "right": entry[0]});
            match self.matches(table, &one, question) {
                Applies::Yes => {
                    let verdict = entry[1].as_object().and_then(|o| o.iter().next());
                    return verdict.and_then(|(kind, value)| act(kind, value)).unwrap_or(Act::Unknown);
                }
                Applies::Maybe => return Act::Unknown,
                Applies::No => {}
            }
        }
        Act::Nothing
    }

    fn matches(&self, table: (&str, &str), found: &Value, question: &TestConnection) -> Applies {
        let (left, right) = (&found["left"], &found["right"]);
        let holds = match Subject::of(left) {
            Subject::Nothing => Applies::No,
            Subject::Unknown => Applies::Maybe,
            subject => self.any_of(table, right, &|value| subject.is(value, question)),
        };
        match found["op"].as_str() {
            Some("==" | "in") | None => holds,
            Some("!=") => holds.inverted(),
            Some(_) => Applies::Maybe,
        }
    }

    /// Whether it holds for one of several values.
    fn any_of(&self, table: (&str, &str), value: &Value, holds: &dyn Fn(&Value) -> Applies) -> Applies {
        let members = |all: &Vec<Value>| {
            all.iter().map(|one| self.any_of(table, one, holds)).max().unwrap_or(Applies::No)
        };
        match value {
            Value::Array(all) => members(all),
            Value::Object(object) => match (object.get("set"), object.get("elem")) {
                (Some(Value::Array(all)), _) => members(all),
                (_, Some(elem)) => self.any_of(table, &elem["val"], holds),
                _ => holds(value),
            },
            Value::String(name) if name.starts_with('@') => {
                let ours = |set: &&&Value| {
                    (word(set, "family"), word(set, "table")) == table && name[1..] == *word(set, "name")
                };
                // What a set has in it may have changed a moment later; what is there now counts.
                self.sets.iter().find(ours).map_or(Applies::Maybe, |set| match &set["elem"] {
                    Value::Array(all) => members(all),
                    _ => Applies::No,
                })
            }
            value => holds(value),
        }
    }
}

/// What a match looks at.
enum Subject {
    Port,
    Destination,
    Source,
    Interface,
    State,
    /// The transport protocol, or the network's.
    Protocol,
    Family,
    /// Something that a SYN over TCP does not have.
    Nothing,
    Unknown,
}

impl Subject {
    fn of(left: &Value) -> Self {
        let payload = (left["payload"]["protocol"].as_str(), left["payload"]["field"].as_str());
        match payload {
            (Some("tcp" | "th"), Some("dport")) => return Self::Port,
            (Some("ip" | "ip6"), Some("daddr")) => return Self::Destination,
            (Some("ip" | "ip6"), Some("saddr")) => return Self::Source,
            (Some("ip"), Some("protocol")) | (Some("ip6"), Some("nexthdr")) => return Self::Protocol,
            (Some("udp" | "udplite" | "icmp" | "icmpv6" | "sctp" | "dccp" | "igmp" | "ah" | "esp"), _) => {
                return Self::Nothing;
            }
            _ => {}
        }
        match (left["meta"]["key"].as_str(), left["ct"]["key"].as_str()) {
            (Some("iif" | "iifname"), _) => Self::Interface,
            (Some("l4proto"), _) => Self::Protocol,
            (Some("nfproto" | "protocol"), _) => Self::Family,
            (_, Some("state")) => Self::State,
            _ => Self::Unknown,
        }
    }

    fn is(&self, value: &Value, question: &TestConnection) -> Applies {
        let text = value.as_str();
        match self {
            Self::Port => port(value, question),
            Self::Destination => address(value).map_or(Applies::Maybe, |to| question.goes_to(&to)),
            Self::Source => address(value).map_or(Applies::Maybe, |from| question.comes_from(&from)),
            Self::Interface => text.map_or(Applies::Maybe, |name| question.comes_by(name)),
            Self::State => text.map_or(Applies::Maybe, |state| Applies::when(state == "new")),
            Self::Protocol => Applies::when(text == Some("tcp") || value.as_u64() == Some(6)),
            Self::Family => {
                let names = if question.vip.is_ipv4() { ["ip", "ipv4"] } else { ["ip6", "ipv6"] };
                text.map_or(Applies::Maybe, |name| Applies::when(names.contains(&name)))
            }
            Self::Nothing => Applies::No,
            Self::Unknown => Applies::Maybe,
        }
    }
}

fn act(kind: &str, value: &Value) -> Option<Act> {
    let target = || value["target"].as_str().unwrap_or_default().to_owned();
    Some(match kind {
        "accept" => Act::Accept,
        "drop" | "reject" => Act::Drop,
        "return" => Act::Return,
        "jump" => Act::Jump(target()),
        "goto" => Act::Goto(target()),
        "queue" | "tproxy" | "synproxy" | "redirect" | "dnat" => Act::Unknown,
        _ => return None,
    })
}

/// A port, a range of them, or the name of a service.
fn port(value: &Value, question: &TestConnection) -> Applies {
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        Value::String(name) if name == "ssh" => Some(22),
        _ => None,
    };
    let (low, high) = match value.get("range") {
        Some(range) => (number(&range[0]), number(&range[1])),
        None => (number(value), number(value)),
    };
    low.zip(high).map_or(Applies::Maybe, |(low, high)| question.port_within(low, high))
}

/// An address or a network, as text.
fn address(value: &Value) -> Option<String> {
    match value.get("prefix") {
        Some(prefix) => Some(format!("{}/{}", prefix["addr"].as_str()?, prefix["len"])),
        None => value.as_str().map(str::to_owned),
    }
}

fn expressions(rule: &Value) -> impl Iterator<Item = &Value> {
    rule["expr"].as_array().into_iter().flatten()
}

fn word<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn chain(name: &str, base: Option<&str>) -> Value {
        let mut chain = json!({"family": "inet", "table": "f", "name": name});
        if let Some(policy) = base {
            chain["hook"] = json!("input");
            chain["type"] = json!("filter");
            chain["policy"] = json!(policy);
        }
        json!({"chain": chain})
    }

    fn rule(chain: &str, expr: Value) -> Value {
        json!({"rule": {"family": "inet", "table": "f", "chain": chain, "expr": expr}})
    }

    fn of(left: Value, right: Value) -> Value {
        json!({"match": {"op": "==", "left": left, "right": right}})
    }

    fn dport(right: Value) -> Value {
        of(json!({"payload": {"protocol": "tcp", "field": "dport"}}), right)
    }

    fn losses(objects: &[Value]) -> Vec<String> {
        let listing = json!({"nftables": objects});
        let question =
            TestConnection { vip: "198.51.100.10".parse().unwrap(), port: 22, interface: "eth0".into() };
        Ruleset::of(&listing).losses(&question).into_iter().map(|loss| loss.place).collect()
    }

    fn lost(policy: &str, rules: &[Value]) -> bool {
        let rules = rules.iter().map(|expr| rule("in", expr.clone()));
        !losses(&std::iter::once(chain("in", Some(policy))).chain(rules).collect::<Vec<_>>()).is_empty()
    }

    #[test]
    fn a_rule_or_a_policy_that_drops_the_port_is_found() {
        assert!(lost("accept", &[json!([dport(json!(22)), {"counter": {}}, {"drop": null}])]));
        assert!(lost("accept", &[json!([dport(json!({"set": [80, 22]})), {"reject": null}])]));
        assert!(lost("accept", &[json!([dport(json!({"range": [1, 1023]})), {"drop": null}])]));
        assert!(lost("drop", &[]));
        let state = |states: Value| of(json!({"ct": {"key": "state"}}), states);
        let established = json!([state(json!(["established", "related"])), {"accept": null}]);
        let loopback = json!([of(json!({"meta": {"key": "iifname"}}), json!("lo")), {"accept": null}]);
        let other_port = json!([dport(json!(80)), {"accept": null}]);
        assert!(lost("drop", &[established.clone(), loopback, other_port]));
        let elsewhere = of(json!({"payload": {"protocol": "ip", "field": "daddr"}}), json!("198.51.100.11"));
        assert!(lost("drop", &[json!([elsewhere, dport(json!(22)), {"accept": null}])]), "not for the VIP");
        assert!(lost("accept", &[json!([state(json!("new")), {"drop": null}])]));
    }

    #[test]
    fn what_lets_the_port_in_or_depends_is_no_finding() {
        assert!(!lost("accept", &[]));
        assert!(!lost("accept", &[json!([dport(json!(80)), {"drop": null}])]));
        assert!(!lost("drop", &[json!([dport(json!({"set": [22, 80]})), {"accept": null}])]));
        let one = of(json!({"payload": {"protocol": "ip", "field": "saddr"}}), json!("192.0.2.1"));
        assert!(!lost("accept", &[json!([one, dport(json!(22)), {"drop": null}])]), "a ban");
        assert!(!lost("drop", &[json!([one, {"accept": null}])]), "somebody is let in");
        assert!(!lost("drop", &[json!([dport(json!(22)), {"limit": {"rate": 9}}, {"accept": null}])]));
    }

    #[test]
    fn chains_maps_and_sets_are_followed() {
        let base = |policy| chain("in", Some(policy));
        let jump = rule("in", json!([{"jump": {"target": "ssh"}}]));
        let ssh = chain("ssh", None);
        let drop = rule("ssh", json!([dport(json!(22)), {"drop": null}]));
        assert_eq!(losses(&[base("accept"), ssh.clone(), jump.clone(), drop.clone()]), ["inet f ssh"]);
        let back = rule("ssh", json!([dport(json!(22)), {"return": null}]));
        assert!(losses(&[base("accept"), ssh.clone(), jump, back, drop.clone()]).is_empty());
        let map = json!([{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [
            ["established", {"accept": null}], ["new", {"jump": {"target": "ssh"}}]]}}}]);
        assert_eq!(losses(&[base("accept"), ssh, rule("in", map), drop]), ["inet f ssh"]);
        let set =
            |elem: Value| json!({"set": {"family": "inet", "table": "f", "name": "open", "elem": elem}});
        let open = || rule("in", json!([dport(json!("@open")), {"accept": null}]));
        assert!(losses(&[base("drop"), set(json!([22, 80])), open()]).is_empty());
        assert_eq!(losses(&[base("drop"), set(json!([80])), open()]), ["inet f in"]);
    }
}

//! Rules of iptables, from `iptables-save` (iptables-extensions(8)): of its own kernel tables, and of those in nftables
//! that only it can show.

use super::connection::TestConnection;
use super::rules::{Act, Applies, Chains, Fate, Rule, follow};
use std::collections::BTreeMap;

/// The chains that a connection to this host comes through.
const ON_ITS_WAY: [(&str, &str); 4] =
    [("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("mangle", "INPUT"), ("filter", "INPUT")];

/// Where the connection is lost: table and chain, and whether its policy does it.
pub(super) fn losses(saved: &str, question: &TestConnection) -> Vec<(String, bool)> {
    let tables = tables(saved, question);
    let lost = |(table, chain): &(&str, &str)| {
        let (chains, policies) = tables.get(*table)?;
        match follow(chains, chain) {
            Fate::Dropped(by) => Some((format!("{table} {by}"), false)),
            Fate::Through if policies.get(*chain).is_some_and(|policy| policy == "DROP") => {
                Some((format!("{table} {chain}"), true))
            }
            _ => None,
        }
    };
    ON_ITS_WAY.iter().filter_map(lost).collect()
}

type Table = (Chains, BTreeMap<String, String>);

fn tables(saved: &str, question: &TestConnection) -> BTreeMap<String, Table> {
    let mut all: BTreeMap<String, Table> = BTreeMap::new();
    let mut name = String::new();
    for line in saved.lines() {
        if let Some(table) = line.strip_prefix('*') {
            name = table.trim().to_owned();
        }
        let (chains, policies) = all.entry(name.clone()).or_default();
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            if let (Some(chain), Some(policy)) = (words.next(), words.next()) {
                chains.entry(chain.to_owned()).or_default();
                policies.insert(chain.to_owned(), policy.to_owned());
            }
        } else if let Some(rest) = line.strip_prefix("-A ") {
            let words = words(rest);
            if let Some((chain, rule)) = words.split_first() {
                chains.entry(chain.clone()).or_default().push(self::rule(rule, question));
            }
        }
    }
    all
}

/// Words, some of them in quotes.
fn words(line: &str) -> Vec<String> {
    let (mut all, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let mut flags = line.chars();
    while let Some(flag) = flags.next() {
        match flag {
            '"' => quoted = !quoted,
            '\\' if quoted => word.extend(flags.next()),
            ' ' if !quoted => all.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    all.push(word);
    all.retain(|word| !word.is_empty());
    all
}

fn rule(words: &[String], question: &TestConnection) -> Rule {
    let mut rule = Rule { applies: Applies::Yes, act: Act::Nothing };
    let mut words = words.iter().map(String::as_str).peekable();
    let mut inverted = false;
    while let Some(option) = words.next() {
        if option == "!" {
            inverted = true;
            continue;
        }
        let mut value = || words.next().unwrap_or_default();
        let applies = match option {
            "-j" | "-g" => {
                let target = value();
                rule.act = act(target, option == "-g");
                // What follows are options of the target.
                break;
            }
            // Matches are judged by their options.
            "-m" | "--comment" => {
                value();
                continue;
            }
            "-p" => Applies::when(matches!(value(), "tcp" | "6" | "all")),
            "-i" => question.comes_by(value()),
            "-d" => question.goes_to(value()),
            "-s" => question.comes_from(value()),
            "--dport" | "--dports" | "--destination-port" => ports(value(), question),
            "--state" | "--ctstate" => Applies::when(value().split(',').any(|state| state == "NEW")),
            "--syn" => Applies::Yes,
            "--dst-type" => Applies::when(value().split(',').any(|kind| kind == "LOCAL")),
            _ => {
                while words.peek().is_some_and(|next| !next.starts_with('-') && *next != "!") {
                    words.next();
                }
                Applies::Maybe
            }
        };
        rule.applies = rule.applies.min(if inverted { applies.inverted() } else { applies });
        inverted = false;
    }
    rule
}

fn act(target: &str, goto: bool) -> Act {
    match target {
        "ACCEPT" => Act::Accept,
        "DROP" | "REJECT" => Act::Drop,
        "RETURN" => Act::Return,
        "LOG" | "NFLOG" | "ULOG" | "MARK" | "CONNMARK" | "TCPMSS" | "CT" | "NOTRACK" | "TRACE" | "SET"
        | "CLASSIFY" | "DSCP" | "TOS" | "AUDIT" | "SECMARK" => Act::Nothing,
        "QUEUE" | "NFQUEUE" | "TPROXY" | "SYNPROXY" | "TARPIT" => Act::Unknown,
        chain if goto => Act::Goto(chain.to_owned()),
        chain => Act::Jump(chain.to_owned()),
    }
}

/// `22`, `1:1023`, `22,80`.
fn ports(list: &str, question: &TestConnection) -> Applies {
    let one = |part: &str| {
        let (low, high) = part.split_once(':').unwrap_or((part, part));
        let low = if low.is_empty() { Ok(0) } else { low.parse() };
        let high = if high.is_empty() { Ok(u16::MAX) } else { high.parse() };
        low.ok().zip(high.ok()).map_or(Applies::Maybe, |(low, high)| question.port_within(low, high))
    };
    list.split(',').map(one).max().unwrap_or(Applies::Maybe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(policy: &str, rules: &[&str]) -> Vec<String> {
        let saved = format!("*filter\n:INPUT {policy} [0:0]\n:ours - [0:0]\n{}\nCOMMIT\n", rules.join("\n"));
        let question =
            TestConnection { vip: "198.51.100.10".parse().unwrap(), port: 22, interface: "eth0".into() };
        losses(&saved, &question).into_iter().map(|(place, _)| place).collect()
    }

    #[test]
    fn what_drops_every_client_is_found() {
        assert_eq!(lost("DROP", &[]), ["filter INPUT"]);
        assert_eq!(lost("ACCEPT", &["-A INPUT -p tcp -m tcp --dport 22 -j DROP"]), ["filter INPUT"]);
        assert_eq!(
            lost(
                "ACCEPT",
                &[
                    "-A INPUT -j ours",
                    "-A ours -p tcp -m multiport --dports 80,22 -j REJECT --reject-with tcp-reset"
                ]
            ),
            ["filter ours"]
        );
        assert_eq!(
            lost(
                "DROP",
                &[
                    "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                    "-A INPUT -i lo -j ACCEPT",
                    "-A INPUT -p icmp -j ACCEPT",
                    "-A INPUT -d 198.51.100.11/32 -p tcp -m tcp --dport 22 -m comment --comment \"its own -j\" -j ACCEPT",
                ]
            ),
            ["filter INPUT"]
        );
        assert_eq!(lost("ACCEPT", &["-A INPUT ! -i lo -j DROP"]), ["filter INPUT"]);
    }

    #[test]
    fn what_some_meet_is_no_finding() {
        let none =
            |policy, rules: &[&str]| assert_eq!(lost(policy, rules), Vec::<String>::new(), "{rules:?}");
        none("DROP", &["-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"]);
        none("DROP", &["-A INPUT -s 192.0.2.0/24 -p tcp -m tcp --dport 22 -j ACCEPT"]);
        none("ACCEPT", &["-A INPUT -p tcp -m tcp --dport 80 -j DROP"]);
        none("ACCEPT", &["-A INPUT -p tcp -m tcp --dport 22 -m set --match-set banned src -j DROP"]);
        none(
            "ACCEPT",
            &["-A INPUT -j ours", "-A ours -p tcp -m tcp --dport 22 -j RETURN", "-A ours -j DROP"],
        );
        none("DROP", &["-A INPUT -m conntrack --ctstate NEW -m limit --limit 9/sec -j ACCEPT"]);
    }
}

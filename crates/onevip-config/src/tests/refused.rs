//! Every kind of mistake: its line, its reason, its remedy.

use super::*;

#[test]
fn mistakes_at_the_top() {
    let top = |line: &str, reason, remedy| finds(&file(line, "", ""), reason, remedy);
    top("cluster = \"Lab\" # here", "characters other than a-z", "small letters");
    top("cluster = \"\" # here", "`cluster` is empty", "small letters");
    top(&format!("cluster = \"{}\" # here", "x".repeat(64)), "64 characters, more than 63", "1 to 63");
    top("cluster = 7 # here", "takes a string, not a number", "cluster = \"lab\"");
    top("clustr = \"lab\" # here", "unknown key `clustr`", "did you mean `cluster`?");
    top("colour = \"red\" # here", "unknown key `colour`", "the top level takes: cluster, membership, beat");
    top("membership = \"livng\" # here", "cannot be \"livng\"", "did you mean \"living\"?");
    top("beat = \"5ms\" # here", "shorter than 10ms", "from \"10ms\" to \"1s\"");
    top("beat = \"2s\" # here", "longer than 1s", "from \"10ms\" to \"1s\"");
    top("beat = \"50\" # here", "not a time", "number and its unit");
    top("beat = 50 # here", "takes a string, not a number", "beat = \"50ms\"");
    top("failback = \"never\" # here", "cannot be \"never\"", "\"idle\", \"now\", \"manual\"");
    top("key_file = \"key\" # here", "not an absolute path", "begin it with /");
    top("control_group = \"two groups\" # here", "cannot be the name of a group", "one group");
    let metrics = |listen: &str| format!("metrics = {{ listen = {listen} }} # here");
    top(&metrics("\"0.0.0.0:9108\""), "cannot be read at 0.0.0.0:9108", "127.0.0.1");
    top(&metrics("\"198.51.100.11:9108\""), "cannot be read at", "proxy");
    top(&metrics("\"9108\""), "`listen` cannot be \"9108\"", "/run/onevip/metrics.sock");
    top("metrics = { } # here", "[metrics] has no `listen`", "add listen = ");
    let hook = |on: &str, rest: &str| format!("hook = [{{ on = {on}, {rest} }}] # here");
    top(&hook("\"node-ot\"", "command = \"x\""), "no event \"node-ot\"", "did you mean \"node-out\"?");
    top(&hook("\"node-out\"", "command = \" \""), "`command` is empty", "what the shell shall run");
    top(
        &hook("\"node-out\"", "command = \"x\", timeout = \"1h\""),
        "`timeout` cannot be \"1h\"",
        "ten minutes",
    );
    top("beat = true # here", "not true or false", "beat = \"50ms\"");
    top("beat = 1.5 # here", "not a fractional number", "beat = \"50ms\"");
}

#[test]
fn what_is_missing() {
    finds(
        "# here\n[[vip]]\nname = \"a\"\naddresses = [\"198.51.100.10\"]\n[[node]]\nname = \"n\"\nid = 1\naddress = \"198.51.100.1\"",
        "has no `cluster`",
        "add cluster = \"lab\"",
    );
    finds(&format!("cluster = \"lab\" # here\n{}", node(1, "")), "there is no [[vip]]", "add [[vip]]");
    finds(
        "cluster = \"lab\" # here\n[[vip]]\nname = \"a\"\naddresses = [\"198.51.100.10\"]\n",
        "there is no [[node]]",
        "add a [[node]]",
    );
    finds(&file("", "", "[[vip]] # here\nname = \"b\""), "[[vip]] has no `addresses`", "add addresses = ");
    finds(
        &file("", "", "[[vip]] # here\naddresses = [\"198.51.100.20\"]"),
        "[[vip]] has no `name`",
        "add name = ",
    );
    let service = "[[vip.service]] # here\nport = 22";
    finds(&file("", service, ""), "has no `protocol`", "add protocol = \"tcp\"");
    let service = "[[vip.service]] # here\nprotocol = \"tcp\"";
    finds(&file("", service, ""), "has no `port`", "add port = 22");
    let base = node(1, "");
    finds(
        &file("", "", &format!("{base}[[node]] # here\nid = 2\naddress = \"198.51.100.2\"")),
        "has no `name`",
        "add name",
    );
    finds(
        &file("", "", &format!("{base}[[node]] # here\nname = \"b\"\naddress = \"198.51.100.2\"")),
        "has no `id`",
        "add id",
    );
    finds(
        &file("", "", &format!("{base}[[node]] # here\nname = \"b\"\nid = 2")),
        "has no `address`",
        "add address",
    );
}

#[test]
fn mistakes_of_a_vip() {
    let vip = |line: &str, reason, remedy| finds(&file("", line, ""), reason, remedy);
    vip("name = \"log in\" # here", "characters other than", "small letters");
    vip("addresses = [] # here", "`addresses` is empty", "at least one address");
    vip("addresses = [1] # here", "takes strings, not a number", "addresses = [\"198.51.100.10\"]");
    vip("addresses = 1 # here", "takes an array of strings", "addresses = [\"198.51.100.10\"]");
    vip("interface = \"eth/0\" # here", "cannot be the name of an interface", "ip link");
    vip("interface = \"\" # here", "cannot be the name of an interface", "ip link");
    vip(&format!("interface = \"{}\" # here", "x".repeat(128)), "128 bytes, more than 127", "ip link");
    vip("hash = \"source-ip-prt\" # here", "cannot be", "did you mean \"source-ip-port\"?");
    vip("prefix = { ipv4 = 24 } # here", "only with hash = \"source-net\"", "take `prefix` out");
    vip("hash = \"source-net\"\nprefix = { ipv4 = 33 } # here", "`ipv4` is 33", "from 1 to 32");
    vip("hash = \"source-net\"\nprefix = { ipv6 = 0 } # here", "`ipv6` is 0", "from 1 to 128");
    vip(
        "hash = \"source-net\"\nprefix = { ip4 = 24 } # here",
        "unknown key `ip4` in `prefix`",
        "did you mean `ipv4`?",
    );
    vip(
        "hash = \"source-net\"\nprefix = 24 # here",
        "takes a table, not a number",
        "{ ipv4 = 24, ipv6 = 64 }",
    );
    vip("seed = -1 # here", "`seed` is -1", "from 0 to 4294967295");
    vip("seed = 4294967296 # here", "outside 0 to 4294967295", "write a number");
    vip("seed = \"x\" # here", "takes a number, not a string", "seed = 0");
    vip("mapping = \"cluster-ip\" # here", "cannot be", "did you mean \"clusterip\"?");
    vip("address_order = \"host\" # here", "only with mapping = \"clusterip\"", "take `address_order` out");
    vip("delivery = \"unicast\" # here", "cannot be", "\"multicast\", \"flood\"");
    vip("accelerate = \"xpd\" # here", "cannot be", "did you mean \"xdp\"?");
    vip("beat_port = 0 # here", "`beat_port` is 0", "from 1 to 65535");
    vip("hsah = \"source-ip\" # here", "unknown key `hsah` in [[vip]]", "did you mean `hash`?");
}

#[test]
fn addresses_that_no_host_can_have() {
    let vip = |address: &str, reason: &str, remedy: &str| {
        finds(&file("", &format!("addresses = [\"{address}\"] # here"), ""), reason, remedy);
        let node_line = format!("[[node]]\nname = \"x\"\nid = 9\naddress = \"{address}\" # here");
        finds(&file("", "", &(node(1, "") + &node_line)), reason, remedy);
    };
    vip("0.0.0.0", "stands for no address", "unicast address");
    vip("::", "stands for no address", "unicast address");
    vip("127.0.0.1", "loopback", "unicast address");
    vip("::1", "loopback", "unicast address");
    vip("224.0.0.1", "multicast address", "unicast address");
    vip("ff02::1", "multicast address", "unicast address");
    vip("255.255.255.255", "broadcast", "unicast address");
    vip("0.1.2.3", "not for hosts", "unicast address");
    vip("::ffff:192.0.2.1", "IPv4 address in IPv6 clothes", "write \"192.0.2.1\"");
    vip("fe80::1", "link-local", "global or unique local");
    vip("198.51.100.7/24", "not an IP address", "without prefix length: \"198.51.100.7\"");
    vip("login.example.org", "not an IP address", "names are not looked up");
}

#[test]
fn macs_that_do_not_fit() {
    let vip = |lines: &str, reason, remedy| finds(&file("", lines, ""), reason, remedy);
    vip("mac = \"01:00:5e\" # here", "not an Ethernet address", "six bytes");
    vip(
        "mac = \"02:00:5e:33:64:0a\" # here",
        "no multicast MAC",
        "leave `mac` out: it would be 01:00:5e:33:64:0a",
    );
    vip("delivery = \"flood\"\nmac = \"03:00:5e:33:64:0a\" # here", "is a multicast MAC", "begin it with 02");
    vip("mac = \"ff:ff:ff:ff:ff:ff\" # here", "everybody's", "MAC of its own");
    vip("delivery = \"flood\"\nmac = \"00:00:00:00:00:00\" # here", "nobody's", "MAC of its own");
    vip("mac = \"01:80:c2:00:00:0e\" # here", "never passes a bridge", "write another");
    // These work, so they are advice.
    vip("mac = \"05:00:5e:33:64:0a\" # here", "outside the ranges", "01:00:5e");
    vip("mac = \"33:33:00:33:00:01\" # here", "range of IPv6", "range of IPv4");
    vip("addresses = [\"2001:db8::10\"]\nmac = \"01:00:5e:33:00:01\" # here", "IPv6 only", "33:33");
    vip("delivery = \"flood\"\nmac = \"00:16:3e:00:00:01\" # here", "real network card", "begin it with 02");
    vip("mac = \"01:00:5e:00:00:12\" # here", "also the one of VRRP", "01:00:5e:33:33:12");
    vip("addresses = [\"198.0.0.18\"] # here", "also the one of VRRP", "write `mac`");
    vip("addresses = [\"2001:db8::1\"] # here", "also the one of all hosts", "33:33:00:33:33:01");
    let two = "cluster = \"lab\"\n\
        [[vip]]\nname = \"a\"\naddresses = [\"198.51.100.10\"]\n\
        [[vip]] # here\nname = \"b\"\naddresses = [\"198.179.100.10\"]\n\
        [[node]]\nname = \"n\"\nid = 1\naddress = \"198.51.100.1\"\n";
    finds(two, "\"a\" and \"b\" have one cluster MAC", "write `mac`");
}

#[test]
fn mistakes_of_services() {
    let service = |port: &str, reason, remedy| {
        finds(
            &file("", &format!("[[vip.service]]\nprotocol = \"udp\"\nport = {port} # here"), ""),
            reason,
            remedy,
        );
    };
    service("0", "port 0 does not exist", "from 1 to 65535");
    service("\"0-5\"", "port 0 does not exist", "from 1 to 65535");
    service("65536", "neither a port nor a range", "60000-60999");
    service("\"ssh\"", "neither a port nor a range", "from 1 to 65535");
    service("\"60999-60000\"", "runs backwards", "write \"60000-60999\"");
    service("[22]", "takes a number or a string, not an array", "port = 22");
    service("7077", "beats arrive on UDP port 7077", "set `beat_port`");
    service("\"7000-8000\"", "beats arrive on UDP port 7077", "set `beat_port`");
    let overlap = "[[vip.service]]\nprotocol = \"tcp\"\nport = \"20-30\"\n[[vip.service]]\nprotocol = \"tcp\"\nport = 22 # here";
    finds(&file("", overlap, ""), "tcp ports in common", "one [[vip.service]]");
    let service =
        |line: &str| file("", &format!("[[vip.service]]\nprotocol = \"tcp\"\nport = 22\n{line} # here"), "");
    finds(&service("hash = \"source\""), "cannot be \"source\"", "\"source-ip\"");
    finds(&service("check = \"kex\""), "cannot be \"kex\"", "\"sshd\", \"none\"");
    let udp = "[[vip.service]]\nprotocol = \"udp\"\nport = 53\ncheck = \"sshd\" # here";
    finds(&file("", udp, ""), "is for TCP", "leave `check` out");
    finds(&service("owner = \"node\""), "cannot be \"node\"", "\"bucket\", \"socket\"");
    finds(&service("owner = \"socket\""), "is for UDP", "leave `owner` out");
    let both = "[[vip.service]]\nprotocol = \"udp\"\nport = \"60000-60999\"\nowner = \"socket\"\nhash = \"source-ip\" # here";
    finds(&file("", both, ""), "here the socket does", "leave `hash` out");
    let sliced = |port: &str, line: &str| {
        let text = format!("[[vip.service]]\nprotocol = \"udp\"\nport = \"{port}\"\n{line} # here");
        file("", &text, "")
    };
    let mosh = |line: &str| sliced("60000-60999", &format!("owner = \"socket\"\n{line}"));
    finds(&mosh("slices = 12"), "12 slices are not possible", "a power of two");
    finds(&mosh("slices = 1"), "nodes with numbers up to 2", "from 2 to 64");
    finds(&mosh("slices = 64"), "leave 15 for each node", "fewer `slices`");
    finds(&sliced("60000-60999", "slices = 16"), "only with owner", "leave `slices` out");
    let pieces = "[[vip.service]]\nprotocol = \"udp\"\nport = 53\nhash = \"source-ip-port\" # here";
    finds(&file("", pieces, ""), "datagrams in fragments", "as DNS does");
    finds(
        &file("", "weights = { unix3 = 5 } # here", ""),
        "names unix3, which does not serve",
        "did you mean `unix",
    );
    finds(&file("", "weights = { unix1 = 10001 } # here", ""), "outside 0 to 10000", "from 0 to 10000");
    finds(&file("", "weights = { unix1 = 0, unix2 = 0 } # here", ""), "nobody would answer", "onevip drain");
    finds(&file("", "other = \"reject\" # here", ""), "cannot be \"reject\"", "\"owner\", \"drop\"");
    let many: String = (1..=33)
        .map(|port| {
            format!(
                "[[vip.service]]\nprotocol = \"tcp\"\nport = {port}{}\n",
                if port == 33 { " # here" } else { "" }
            )
        })
        .collect();
    finds(&file("", &many, ""), "33 services together, more than 32", "a range of ports");
    let protocol = "[[vip.service]]\nprotocol = \"sctp\" # here\nport = 22";
    finds(&file("", protocol, ""), "cannot be \"sctp\"", "\"tcp\", \"udp\"");
    finds(
        &file("", "[vip.service] # here\nprotocol = \"tcp\"\nport = 22", ""),
        "can be several",
        "double brackets",
    );
}

#[test]
fn mistakes_of_sources() {
    let source = |lines: &str| file("", &format!("[[vip.source]]\n{lines}"), "");
    let prefix = |text: &str| source(&format!("pin = \"unix1\"\nprefix = \"{text}\" # here"));
    finds(&prefix("ten"), "not a network", "10.8.0.0/16");
    finds(&prefix("10.8.0.0/33"), "not 0 to 32", "10.8.0.0/16");
    finds(&prefix("10.8.0.1/16"), "not the first address", "write \"10.8.0.0/16\"");
    finds(&source("prefix = \"10.8.0.0/16\"\npin = \"unix3\" # here"), "names unix3", "did you mean \"unix");
    let both = "prefix = \"10.8.0.0/16\"\nhash = \"source-ip\"\npin = \"unix1\" # here";
    finds(&source(both), "either hashed in another way or pinned", "leave `hash` or `pin` out");
    let nothing = file("", "[[vip.source]] # here\nprefix = \"10.8.0.0/16\"", "");
    finds(&nothing, "says nothing of its sources", "add pin = ");
    let twice = "prefix = \"10.8.0.0/16\"\npin = \"unix1\"\n[[vip.source]]\npin = \"unix2\"\nprefix = \"10.8.0.0/16\" # here";
    finds(&source(twice), "two [[vip.source]] have the prefix", "keep one");
    finds(&prefix("2001:db8::/32"), "the VIP has no IPv6 address", "take the [[vip.source]] out");
}

#[test]
fn mistakes_of_node_lists() {
    let vip =
        |list: &str, reason, remedy| finds(&file("", &format!("nodes = {list} # here"), ""), reason, remedy);
    vip("[\"unix[2-1]\"]", "runs backwards", "write 1-2");
    vip("[\"unix[1-65]\"]", "stands for 65 names", "smaller range");
    vip("[\"unix[1-2\"]", "not closed", "unix[1-4]");
    vip("[\"\"]", "node list is empty", "write names");
    vip("[]", "`nodes` is empty", "leave `nodes` out");
    vip("[\"unxi1\"]", "no [[node]] is named unxi1", "did you mean \"unix1\"?");
    vip("[\"unix[1-4]\"]", "no [[node]] is named unix[3-4]", "name only these: unix[1-2]");
    vip("\"gpu1\"", "no [[node]] is named gpu1", "name only these: unix[1-2]");
    vip("[\"unix1\", \"unix[1-2]\"]", "names unix1 twice", "once");
}

#[test]
fn mistakes_of_a_node() {
    let second = |lines: &str, reason, remedy| finds(&file("", "", &(node(1, "") + lines)), reason, remedy);
    let named = "[[node]]\nname = \"unix2\"\n";
    second(
        "[[node]]\nname = \"a b\" # here\nid = 2\naddress = \"198.51.100.2\"",
        "not a hostname",
        "`hostname` prints",
    );
    second(
        "[[node]]\nname = \"unix[2-4]\" # here\nid = 2\naddress = \"198.51.100.2\"",
        "not a hostname",
        "one [[node]] for each host",
    );
    second(&format!("{named}id = 0 # here\naddress = \"198.51.100.2\""), "`id` is 0", "from 1 to 64");
    second(&format!("{named}id = 65 # here\naddress = \"198.51.100.2\""), "`id` is 65", "from 1 to 64");
    second(&format!("{named}id = 2\naddress = [] # here"), "`address` is empty", "at least one address");
    second(
        &format!("{named}id = 2\naddress = \"198.51.100.2\"\nweight = 10001 # here"),
        "`weight` is 10001",
        "from 0 to 10000",
    );
    second(
        &format!("{named}id = 2\naddress = \"198.51.100.2\"\nwieght = 1 # here"),
        "unknown key `wieght`",
        "did you mean `weight`?",
    );
    second(
        &format!("{named}id = 2\naddress = [\"198.51.100.2\", \"198.51.100.3\"] # here"),
        "here are two",
        "on the LAN of the VIP",
    );
}

#[test]
fn what_must_be_unique() {
    let end = |lines: &str, reason, remedy| finds(&file("", "", lines), reason, remedy);
    end(
        "[[vip]]\nname = \"login\" # here\naddresses = [\"198.51.100.20\"]",
        "two VIPs are named \"login\"",
        "a name of its own",
    );
    end(
        "[[vip]]\nname = \"b\"\naddresses = [\"198.51.100.10\"] # here",
        "198.51.100.10 is used twice",
        "one [[vip]]",
    );
    let one = node(1, "");
    end(
        &format!("{one}[[node]]\nname = \"UNIX1\" # here\nid = 2\naddress = \"198.51.100.2\""),
        "two nodes are named",
        "own hostname",
    );
    end(
        &format!("{one}[[node]]\nname = \"b\"\nid = 1 # here\naddress = \"198.51.100.2\""),
        "two nodes have the number 1",
        "2 is free",
    );
    end(
        &format!("{one}[[node]]\nname = \"b\"\nid = 2\naddress = \"198.51.100.101\" # here"),
        "two nodes have the address",
        "own address",
    );
    end(
        &format!("{one}[[node]]\nname = \"b\"\nid = 2\naddress = \"198.51.100.10\" # here"),
        "is a VIP",
        "only this host has",
    );
    end(
        "[[vip]]\nname = \"b\"\naddresses = [\"2001:db8::1\", \"2001:db8:0::1\"] # here",
        "used twice",
        "one [[vip]]",
    );
}

#[test]
fn limits_on_how_many() {
    let many: String = (1..=64).map(|id| node(id, "")).collect();
    accepted(&file("", "", &many));
    let beyond = "[[node]] # here\nname = \"more\"\nid = 64\naddress = \"198.51.100.99\"";
    finds_among(&file("", "", &(many + beyond)), "there are 65 nodes, more than 64", "two clusters");
    let eight: Vec<String> = (1..=8).map(|n| format!("\"2001:db8::{n}\"")).collect();
    accepted(&file("", &format!("addresses = [{}]", eight.join(", ")), ""));
    let nine = format!("addresses = [{},\n\"2001:db8::9\"] # here", eight.join(", "));
    finds(&file("", &nine, ""), "9 addresses together, more than 8", "cluster of its own");
}

#[test]
fn clusterip_wants_its_nodes_numbered_without_a_gap() {
    let nodes = node(1, "") + "[[node]]\nname = \"b\"\nid = 3 # here\naddress = \"198.51.100.2\"";
    let vip = "mapping = \"clusterip\"";
    finds(&file("", vip, &nodes), "numbers the 2 nodes of the VIP 1 to 2, but one has number 3", "balanced");
    accepted(&file("", vip, ""));
    accepted(&file(
        "",
        "mapping = \"clusterip\"\nnodes = \"unix[1-2]\"",
        &(nodes.clone() + "\n" + &node(2, "")),
    ));
}

#[test]
fn somebody_must_have_a_weight() {
    let nodes = node(1, "weight = 0") + &node(2, "weight = 0 # here");
    finds(&file("", "", &nodes), "nobody would answer", "onevip drain");
    accepted(&file("", "", &(node(1, "weight = 0") + &node(2, ""))));
}

#[test]
fn things_that_are_allowed_but_worth_a_word() {
    let text = file("", "nodes = \"unix1\"", "").replace("\"unix2\"", "\"unix2\" # here");
    finds(&text, "unix2 serves no VIP", "add it to the `nodes`");
    let long = "interface = \"enp129s0f0np0-uplink\" # here";
    finds(&file("", long, ""), "only an altname can be longer", "every node");
}

#[test]
fn brackets_of_the_wrong_kind() {
    let text = file("", "", "").replace("[[vip]]", "[vip] # here");
    finds(&text, "`vip` is a table", "write [[vip]] with double brackets");
    let text = file("node = 3 # here", "", "").replace(&node(1, ""), "").replace(&node(2, ""), "");
    finds_among(&text, "`node` is a number", "write [[node]] with double brackets");
}

/// One of those found is on the line that ends with `# here` and says this.
#[track_caller]
fn finds_among(text: &str, reason: &str, remedy: &str) {
    let all = found(text);
    let here = text.lines().position(|line| line.ends_with("# here")).map(|line| line + 1);
    let right = |(line, why, what): &(usize, String, String)| {
        Some(*line) == here && why.contains(reason) && what.contains(remedy)
    };
    assert!(all.iter().any(right), "{all:#?}\n{text}");
}

#[test]
fn syntax_errors_come_with_the_other_mistakes_but_without_their_echo() {
    let top = |line: &str, reason, remedy| finds(&file(line, "", ""), reason, remedy);
    top("beat = # here", "not TOML", "double quotes");
    top("beat = 50ms # here", "not TOML", "double quotes");
    top("cluster = \"a\"\ncluster = \"b\" # here", "duplicate key", "keep one of the two");
    top("cluster lab # here", "not TOML", "key = value");
    let header = file("", "", &node(1, "")).replace("[[node]]", "[[node] # here");
    finds(&header, "not TOML: unclosed array table", "close it with ]]");
    let both = found(&file("beat = # here\nfailback = \"idel\"", "", ""));
    assert_eq!(both.len(), 2, "{both:#?}");
    assert!(both[1].1.contains("failback"));
}

#[test]
fn all_mistakes_come_at_once_in_the_order_of_the_file() {
    let text = file(
        "beat = \"5ms\"\nfailback = \"idel\"",
        "hash = \"x\"\nseed = -1",
        "[[node]]\nname = \"a\"\nid = 99\naddress = \"::\"",
    );
    let lines: Vec<usize> = found(&text).iter().map(|(line, ..)| *line).collect();
    assert_eq!(lines, [2, 3, 7, 8, 11, 12]);
}

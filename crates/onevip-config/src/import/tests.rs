//! Outputs as the tools print them, and what becomes of them.

use super::*;
use onevip_core::MacAddr;
use onevip_core::Transport;
use onevip_core::{AddressOrder, HashMode};
use std::net::IpAddr;

const CLUSTERIP: &str = include_str!("../../tests/import/clusterip.txt");
const XT_CLUSTER: &str = include_str!("../../tests/import/xt_cluster.txt");
const MARKED: &str = include_str!("../../tests/import/xt_cluster_marked.txt");
const NFT: &str = include_str!("../../tests/import/nft.txt");
const CRM: &str = include_str!("../../tests/import/crm.txt");
const PCS: &str = include_str!("../../tests/import/pcs.txt");
const PCS_OLD: &str = include_str!("../../tests/import/pcs_0.9.txt");

fn hosts(count: u8) -> Answers {
    let member =
        |id| Member { name: format!("unix{id}"), addresses: vec![IpAddr::from([198, 51, 100, 10 + id])] };
    Answers { cluster: "login".into(), members: (1..=count).map(member).collect(), ..Answers::default() }
}

fn read(text: &str, answers: &Answers) -> Imported {
    import(&[SourceFile::new("rules", text)], answers)
}

/// The configuration that comes of it, which must be in order.
fn config(text: &str, answers: &Answers) -> Config {
    let imported = read(text, answers);
    let text = imported.text.unwrap_or_else(|| panic!("{}", imported.found));
    let (config, found) = Config::inspect_text("onevip.toml", &text);
    config.unwrap_or_else(|| panic!("{text}\n{found}"))
}

fn refused(text: &str, answers: &Answers) -> String {
    let imported = read(text, answers);
    assert_eq!(imported.text, None);
    imported.found.render(false)
}

#[test]
fn clusterip_keeps_address_mac_seed_and_mapping() {
    let config = config(CLUSTERIP, &hosts(4));
    let vip = &config.vips[0];
    assert_eq!(vip.addresses, ["198.51.100.10".parse::<IpAddr>().unwrap()]);
    assert_eq!(vip.interface.as_deref(), Some("eth0"));
    assert_eq!(vip.mac, MacAddr([1, 0, 0x5e, 0, 0, 0x20]));
    assert_eq!((vip.seed, vip.hash, vip.address_order), (7, HashMode::SourceIp, AddressOrder::Host));
    assert_eq!(vip.hasher().blocks, Some(4));
}

#[test]
fn every_mode_of_clusterip_is_known_and_no_other() {
    for (word, mode) in [
        ("sourceip", HashMode::SourceIp),
        ("sourceip-sourceport", HashMode::SourceIpPort),
        ("sourceip-sourceport-destport", HashMode::SourceIpPortDestPort),
    ] {
        let text = CLUSTERIP.replace("--hashmode sourceip ", &format!("--hashmode {word} "));
        assert_eq!(config(&text, &hosts(4)).vips[0].hash, mode);
    }
    let text = CLUSTERIP.replace("--hashmode sourceip ", "--hashmode random ");
    let said = refused(&text, &hosts(4));
    assert!(said.contains("CLUSTERIP has no --hashmode random") && said.contains("rules:9:"), "{said}");
    // Without --hash-init the kernel's seed is 0.
    assert_eq!(config(&CLUSTERIP.replace(" --hash-init 7", ""), &hosts(4)).vips[0].seed, 0);
}

#[test]
fn numbers_that_the_kernel_would_not_take_are_refused() {
    for (old, new, reason) in [
        ("--total-nodes 4", "--total-nodes 17", "--total-nodes is not from 1 to 16"),
        ("--total-nodes 4", "", "--total-nodes is missing"),
        ("--local-node 2", "--local-node 5", "no number of a node"),
        ("01:00:5E:00:00:20", "01:00:5E", "this is no MAC"),
        ("--hash-init 7", "--hash-init seven", "this is no seed"),
        ("198.51.100.10/32", "198.51.100.0/24", "not for one address"),
    ] {
        let said = refused(&CLUSTERIP.replace(old, new), &hosts(4));
        assert!(said.contains(reason), "{new}: {said}");
    }
}

#[test]
fn xt_cluster_is_read_as_iptables_prints_it_and_the_mac_from_its_neighbours() {
    let config = config(XT_CLUSTER, &hosts(4));
    let vip = &config.vips[0];
    assert_eq!((vip.seed, vip.address_order), (0xdead_beef, AddressOrder::Memory));
    assert_eq!(vip.mac.to_string(), "01:00:5e:00:01:01");
    assert_eq!(vip.hasher().blocks, Some(4));
    let typed = XT_CLUSTER.replace("--cluster-local-nodemask 0x00000002", "--cluster-local-node 2");
    let told = |text: &str| {
        read(text, &hosts(4)).understood.iter().map(|(_, what)| what.clone()).collect::<Vec<_>>().join("\n")
    };
    assert!(told(XT_CLUSTER).contains("this host is node 2"), "{}", told(XT_CLUSTER));
    assert_eq!(told(&typed), told(XT_CLUSTER));
    // The other way round: what is not node 2's is dropped.
    let dropped = XT_CLUSTER
        .replace("--cluster-local-nodemask 0x00000002", "! --cluster-local-nodemask 0x00000002")
        .replace("0xdeadbeef -j ACCEPT", "0xdeadbeef -j DROP");
    assert_eq!(told(&dropped), told(XT_CLUSTER));
}

#[test]
fn the_recent_rules_become_a_limit() {
    let mut found = Found::default();
    super::iptables::read(&SourceFile::new("rules", XT_CLUSTER), &mut found);
    let limit = found::ImportedLimit {
        port: Some(22),
        burst: 2,
        seconds: 7,
        action: "icmp-port-unreachable",
        counts_refused: true,
    };
    assert_eq!(found.limits, [limit]);
    let config = config(XT_CLUSTER, &hosts(4));
    let written = config.vips[0].services.iter().find(|service| service.ports.contains(&22)).unwrap();
    let written = written.limit.as_ref().unwrap();
    assert_eq!((written.burst, written.window.as_secs(), written.counts_refused), (2, 7, true));
    assert_eq!(written.refusal, onevip_core::limit::Refusal::Unreachable);
    // Noted first, a connection counts itself.
    let (before, rest) = XT_CLUSTER
        .split_once("-A INPUT -p tcp -m tcp --dport 22 -m state --state NEW -m recent --update")
        .unwrap();
    let (update, rest) = rest.split_once('\n').unwrap();
    let (set, after) = rest.split_once('\n').unwrap();
    let swapped =
        format!("{before}{set}\n-A INPUT -p tcp -m tcp --dport 22 -m recent --update{update}\n{after}");
    let mut found = Found::default();
    super::iptables::read(&SourceFile::new("rules", swapped.as_str()), &mut found);
    assert_eq!(found.limits[0].burst, 1);
}

#[test]
fn a_rule_that_names_no_address_needs_to_be_told() {
    let said = refused(MARKED, &hosts(4));
    assert!(said.contains("does not say for which address") && said.contains("--vip"), "{said}");
    let answers = Answers { vip: vec!["198.51.100.10".parse().unwrap()], ..hosts(4) };
    let imported = read(MARKED, &answers);
    let said = imported.found.render(false);
    assert!(said.contains("answer as node 2 and as node 3"), "{said}");
    assert!(imported.text.unwrap().contains("addresses = [\"198.51.100.10\"]"));
}

#[test]
fn nft_rules_are_read_in_every_shape() {
    let vip = &config(NFT, &hosts(4)).vips[0];
    assert_eq!((vip.seed, vip.address_order), (0xdead_beef, AddressOrder::Memory));
    assert_eq!(vip.mac.to_string(), "01:00:5e:33:64:0a");
    assert_eq!(vip.interface.as_deref(), Some("eth0"));
    let rule = |rule: &str| {
        let text = format!("table ip t {{\n\tchain c {{\n\t\tip daddr 198.51.100.10 {rule}\n\t}}\n}}\n");
        let mut found = Found::default();
        super::nft::read(&SourceFile::new("rules", text), &mut found);
        (
            found.schemes.into_iter().map(|s| (s.total, s.seed, s.local)).collect::<Vec<_>>(),
            found.out.render(false),
        )
    };
    for (text, local) in [
        ("jhash ip saddr mod 4 seed 0x7 1 accept", vec![2]),
        ("jhash ip saddr mod 4 seed 0x7 == 1 meta pkttype set host accept", vec![2]),
        ("jhash ip saddr mod 4 seed 0x7 offset 1 != 2 drop", vec![2]),
        ("jhash ip saddr mod 4 seed 0x7 offset 1 2 drop", vec![1, 3, 4]),
        ("jhash ip saddr mod 4 seed 0x7 { 0, 2 } counter packets 0 bytes 0 drop", vec![2, 4]),
        ("jhash ip saddr mod 4 seed 0x7 != { 0-1, 3 } drop", vec![1, 2, 4]),
        ("jhash ip saddr mod 4 seed 0x7 vmap { 0 : drop, 1 : accept, 2 : drop, 3 : accept }", vec![2, 4]),
        ("meta mark set jhash ip saddr mod 4 seed 0x7", vec![]),
    ] {
        assert_eq!(rule(text).0, [(Some(4), Some(7), local)], "{text}");
    }
    assert!(rule("jhash ip saddr mod 4 1 accept").1.contains("no seed"));
    assert!(rule("jhash ip saddr . tcp sport mod 4 seed 0x7 1 accept").1.contains("order of the wire"));
    assert!(rule("jhash ether saddr mod 4 seed 0x7 1 accept").1.contains("onevip hashes the source address"));
    assert!(rule("jhash ip saddr mod 1024 seed 0x7 1 accept").1.contains("onevip render"));
    assert!(rule("symhash mod 2 1 accept").1.contains("by chance"));
}

#[test]
fn pacemaker_is_read_from_crm_and_from_pcs() {
    let answers = Answers { members: Vec::new(), ..hosts(0) };
    let imported = read(CRM, &answers);
    let text = imported.text.unwrap_or_else(|| panic!("{}", imported.found));
    assert!(text.contains("name = \"unix1\"") && text.contains("# fill in: address"), "{text}");
    assert!(text.contains("address_order = \"host\"") && text.contains("hash = \"source-ip\""), "{text}");
    assert!(text.contains("mac = \"01:00:5e:33:64:0a\""), "{text}");
    let vip = &config(PCS, &hosts(2)).vips[0];
    assert_eq!((vip.seed, vip.address_order), (0x1234_5678, AddressOrder::Memory));
    assert_eq!(vip.hasher().blocks, Some(2));
    let vip = &config(PCS_OLD, &hosts(2)).vips[0];
    assert_eq!((vip.seed, vip.address_order, vip.hash), (0, AddressOrder::Host, HashMode::SourceIp));
}

#[test]
fn a_seed_that_the_agent_makes_up_comes_from_the_rules_of_a_node() {
    let without = PCS.replace("clusterip_hash_seed=0x12345678", "clusterip_firewall=nft");
    let said = refused(&without, &hosts(2));
    assert!(said.contains("the seed of the hash is not in this input"), "{said}");
    let nft = "table ip IPaddr2_198_51_100_10 {\n\tchain prerouting {\n\t\tiif \"eth0\" ip daddr 198.51.100.10 jhash ip saddr \
               mod 2 seed 0x77 offset 1 2 meta pkttype set host accept comment \"cip-node-2\"\n\t}\n}\n";
    let both = import(&[SourceFile::new("pcs", without), SourceFile::new("nft", nft)], &hosts(2));
    assert!(both.text.unwrap_or_else(|| panic!("{}", both.found)).contains("seed = 119"));
    let other = nft.replace("mod 2", "mod 3");
    let both = import(&[SourceFile::new("pcs", PCS), SourceFile::new("nft", other)], &hosts(2));
    assert!(both.found.render(false).contains("another number of nodes, another seed"), "{}", both.found);
}

#[test]
fn an_agent_of_which_nobody_can_tell_is_asked_about() {
    let unclear = PCS.replace("clusterip_hash_seed=0x12345678", "");
    assert!(refused(&unclear, &hosts(2)).contains("--agent clusterip"));
    let old = Answers { clusterip_agent: Some(true), ..hosts(2) };
    assert_eq!(config(&unclear, &old).vips[0].hash, HashMode::SourceIpPort);
}

#[test]
fn what_is_not_known_has_to_be_filled_in_before_the_file_is_accepted() {
    let imported = read(CLUSTERIP, &Answers { cluster: "login".into(), ..Answers::default() });
    let text = imported.text.unwrap();
    let (config, found) = Config::inspect_text("onevip.toml", &text);
    assert!(config.is_none());
    let said = found.render(false);
    assert!(said.contains("name") && said.contains("address"), "{said}");
    let (config, _) = Config::inspect_text("onevip.toml", text.replace("# fill in: ", ""));
    assert_eq!(config.unwrap().nodes.len(), 4);
}

#[test]
fn what_is_something_else_is_said_to_be() {
    assert!(refused("hello\n", &hosts(2)).contains("none of what can be imported"));
    assert!(refused("{\"nftables\": []}", &hosts(2)).contains("without -j"));
    assert!(refused("*filter\n-A INPUT -j DROP\nCOMMIT\n", &hosts(2)).contains("no rule here deals clients"));
    assert!(refused("", &hosts(2)).contains("none of what can be imported"));
    let said = refused(CLUSTERIP, &hosts(3));
    assert!(said.contains("4 nodes share this address, and 3 are named"), "{said}");
}

#[test]
fn ports_become_services() {
    let text = CLUSTERIP.replace("-i eth0", "-i eth0 -p tcp -m tcp --dport 2222");
    let services = &config(&text, &hosts(4)).vips[0].services;
    assert_eq!((services[0].transport, services[0].ports.clone()), (Transport::Tcp, 2222..=2222));
}

proptest::proptest! {
    #[test]
    fn nothing_is_too_strange_to_be_read(start in 0usize..7, cut: (usize, usize), insert: String) {
        let text = [CLUSTERIP, XT_CLUSTER, MARKED, NFT, CRM, PCS, PCS_OLD][start];
        let at = |n: usize| (0..=n % (text.len() + 1)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let (from, to) = (at(cut.0).min(at(cut.1)), at(cut.0).max(at(cut.1)));
        let damaged = format!("{}{insert}{}", &text[..from], &text[to..]);
        read(&damaged, &hosts(4));
    }
}

/// `CLUSTERIP` is in no kernel any more, so its function stands here, as `ipt_CLUSTERIP.c` (Linux 5.15) had it: `jhash` of
/// the address in host order and of the ports, `reciprocal_scale`, and nodes from 1.
fn clusterip(words: &[u32], seed: u32, total: u32) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add((words.len() as u32) << 2).wrapping_add(seed);
    let [mut a, mut b, mut c] = [0, 1, 2].map(|at| start.wrapping_add(words.get(at).copied().unwrap_or(0)));
    for (rotation, turn) in [14, 11, 25, 16, 4, 14, 24].into_iter().zip(0..) {
        let (into, from) = match turn % 3 {
            0 => (&mut c, b),
            1 => (&mut a, c),
            _ => (&mut b, a),
        };
        *into = (*into ^ from).wrapping_sub(from.rotate_left(rotation));
    }
    ((u64::from(c) * u64::from(total)) >> 32) as u32 + 1
}

#[test]
fn ten_thousand_clients_keep_the_node_that_clusterip_gave_them() {
    let mut state = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    println!("seed of the clients: {state:#x}");
    let mut next = || {
        // SplitMix64 (Steele, Lea and Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    for mode in ["sourceip", "sourceip-sourceport", "sourceip-sourceport-destport"] {
        for total in [2, 3, 4, 7, 16] {
            let text = CLUSTERIP
                .replace("--hashmode sourceip ", &format!("--hashmode {mode} "))
                .replace("--total-nodes 4", &format!("--total-nodes {total}"));
            let config = config(&text, &hosts(total));
            let (vip, table) = (&config.vips[0], config.full_table(&config.vips[0]));
            for _ in 0..10_000 {
                let (source, port) = (next() as u32, next() as u16);
                let words = [source, port.into(), 22];
                let hashed = words.len() - 2 + mode.matches("port").count();
                let theirs = clusterip(&words[..hashed], 7, total.into());
                let bucket = vip.hasher().bucket(std::net::Ipv4Addr::from_bits(source).into(), port, 22);
                let ours = table.owner(bucket).unwrap().get();
                assert_eq!(u32::from(ours), theirs, "{mode} over {total}: {source:#x} port {port}");
            }
        }
    }
}

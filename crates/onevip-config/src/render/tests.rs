//! What each format says, and what it refuses to say.

use super::*;

fn config(vip_lines: &str, nodes: u8) -> Config {
    let node =
        |id: u8| format!("[[node]]\nname = \"unix{id}\"\nid = {id}\naddress = \"198.51.100.{}\"\n", 10 + id);
    let text = format!(
        "cluster = \"login\"\n[[vip]]\nname = \"all-logins\"\n{}{vip_lines}\n{}",
        if vip_lines.contains("addresses") {
            ""
        } else {
            "addresses = [\"198.51.100.10\", \"2001:db8::10\"]\n"
        },
        (1..=nodes).map(node).collect::<String>()
    );
    let (config, found) = Config::inspect_text("onevip.toml", &text);
    config.unwrap_or_else(|| panic!("{text}\n{found}"))
}

fn made(vip_lines: &str, format: Format) -> Result<String, String> {
    let config = config(vip_lines, 4);
    render(&config, &config.nodes[1], format).map_err(|all| all.iter().map(ToString::to_string).collect())
}

const CLUSTERIP: &str = "interface = \"eth0\"\nmapping = \"clusterip\"\nseed = 7";

#[test]
fn blocks_are_said_in_both_formats() {
    let nft = made(CLUSTERIP, Format::Nft).unwrap();
    assert!(nft.contains("ip daddr 198.51.100.10 jhash ip saddr mod 4 seed 0x7 offset 1 != 2 drop"), "{nft}");
    assert!(nft.contains("arp saddr ether set 01:00:5e:33:64:0a"), "{nft}");
    assert!(nft.contains("# LEFT OUT: 2001:db8::10") && nft.contains("nobody takes over"), "{nft}");
    let iptables = made(CLUSTERIP, Format::Iptables).unwrap();
    let rule = "-m cluster --cluster-total-nodes 4 --cluster-local-node 2 --cluster-hash-seed 0x7 -j RETURN";
    assert!(iptables.contains(rule) && iptables.contains("every node answers ARP"), "{iptables}");
}

#[test]
fn the_balanced_table_is_said_by_nft_alone() {
    let lines = "interface = \"eth0\"\nseed = 7";
    let nft = made(lines, Format::Nft).unwrap();
    assert!(
        nft.contains("jhash ip saddr mod 1024 seed 0x7 != { ") && nft.contains("256 of 1024 buckets"),
        "{nft}"
    );
    assert!(made(lines, Format::Iptables).unwrap_err().contains("--format nft"));
}

#[test]
fn what_a_format_cannot_say_is_refused_with_a_remedy() {
    for (lines, reason) in [
        ("mapping = \"clusterip\"", "does not name its interface"),
        ("interface = \"eth0\"\naddresses = [\"2001:db8::10\"]", "no IPv4 address"),
        ("interface = \"eth0\"\nmapping = \"clusterip\"\naddress_order = \"host\"", "as CLUSTERIP did"),
        ("interface = \"eth0\"\nhash = \"source-ip-port\"", "hashes ports or networks"),
        ("interface = \"eth0\"\nother = \"drop\"", "drops what no service wants"),
        ("interface = \"eth0\"\ndelivery = \"flood\"", "MAC is unicast"),
    ] {
        let said = made(lines, Format::Nft).unwrap_err();
        assert!(said.contains(reason), "{lines}: {said}");
    }
    let many = config(CLUSTERIP, 40);
    assert!(render(&many, &many.nodes[0], Format::Nft).is_ok());
    let said = render(&many, &many.nodes[0], Format::Iptables).unwrap_err();
    assert!(said[0].to_string().contains("32 nodes at most"), "{said:?}");
}

#[test]
fn buckets_come_in_ranges() {
    assert_eq!(ranges([1, 2, 3, 7, 9, 10].into_iter()), [(1, 3), (7, 7), (9, 10)]);
    assert_eq!(ranges(std::iter::empty()), []);
}

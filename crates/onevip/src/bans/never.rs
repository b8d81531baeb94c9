//! Who is never banned: what the administrator says, and what the cluster itself needs.

use onevip_config::Config;
use onevip_core::Prefix;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Wider than this, and it takes force: by family.
const WIDEST: [u8; 2] = [8, 16];

/// Networks that stay let in, each with the words that say why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Never(Vec<(Prefix, String)>);

impl Never {
    /// What the configuration says, and what follows from it; with the gateways that this host has now.
    pub fn new(config: &Config) -> Self {
        Self::with(config, &gateways())
    }

    fn with(config: &Config, gateways: &[IpAddr]) -> Self {
        let mut all: Vec<(Prefix, String)> = Vec::new();
        for vip in &config.vips {
            let is = format!("an address of the VIP {}", vip.name);
            all.extend(vip.addresses.iter().map(|address| (Prefix::host(*address), is.clone())));
        }
        for node in &config.nodes {
            let is = format!("the node {}", node.name);
            all.extend(node.addresses.iter().map(|address| (Prefix::host(*address), is.clone())));
        }
        all.extend(
            gateways
                .iter()
                .copied()
                .map(Prefix::host)
                .map(|gateway| (gateway, "a gateway of this host".to_owned())),
        );
        let said = config.never_banned.iter();
        all.extend(
            said.map(|prefix| (*prefix, "never to be banned ([bans] in the configuration)".to_owned())),
        );
        Self(all)
    }

    /// Why this prefix is not banned, whatever anybody says.
    pub fn why_not(&self, prefix: &Prefix) -> Option<String> {
        let (never, is) =
            self.0.iter().find(|(never, _)| prefix.contains(never) || never.contains(prefix))?;
        Some(if never == prefix {
            format!("it is {is}")
        } else if prefix.contains(never) {
            format!("it contains {never}, which is {is}")
        } else {
            format!("it lies in {never}, which is {is}")
        })
    }
}

/// Why banning this prefix takes force.
pub fn too_wide(prefix: &Prefix) -> Option<String> {
    let widest = WIDEST[usize::from(prefix.is_v6())];
    let too_wide = prefix.length() < widest;
    too_wide.then(|| format!("it is wider than /{widest}; --force bans it all the same"))
}

/// The routers by which this host reaches the world.
fn gateways() -> Vec<IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let v4 = read("/proc/net/route").lines().filter_map(gateway4).map(IpAddr::from).collect::<Vec<_>>();
    let v6 = read("/proc/net/ipv6_route").lines().filter_map(gateway6).map(IpAddr::from).collect::<Vec<_>>();
    [v4, v6].concat()
}

/// A line of `/proc/net/route`: interface, destination, gateway, and more; numbers as they lie in memory.
fn gateway4(line: &str) -> Option<Ipv4Addr> {
    let mut fields = line.split_whitespace().skip(1);
    let mut word = || u32::from_str_radix(fields.next()?, 16).ok();
    let (destination, gateway) = (word()?, word()?);
    (destination == 0 && gateway != 0).then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
}

/// A line of `/proc/net/ipv6_route`: destination and its length, source and its length, next hop, and more.
fn gateway6(line: &str) -> Option<Ipv6Addr> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [destination, length, _, _, hop, ..] = fields.as_slice() else { return None };
    let number = |text: &str| u128::from_str_radix(text, 16).ok();
    let is_default = number(destination)? == 0 && number(length)? == 0;
    number(hop).filter(|hop| is_default && *hop != 0).map(Ipv6Addr::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_its_gateway_and_the_administrators_are_never_banned() {
        let text = "cluster = \"c\"\n[bans]\nnever = [\"10.0.0.0/8\", \"2001:db8:a::/48\"]\n[[vip]]\nname = \"login\"\n\
                    addresses = [\"198.51.100.10\"]\n[[node]]\nname = \"unix1\"\nid = 1\naddress = \"198.51.100.11\"\n";
        let (config, found) = Config::inspect_text("onevip.toml", text);
        let config = config.unwrap_or_else(|| panic!("{found}"));
        let never = Never::with(&config, &["203.0.113.1".parse().unwrap()]);
        let why = |text: &str| never.why_not(&text.parse().unwrap());
        assert_eq!(why("198.51.100.10").unwrap(), "it is an address of the VIP login");
        assert_eq!(
            why("198.51.0.0/16").unwrap(),
            "it contains 198.51.100.10, which is an address of the VIP login"
        );
        assert!(why("198.51.100.11/31").is_some());
        assert_eq!(why("198.51.100.11").unwrap(), "it is the node unix1");
        assert!(why("10.1.2.3").unwrap().starts_with("it lies in 10.0.0.0/8, which is never to be banned"));
        assert!(why("2001:db8::/32").unwrap().starts_with("it contains 2001:db8:a::/48"));
        assert_eq!(why("203.0.113.1").unwrap(), "it is a gateway of this host");
        assert!(why("0.0.0.0/0").is_some());
        assert_eq!((why("192.0.2.0/24"), why("2001:db8:b::/48")), (None, None));
    }

    #[test]
    fn very_wide_takes_force() {
        let wide = |text: &str| too_wide(&text.parse().unwrap()).is_some();
        assert!(wide("10.0.0.0/7") && wide("2000::/15") && wide("::/0"));
        assert!(!wide("10.0.0.0/8") && !wide("2001::/16"));
    }

    #[test]
    fn gateways_are_read_from_the_kernels_tables() {
        let line = format!(
            "eth0\t00000000\t{:08X}\t0003\t0\t0\t0\t00000000\t0\t0\t0",
            u32::from_ne_bytes([198, 51, 100, 1])
        );
        assert_eq!(gateway4(&line), Some(Ipv4Addr::new(198, 51, 100, 1)));
        assert_eq!(gateway4("eth0\t006433C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0"), None);
        assert_eq!(gateway4("Iface\tDestination\tGateway \tFlags"), None);
        let zero = "0".repeat(32);
        let line = format!("{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 1 0 00000003 eth0");
        assert_eq!(gateway6(&line), Some("fe80::1".parse().unwrap()));
        assert_eq!(gateway6(&format!("{zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo")), None);
    }
}

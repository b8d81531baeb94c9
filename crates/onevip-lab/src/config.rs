//! The lab's `onevip.toml`: the generated one, and what the lab must know of one that the user brings.
//!
//! The daemon judges a configuration; the lab only reads the VIP's addresses out of it, so that `ssh` and `status`
//! know where to go.

use std::fmt::Write;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};

use crate::plan::{Host, Plan, multicast_mac, vip4};

/// The configuration of a lab without `--config`: one IPv4 VIP with SSH on all nodes, fixed membership.
pub fn generate(plan: &Plan) -> String {
    let mut text = format!(
        "cluster = \"{}\"\n\
         membership = \"static\"\n\
         \n\
         [[vip]]\n\
         name = \"login\"\n\
         addresses = [\"{}\"]\n\
         interface = \"eth0\"\n\
         nodes = [\"{}\"]\n\
         \n\
         \x20 [[vip.service]]\n\
         \x20 protocol = \"tcp\"\n\
         \x20 port = 22\n",
        plan.name,
        vip4(),
        if plan.nodes == 1 { "unix1".into() } else { format!("unix[1-{}]", plan.nodes) },
    );
    for id in plan.node_ids() {
        let host = Host::Node(id);
        let address = plan.addresses4(host)[0];
        let _ = write!(text, "\n[[node]]\nname = \"{host}\"\nid = {id}\naddress = \"{address}\"\n");
    }
    text
}

/// What the lab reads out of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The addresses of the first VIP; `ssh` goes to the first of them.
    pub vip: Vec<IpAddr>,
    /// Its cluster MAC: what the file sets, else what multicast delivery derives.
    pub cluster_mac: String,
}

/// Reads VIP addresses and cluster MAC.
///
/// # Errors
/// When the text is not TOML, or has no VIP with an address.
pub fn summarise(text: &str) -> Result<Summary> {
    let table: toml::Table = text.parse().context("the configuration is not TOML")?;
    let first = table.get("vip").and_then(|vips| vips.get(0));
    let addresses = first.and_then(|vip| vip.get("addresses")).and_then(toml::Value::as_array);
    let vip: Vec<IpAddr> = addresses
        .into_iter()
        .flatten()
        .map(|a| {
            let text = a.as_str().context("an entry of vip.addresses is no string")?;
            text.parse().with_context(|| format!("{text:?} in vip.addresses is no IP address"))
        })
        .collect::<Result<_>>()?;
    ensure!(!vip.is_empty(), "the configuration has no [[vip]] with addresses; a lab needs one to log in to");
    let given = first.and_then(|vip| vip.get("mac")).and_then(toml::Value::as_str);
    let flooded = first.and_then(|vip| vip.get("delivery")).and_then(toml::Value::as_str) == Some("flood");
    ensure!(
        !flooded || given.is_some(),
        "with delivery = \"flood\", write `mac` as well: the lab must know it"
    );
    let cluster_mac = given.map_or_else(|| multicast_mac(&vip), str::to_lowercase);
    Ok(Summary { vip, cluster_mac })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generated_file_says_what_the_plan_says() {
        let plan = Plan::new("lab", 4, 60, true).unwrap();
        let text = generate(&plan);
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["cluster"].as_str(), Some("lab"));
        assert_eq!(table["vip"][0]["nodes"][0].as_str(), Some("unix[1-4]"));
        assert_eq!(table["vip"][0]["service"][0]["port"].as_integer(), Some(22));
        assert_eq!(table["node"].as_array().unwrap().len(), 4);
        assert_eq!(table["node"][3]["address"].as_str(), Some("198.51.100.14"));
        let summary = summarise(&text).unwrap();
        assert_eq!(summary.vip, [IpAddr::from(vip4())]);
        assert_eq!(summary.cluster_mac, "01:00:5e:33:64:0a");
    }

    #[test]
    fn a_lab_of_one_needs_no_range() {
        let text = generate(&Plan::new("solo", 1, 1, true).unwrap());
        assert!(text.contains("nodes = [\"unix1\"]"), "{text}");
    }

    #[test]
    fn the_mac_is_the_files_own_where_it_has_one() {
        let vip = "[[vip]]\naddresses = [\"198.51.100.10\"]\n";
        let flood = format!("{vip}delivery = \"flood\"\n");
        assert!(summarise(&flood).unwrap_err().to_string().contains("`mac`"));
        assert_eq!(
            summarise(&format!("{flood}mac = \"02:6F:76:00:00:01\"")).unwrap().cluster_mac,
            "02:6f:76:00:00:01"
        );
    }

    #[test]
    fn a_file_without_vip_is_refused_with_the_remedy() {
        let message = summarise("cluster = \"x\"").unwrap_err().to_string();
        assert!(message.contains("[[vip]]"), "{message}");
        assert!(summarise("[[vip]]\naddresses = [\"nonsense\"]").is_err());
        assert!(summarise("not toml").is_err());
    }
}

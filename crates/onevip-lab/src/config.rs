//! The lab's `onevip.toml`: the generated one, and what the lab must know of one that the user brings.
//!
//! The daemon validates a configuration; the lab only reads the VIP's addresses out of it, so that `ssh` and `status`
//! know where to go.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use onevip_core::MacAddr;

use crate::plan::{Host, LabPlan, Name, multicast_mac, vip4, vip6};

/// The configuration of a lab without `--config`: a VIP of both families with SSH on all nodes,
/// membership as planned.
pub fn generate(plan: &LabPlan) -> String {
    let mut text = format!(
        "cluster = \"{}\"\n\
         {}\
         \n\
         [health]\n\
         scope = \"cgroup\"\n\
         \n\
         [[vip]]\n\
         name = \"login\"\n\
         addresses = [\"{}\", \"{}\"]\n\
         interface = \"eth0\"\n\
         nodes = [\"{}\"]\n\
         \n\
         \x20 [[vip.service]]\n\
         \x20 protocol = \"tcp\"\n\
         \x20 port = 22\n",
        plan.name,
        membership(plan),
        vip4(),
        vip6(),
        if plan.nodes == 1 { "unix1".into() } else { format!("unix[1-{}]", plan.nodes) },
    );
    for id in plan.node_ids() {
        let host = Host::Node(id);
        let (v4, v6) = (plan.addresses4(host)[0], plan.addresses6(host)[0]);
        let _ = write!(text, "\n[[node]]\nname = \"{host}\"\nid = {id}\naddress = [\"{v4}\", \"{v6}\"]\n");
    }
    text
}

fn membership(plan: &LabPlan) -> String {
    if plan.living {
        let key = key_path(&plan.name);
        format!("membership = \"living\"\nkey_file = \"{}\"\n", key.display())
    } else {
        "membership = \"static\"\n".into()
    }
}

/// Where the key that seals the beats lies, one file for all nodes.
pub fn key_path(name: &Name) -> PathBuf {
    name.dir().join("key")
}

/// A new key file, readable by its owner alone.
///
/// # Errors
/// When it cannot be written.
pub fn create_key(path: &Path) -> Result<()> {
    let mut key = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| writeln!(file, "send {digits}"));
    written.with_context(|| format!("cannot write the key file {}", path.display()))
}

/// Whether a configuration has living membership.
pub fn is_living(text: &str) -> bool {
    let table: toml::Table = text.parse().unwrap_or_default();
    table.get("membership").and_then(toml::Value::as_str) == Some("living")
}

/// The nodes of a configuration whose weight is not 0.
pub fn weighted(text: &str) -> Vec<u8> {
    let table: toml::Table = text.parse().unwrap_or_default();
    let nodes = table.get("node").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let number = |node: &toml::Value, key| node.get(key).and_then(toml::Value::as_integer);
    let weighted = nodes.iter().filter(|node| number(node, "weight") != Some(0));
    weighted.filter_map(|node| u8::try_from(number(node, "id")?).ok()).collect()
}

/// What the lab reads out of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSummary {
    /// The addresses of the first VIP; `ssh` goes to the first of them.
    pub vip: Vec<IpAddr>,
    /// Its cluster MAC: what the file sets, else what its delivery derives.
    pub cluster_mac: String,
}

/// Reads VIP addresses and cluster MAC.
///
/// # Errors
/// When the text is not TOML, or has no VIP with an address.
pub fn summarise(text: &str) -> Result<ConfigSummary> {
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
    let derived = || match flooded {
        true => MacAddr::flood_for(&vip).map_or_else(String::new, |mac| mac.to_string()),
        false => multicast_mac(&vip),
    };
    let cluster_mac = given.map_or_else(derived, str::to_lowercase);
    Ok(ConfigSummary { vip, cluster_mac })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generated_file_says_what_the_plan_says() {
        let plan = LabPlan::new("lab", 4, 60, true).unwrap();
        let text = generate(&plan);
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["cluster"].as_str(), Some("lab"));
        assert_eq!(table["vip"][0]["nodes"][0].as_str(), Some("unix[1-4]"));
        assert_eq!(table["vip"][0]["service"][0]["port"].as_integer(), Some(22));
        assert_eq!(table["node"].as_array().unwrap().len(), 4);
        assert_eq!(table["node"][3]["address"][0].as_str(), Some("198.51.100.14"));
        assert_eq!(table["node"][3]["address"][1].as_str(), Some("2001:db8::14"));
        let summary = summarise(&text).unwrap();
        assert_eq!(summary.vip, [IpAddr::from(vip4()), vip6().into()]);
        assert_eq!(summary.cluster_mac, "01:00:5e:33:64:0a");
    }

    #[test]
    fn membership_is_as_planned() {
        let living = LabPlan::new("lab", 4, 60, true).unwrap();
        assert!(is_living(&generate(&living)));
        assert!(generate(&living).contains("key_file = \"/run/onevip-lab/lab/key\""));
        assert!(!is_living(&generate(&LabPlan { living: false, ..living })));
    }

    #[test]
    fn a_node_without_weight_is_not_waited_for() {
        let text = "[[node]]\nid = 1\n[[node]]\nid = 2\nweight = 0\n[[node]]\nid = 3\nweight = 50\n";
        assert_eq!(weighted(text), [1, 3]);
    }

    #[test]
    fn a_lab_of_one_needs_no_range() {
        let text = generate(&LabPlan::new("solo", 1, 1, true).unwrap());
        assert!(text.contains("nodes = [\"unix1\"]"), "{text}");
    }

    #[test]
    fn the_mac_is_the_files_own_where_it_has_one() {
        let vip = "[[vip]]\naddresses = [\"198.51.100.10\"]\n";
        let flood = format!("{vip}delivery = \"flood\"\n");
        assert!(summarise(&flood).unwrap().cluster_mac.starts_with("02:6f:76:"));
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

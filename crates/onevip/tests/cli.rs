//! The command line as scripts and administrators meet it: the real binary, its output and its exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/onevip.toml");

fn onevip(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onevip"))
        .args(args)
        .output()
        .expect("the binary was built with this test")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A configuration in a folder of its own, which goes when the test is over.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("onevip-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let path = folder.join("onevip.toml");
        std::fs::write(&path, text).expect("the temporary folder is writable");
        Self(path)
    }

    /// The shipped example with one text in the place of another.
    fn edited(name: &str, old: &str, new: &str) -> Self {
        let example = std::fs::read_to_string(EXAMPLE).expect("the example is shipped");
        assert!(example.contains(old), "the example has {old}");
        Self::new(name, &example.replace(old, new))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("the temporary folder has a plain name")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap_or(Path::new("/nonexistent")));
    }
}

/// The JSON objects that `onevip where --json` prints, one a line.
fn answers(config: &str, args: &[&str]) -> Vec<serde_json::Value> {
    let output = onevip(&[&["--config", config, "where", "--json"], args].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output).lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

#[test]
fn check_says_what_a_good_file_means() {
    let output = onevip(&["check", EXAMPLE]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    for part in ["in order", "unix[1-4] (4)", "198.51.100.10, 2001:db8::10", "tcp 22", "01:00:5e:33:64:0a"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(stderr(&output).is_empty());
}

#[test]
fn check_shows_all_mistakes_and_exits_with_two() {
    let file = File::edited("mistakes", "id = 2", "id = 1\nwieght = 3");
    let output = onevip(&["check", file.path()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stdout(&output).is_empty());
    let text = stderr(&output);
    for part in
        ["two nodes have the number 1", "2 is free", "unknown key `wieght`", "2 mistakes", "onevip.toml:"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains('\x1b'), "colour only on a terminal");
}

#[test]
fn check_with_a_node_wants_it_in_the_file() {
    assert_eq!(onevip(&["check", EXAMPLE, "--node", "unix2"]).status.code(), Some(0));
    let output = onevip(&["check", EXAMPLE, "--node", "unix9"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("its nodes are: unix[1-4]"), "{}", stderr(&output));
}

#[test]
fn every_command_refuses_a_wrong_configuration_in_full() {
    let file = File::edited("refused", "id = 2", "id = 1");
    let output = onevip(&["--config", file.path(), "where", "198.51.100.77"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("two nodes have the number 1"));
    let output = onevip(&["where", "198.51.100.77", "--config", "/nonexistent/onevip.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/nonexistent/onevip.toml") && stderr(&output).contains("--config"));
}

#[test]
fn global_options_work_before_and_after_the_command() {
    let before = onevip(&["--config", EXAMPLE, "where", "198.51.100.77"]);
    let after = onevip(&["where", "198.51.100.77", "--config", EXAMPLE]);
    assert!(before.status.success());
    assert_eq!(before.stdout, after.stdout);
}

#[test]
fn where_names_the_node_first_and_then_the_reasons() {
    let output = onevip(&["--config", EXAMPLE, "where", "198.51.100.77"]);
    let text = stdout(&output);
    let json = &answers(EXAMPLE, &["198.51.100.77"])[0];
    let node = json["node"].as_str().unwrap();
    assert_eq!(text.lines().next(), Some(format!("198.51.100.77 → {node}").as_str()));
    assert!(text.contains(json["hash"].as_str().unwrap()));
    assert!(text.contains(&format!("bucket  {}", json["bucket"])));
    assert!(text.contains("as if all nodes were alive"));
}

#[test]
fn where_as_json_has_the_promised_shape() {
    let all = answers(EXAMPLE, &["198.51.100.77"]);
    let [one] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((&one["client"], &one["vip"]), (&"198.51.100.77".into(), &"login".into()));
    // A bucket is reciprocal_scale(hash, 1024), as in the kernel.
    let bucket = one["bucket"].as_u64().unwrap();
    let hash = u64::from_str_radix(one["hash"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    assert_eq!(bucket, (hash * 1024) >> 32);
    let id = one["node_id"].as_u64().unwrap();
    assert_eq!(one["node"], format!("unix{id}"));
    assert_eq!(one["basis"], "configuration");
    assert!(one["reason"].as_str().unwrap().contains(&format!("selects bucket {bucket}")));
    assert!(one.get("warning").is_none());
}

#[test]
fn clients_spread_over_all_nodes_and_ports_do_not_matter_by_default() {
    let node = |client: &str| answers(EXAMPLE, &[client])[0]["node"].as_str().unwrap().to_owned();
    let nodes: std::collections::BTreeSet<String> = (1..40).map(|n| node(&format!("192.0.2.{n}"))).collect();
    assert_eq!(nodes.len(), 4, "{nodes:?}");
    assert_eq!(node("192.0.2.7"), node("192.0.2.7:50022"));
    assert_eq!(node("2001:db8::7"), node("[2001:db8::7]:50022"));
}

#[test]
fn clusterip_mapping_chooses_the_node_that_clusterip_chose() {
    let file = File::edited("clusterip", "#mapping = \"balanced\"", "mapping = \"clusterip\"");
    for n in 1..40 {
        let one = &answers(file.path(), &[&format!("192.0.2.{n}")])[0];
        let hash = u64::from_str_radix(one["hash"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
        assert_eq!(one["node_id"], 1 + ((hash * 4) >> 32));
    }
}

#[test]
fn where_names_no_node_when_the_port_it_needs_is_not_told() {
    let hash = "#hash = \"source-ip\" ";
    let file = File::edited("ports", hash, "hash = \"source-ip-port-dest-port\" ");
    let one = &answers(file.path(), &["198.51.100.77"])[0];
    assert!(one["node"].is_null() && one["bucket"].is_null());
    assert!(one["warning"].as_str().unwrap().contains("ADDRESS:PORT"));
    let told =
        |more: &[&str]| answers(file.path(), &[&["198.51.100.77:4000"], more].concat())[0]["hash"].clone();
    assert_eq!(told(&[]), told(&["--dest-port", "22"]), "the only service is on port 22");
    assert_ne!(told(&[]), told(&["--dest-port", "23"]));
    let human = onevip(&["--config", file.path(), "where", "198.51.100.77"]);
    assert!(stdout(&human).contains("→ depends on its port"), "{}", stdout(&human));
}

#[test]
fn where_answers_for_each_vip_or_the_one_asked_for() {
    let more = "[[vip]]\nname = \"gpu\"\naddresses = [\"198.51.100.20\"]\nnodes = \"unix[3-4]\"\n[[node]]\nname = \"unix1\"";
    let file = File::edited("vips", "[[node]]\nname = \"unix1\"", more);
    let vips = |args: &[&str]| -> Vec<String> {
        answers(file.path(), args).iter().map(|one| one["vip"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(vips(&["192.0.2.1"]), ["login", "gpu"]);
    assert_eq!(vips(&["192.0.2.1", "--vip", "gpu"]), ["gpu"]);
    let six = answers(file.path(), &["2001:db8::1", "--vip", "gpu"]);
    assert!(six[0]["node"].is_null() && six[0]["reason"].as_str().unwrap().contains("no IPv6 address"));
    let output = onevip(&["--config", file.path(), "where", "192.0.2.1", "--vip", "gup"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("did you mean --vip gpu?"));
}

#[test]
fn where_refuses_what_is_no_client() {
    for (client, word) in [("unix1", "getent"), ("192.0.2.0/24", "not a network"), ("192.0.2.1:0", "port 0")]
    {
        let output = onevip(&["--config", EXAMPLE, "where", client]);
        assert_eq!(output.status.code(), Some(2), "{client}");
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    }
    let output = onevip(&["--config", EXAMPLE, "where", "198.51.100.10"]);
    assert!(stdout(&output).contains("is the VIP login itself"), "{}", stdout(&output));
}

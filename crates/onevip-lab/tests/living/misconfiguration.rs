//! Mistakes of administrators: each is named where they look, and the cluster goes on without the one who made it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use onevip_lab::{Lab, config, daemon, wait_until};

use super::{PATIENCE, bare};

/// Gives unix3 a configuration file of its own, made of the common one.
fn edit_unix3(lab: &Lab, edit: impl Fn(&str) -> String) {
    let common = fs::read_to_string(lab.dir().join("onevip.toml")).unwrap();
    let own = lab.node(3).config();
    fs::remove_file(&own).unwrap();
    fs::write(own, edit(&common)).unwrap();
}

/// A key file of unix3's own, named in its configuration.
fn own_key(lab: &Lab) -> PathBuf {
    let path = lab.node(3).dir().join("key");
    let (common, own) = (config::key_path(lab.name()).display().to_string(), path.display().to_string());
    edit_unix3(lab, |text| text.replace(&common, &own));
    path
}

/// unix1 and unix2 begin, and share everything.
fn two_begin(lab: &Lab) {
    for id in [1, 2] {
        lab.node(id).start_onevip().unwrap();
    }
    they_share_everything(lab);
}

fn they_share_everything(lab: &Lab) {
    let all = || lab.node(1).claims().unwrap_or(0) + lab.node(2).claims().unwrap_or(0) == 1024;
    wait_until(PATIENCE, "unix1 and unix2 to claim everything", all).unwrap();
    let landed = lab.ssh(None, "hostname").unwrap();
    assert!(landed.status.success(), "{}", String::from_utf8_lossy(&landed.stderr));
}

/// Starts unix3's daemon and waits until a node's log has a word.
fn start_until_said(lab: &Lab, by: u8, word: &str) {
    daemon::start(lab.name(), 3).unwrap();
    wait_until(PATIENCE, &format!("unix{by} to say {word:?}"), || lab.node(by).onevip_log().contains(word))
        .unwrap_or_else(|error| panic!("{error}\n{}", lab.node(by).onevip_log()));
}

#[test]
fn a_missing_key_is_named_with_the_remedy() {
    let lab = bare("nokey");
    two_begin(&lab);
    let key = own_key(&lab);
    start_until_said(&lab, 3, "onevip keygen");
    let said = lab.node(3).onevip_log();
    assert!(said.contains("waits") && said.contains(&key.display().to_string()), "{said}");
    they_share_everything(&lab);
    assert_eq!(lab.node(3).claims(), None, "it does not serve");
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let lab = bare("readable");
    two_begin(&lab);
    let key = own_key(&lab);
    fs::copy(config::key_path(lab.name()), &key).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    start_until_said(&lab, 3, "chmod 600");
    let said = lab.node(3).onevip_log();
    assert!(said.contains("waits") && said.contains("644"), "{said}");
    they_share_everything(&lab);
    assert_eq!(lab.node(3).claims(), None, "it does not serve");
}

#[test]
fn a_node_with_another_key_stays_outside_and_says_why() {
    let lab = bare("otherkey");
    two_begin(&lab);
    config::create_key(Path::new(&own_key(&lab))).unwrap();
    start_until_said(&lab, 3, "no key here opens");
    they_share_everything(&lab);
    assert_eq!(lab.node(3).claims(), Some(0), "it claims nothing");
    let status = lab.node(1).onevip_status().unwrap();
    let rejected = &status["vips"][0]["membership"]["beats_rejected"];
    assert!(rejected["unknown-key"].as_u64().is_some_and(|count| count > 0), "{rejected}");
}

#[test]
fn a_number_that_is_taken_is_named() {
    let lab = bare("twin");
    two_begin(&lab);
    let swap = |text: &str| {
        text.replace("name = \"unix2\"\nid = 2", "name = \"unix2\"\nid = 9")
            .replace("name = \"unix3\"\nid = 3", "name = \"unix3\"\nid = 2")
    };
    edit_unix3(&lab, swap);
    start_until_said(&lab, 3, "this node's number");
    they_share_everything(&lab);
    assert_eq!(lab.node(3).claims(), Some(0), "it claims nothing");
    wait_until(PATIENCE, "unix1 to name it", || lab.node(1).onevip_log().contains("two hosts beat as unix2"))
        .unwrap_or_else(|error| panic!("{error}\n{}", lab.node(1).onevip_log()));
}

#[test]
fn a_node_that_is_not_in_the_file_is_reported_and_not_fought() {
    let lab = bare("unlisted");
    let whole = fs::read_to_string(lab.dir().join("onevip.toml")).unwrap();
    edit_unix3(&lab, str::to_owned);
    let without =
        whole.split("\n[[node]]\nname = \"unix3\"").next().unwrap().replace("unix[1-3]", "unix[1-2]");
    lab.write_config(&without).unwrap();
    two_begin(&lab);
    start_until_said(&lab, 1, "not in this node's configuration");
    let all = || (1..=3).map(|id| lab.node(id).claims().unwrap_or(0)).sum::<u64>() == 1024;
    wait_until(PATIENCE, "every bucket to be claimed once", all).unwrap();
    let landed = lab.ssh(None, "hostname").unwrap();
    assert!(landed.status.success(), "{}", String::from_utf8_lossy(&landed.stderr));
}

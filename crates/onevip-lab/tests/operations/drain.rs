//! `onevip drain` as people meet it: progress, a word on their terminals, an end that was announced.

use onevip_lab::wait_until;

use super::{PATIENCE, clients_of, lab, onevip, said, sit_down, stdout, types};

#[test]
fn a_drain_tells_people_lists_who_is_left_and_ends_the_rest() {
    let lab = lab("opdrain", 2);
    let (here, there) = (clients_of(&lab, 2, 1)[0], clients_of(&lab, 1, 1)[0]);
    let (mut stays, mut elsewhere) = (sit_down(&lab, 2, here), sit_down(&lab, 1, there));

    let words = ["--wait", "--timeout", "1s", "--notify", "kernel update at noon"];
    let output = onevip(&lab, 2, "drain", &words);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("told 1 terminals") && text.contains("1 session left: root 1"), "{text}");
    assert!(text.contains(&format!("{here}:")), "who is left is listed: {text}");
    stays.until_it_shows("kernel update at noon");
    types(&mut stays, "one moment please");

    let output = onevip(&lab, 2, "drain", &["--wait", "--kill-after", "1s"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("ended 1 of 1 sessions") && text.contains("may be stopped"), "{text}");
    assert!(stays.text().contains("Your session ends in 1s"), "{:?}", stays.text());
    wait_until(PATIENCE, "the session to end", || stays.child.try_wait().unwrap().is_some()).unwrap();
    types(&mut elsewhere, "still here");
    assert!(!elsewhere.text().contains("Message from"), "{:?}", elsewhere.text());
}

#[test]
fn a_drain_ends_when_the_last_session_does() {
    let lab = lab("oplast", 2);
    let client = clients_of(&lab, 2, 1)[0];
    let terminal = sit_down(&lab, 2, client);
    let mut drain = lab.node(2).onevip_command("drain").unwrap();
    let mut drain = drain.arg("--wait").stdout(std::process::Stdio::piped()).spawn().unwrap();
    wait_until(PATIENCE, "unix2 to claim nothing", || lab.node(2).claims() == Some(0)).unwrap();
    assert!(drain.try_wait().unwrap().is_none(), "it waits");
    drop(terminal);
    wait_until(PATIENCE, "the drain to end", || drain.try_wait().unwrap().is_some()).unwrap();
    assert!(drain.wait().unwrap().success());
}

#[test]
fn the_last_serving_node_is_drained_only_by_force() {
    let lab = lab("opforce", 2);
    said(&lab, 1, "drain", &[]);
    wait_until(PATIENCE, "unix2 to claim everything", || lab.node(2).claims() == Some(1024)).unwrap();
    let refused = onevip(&lab, 2, "drain", &[]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && why.contains("--force"), "{why}");
    assert_eq!(lab.node(2).claims(), Some(1024), "nothing has changed");
    said(&lab, 2, "drain", &["--force"]);
    wait_until(PATIENCE, "unix2 to claim nothing", || lab.node(2).claims() == Some(0)).unwrap();
}

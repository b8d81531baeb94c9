//! What checks must not do: fill a log, disturb who is well, act where nobody would take over.

use onevip_lab::LabFault;

use super::*;

#[test]
fn an_idle_sshd_logs_one_call_and_not_a_single_probe() {
    let lab = Lab::up(options("quiet")).unwrap();
    // The lab's sshd logs at VERBOSE, two lines for what is one line at the default; IPv4 and IPv6 are
    // called once each.
    let lines =
        || lab.node(1).sshd_log().lines().filter(|line| !line.starts_with("Server listening")).count();
    let probed = |words: &str| words.starts_with("takes connections");
    wait_until(PATIENCE, "a call to be logged", || lines() >= 4).unwrap();
    let mut times = std::collections::BTreeSet::new();
    wait_until(PATIENCE, "two probes", || {
        let words = checked(&lab, 1, "sshd")["finding"].as_str().unwrap().to_owned();
        times.extend(Some(words).filter(|words| probed(words)));
        // Each probe tells another time.
        times.len() >= 2
    })
    .unwrap();
    assert_eq!(lines(), 4, "{}", lab.node(1).sshd_log());
}

#[test]
fn a_probe_is_no_session_and_keeps_no_bucket_busy() {
    let lab = Lab::up(options("guests")).unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        for node in lab.nodes() {
            let vip = node.onevip_status().unwrap()["vips"][0].clone();
            assert_eq!((vip["sessions"].as_u64(), vip["guests"].as_u64()), (Some(0), Some(0)), "{vip}");
        }
    }
}

#[test]
fn with_fixed_nodes_health_is_shown_and_changes_nothing() {
    let lab = Lab::up(options("static").static_membership()).unwrap();
    let claims = lab.node(2).claims();
    lab.fault(&LabFault::KillSshd(2)).unwrap();
    until_state(&lab, 2, "sshd", "out");
    assert_eq!(lab.node(2).claims(), claims);
    let page =
        onevip_lab::process::run_ok(&mut lab.node(2).onevip_command("status").unwrap(), PATIENCE).unwrap();
    assert!(page.contains("nothing listens") && page.contains("without effect"), "{page}");
    lab.heal(None).unwrap();
    until_state(&lab, 2, "sshd", "well");
}

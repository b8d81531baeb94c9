//! An `sshd` that does not answer.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use onevip_lab::LabFault;

use super::*;

#[test]
fn a_killed_sshds_users_are_served_elsewhere() {
    it_goes_out_and_comes_back(testbed(options("kill")), &LabFault::KillSshd(2), "sshd");
}

#[test]
fn a_frozen_sshds_users_are_served_elsewhere() {
    it_goes_out_and_comes_back(testbed(options("freeze")), &LabFault::FreezeSshd(2), "sshd");
}

#[test]
fn a_frozen_sshd_is_known_by_its_queue_before_anybody_has_waited_in_vain() {
    // Patient enough that no question and no client's waiting can be what is noticed within this test.
    let slow = "[health]\ntimeout = \"20s\"\ninterval = \"2s\"\n";
    let mut testbed = testbed(options("queue").edit_config(|text| text.replace("[health]\n", slow)).unwrap());
    until_state(&testbed.lab, 2, "sshd", "well");
    let client = client_of(&testbed, 2);
    testbed.lab.fault(&LabFault::FreezeSshd(2)).unwrap();
    let _waits = connect(&testbed.lab, client);
    until_served(&mut testbed, |node| node != 2);
    let found = checked(&testbed.lab, 2, "sshd");
    assert!(found["finding"].as_str().unwrap().starts_with("takes nobody from its queue ("), "{found}");
    testbed.lab.heal(None).unwrap();
    until_back(&mut testbed, 2);
    nobody_lost_a_session(&mut testbed);
}

#[test]
fn a_full_sshds_users_are_served_elsewhere() {
    it_goes_out_and_comes_back(testbed(options("full")), &LabFault::SshdMaxstartups(2), "sshd");
}

#[test]
fn a_slow_sshd_is_noticed_by_the_first_user_who_waits() {
    let mut testbed = testbed(options("slow"));
    let client = client_of(&testbed, 2);
    testbed.lab.fault(&LabFault::SshdSlow(2)).unwrap();
    let _waits = connect(&testbed.lab, client);
    until_served(&mut testbed, |node| node != 2);
    let found = checked(&testbed.lab, 2, "sshd");
    assert!(found["state"] == "out", "{found}");
    nobody_lost_a_session(&mut testbed);
    testbed.lab.heal(None).unwrap();
    until_back(&mut testbed, 2);
    nobody_lost_a_session(&mut testbed);
}

#[test]
fn a_restart_of_sshd_moves_nobody() {
    let mut testbed = testbed(options("again"));
    for _ in 0..3 {
        testbed.lab.fault(&LabFault::KillSshd(2)).unwrap();
        testbed.lab.heal(None).unwrap();
        testbed.watch(std::time::Instant::now() + Duration::from_millis(1500), |_| false).unwrap();
    }
    let log = testbed.lab.node(2).onevip_log();
    assert!(!log.contains("sshd:"), "{log}");
    until(&mut testbed, "everybody to be at home", |testbed| {
        testbed.served().is_some_and(|served| served == testbed.home)
    });
}

#[test]
fn an_sshd_that_is_reached_by_ipv6_alone_is_examined_too() {
    let v6 = onevip_lab::plan::vip6();
    let edit = |text: String| {
        let lines = text.lines().map(|line| match line.starts_with("addresses = ") {
            true => format!("addresses = [\"{v6}\"]\n"),
            false => format!("{line}\n"),
        });
        lines.collect()
    };
    let lab = Lab::up(options("six").edit_config(edit).unwrap()).unwrap();
    until_state(&lab, 2, "sshd", "well");
    lab.fault(&LabFault::KillSshd(2)).unwrap();
    until_state(&lab, 2, "sshd", "out");
    wait_until(PATIENCE, "unix2 to claim nothing", || lab.node(2).claims() == Some(0)).unwrap();
    lab.heal(None).unwrap();
    until_state(&lab, 2, "sshd", "well");
    wait_until(PATIENCE, "unix2 to serve", || lab.node(2).claims().is_some_and(|claims| claims > 0)).unwrap();
}

/// In the place of a node's `sshd`: says a banner, or closes what it accepts at once, as a relay without a backend does.
struct Relay {
    greets: Arc<AtomicBool>,
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    fn listen(lab: &Lab, node: u8, at: SocketAddr) -> Self {
        let listener = lab.inside(&format!("unix{node}"), || TcpListener::bind(at)).unwrap().unwrap();
        listener.set_nonblocking(true).unwrap();
        let [greets, stops] = [true, false].map(|is| Arc::new(AtomicBool::new(is)));
        let (greets_now, stopped) = (Arc::clone(&greets), Arc::clone(&stops));
        let serve = move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut client, _)) if greets_now.load(Ordering::Relaxed) => {
                        // Probes and clients may be gone again.
                        let _ = client.write_all(b"SSH-2.0-relay\r\n");
                    }
                    Ok(_) => {}
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        };
        Self { greets, stops, thread: Some(std::thread::spawn(serve)) }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

#[test]
fn who_closes_at_once_is_out_after_the_first_client() {
    let testbed = testbed(options("relay"));
    let client = client_of(&testbed, 2);
    testbed.lab.fault(&LabFault::KillSshd(2)).unwrap();
    until_state(&testbed.lab, 2, "sshd", "out");
    let relay = Relay::listen(&testbed.lab, 2, "[::]:22".parse().unwrap());
    until_state(&testbed.lab, 2, "sshd", "well");
    wait_until(PATIENCE, "unix2 to serve", || testbed.lab.node(2).claims().is_some_and(|claims| claims > 0))
        .unwrap();
    relay.greets.store(false, Ordering::Relaxed);
    wait_until(PATIENCE, "the node to notice", || {
        drop(connect(&testbed.lab, client));
        checked(&testbed.lab, 2, "sshd")["state"] == "out"
    })
    .unwrap();
    let found = checked(&testbed.lab, 2, "sshd");
    assert_eq!(found["finding"], "closes connections without a word", "{found}");
}

#[test]
fn an_sshd_in_one_family_alone_is_out_and_says_which_it_lacks() {
    let v6 = onevip_lab::plan::vip6();
    let lines = |line: &str| match line.strip_prefix("addresses = [") {
        Some(rest) if !rest.contains(':') => format!("addresses = [\"{v6}\", {rest}\n"),
        _ => format!("{line}\n"),
    };
    let edit = |text: String| text.lines().map(lines).collect();
    let lab = Lab::up(options("family").edit_config(edit).unwrap()).unwrap();
    until_state(&lab, 2, "sshd", "well");
    lab.fault(&LabFault::KillSshd(2)).unwrap();
    until_state(&lab, 2, "sshd", "out");
    let _v6 = Relay::listen(&lab, 2, (v6, 22).into());
    let finding = || checked(&lab, 2, "sshd")["finding"].as_str().unwrap().to_owned();
    wait_until(PATIENCE, "IPv4 alone to be missed", || finding() == "IPv4: nothing listens").unwrap();
    assert_eq!(checked(&lab, 2, "sshd")["state"], "out");
    wait_until(PATIENCE, "unix1 to hear", || told_illness(&lab, 1, 2) == 1).unwrap();
    assert_eq!(lab.node(2).claims(), Some(0));
    let _v4 = Relay::listen(&lab, 2, "0.0.0.0:22".parse().unwrap());
    until_state(&lab, 2, "sshd", "well");
}

//! Sessions stay where they are: whatever happens to the daemon, and whoever the table says owns their bucket now.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use onevip_core::{Flags, Reason};
use onevip_lab::{Lab, LabFault};

use crate::common::{
    Mode, Segment, Session, Watch, all_claim, bpf, bucket, client_of, client_of_each_family, in_every_mode,
    kill_daemon, landed, move_bucket, status, verdicts, wait, words,
};

in_every_mode!(
    a_session_outlives_kill_9_sigterm_and_upgrade,
    nobody_resets_or_answers_a_session_whose_bucket_moves,
);

/// Echoes of a session that nobody disturbs take far less; a lost segment takes TCP 200 ms at least.
const LONG: Duration = Duration::from_secs(2);

fn a_session_outlives_kill_9_sigterm_and_upgrade(mode: Mode) {
    let lab = mode.lab("e2e-outlive", 2, 20);
    let [client, client6] = client_of_each_family(&lab, 1);
    let pins = lab.node(1).run_dir().join("bpf");
    let resets = Watch::resets(&lab);
    let mut session = Session::open(&lab, client);
    let mut session6 = Session::open(&lab, client6);
    let ((), longest) = session.while_typing(2000, |_| {
        kill_daemon(&lab, 1);
        wait("the lease to run out", || status(&lab, 1)["lease"]["live"] == false);
        assert_eq!(status(&lab, 1)["vips"][0]["sessions"], 2);
        restarts(&lab, &pins, "adopted", true);

        lab.node(1).stop_onevip();
        assert!(lab.node(1).onevip().is_none());
        restarts(&lab, &pins, "adopted", true);

        // What is pinned is of another version as soon as its instructions are others.
        lab.node(1).stop_onevip();
        swap(&pins, "program_ingress", "program_egress");
        restarts(&lab, &pins, "earlier version replaced", false);
        runs_what_is_pinned(&lab, mode, &pins);
    });
    println!("{mode:?}: longest echo through two restarts and an upgrade: {longest:?}");
    assert!(session.echoes() && session6.echoes());
    assert_eq!(landed(&lab, client), "unix1");
    assert_eq!(landed(&lab, client6), "unix1");
    assert_eq!(resets.seen(), []);
}

/// Starts the daemon of unix1 again; it finds what it must find, and nothing stays unattached.
fn restarts(lab: &Lab, pins: &Path, found: &str, same_program: bool) {
    let said = lab.node(1).onevip_log().len();
    let before = bpf::id(&pins.join("program_egress")).unwrap();
    lab.node(1).start_onevip().unwrap();
    let log = lab.node(1).onevip_log();
    assert!(log[said..].contains(found), "{}", &log[said..]);
    assert!(!log[said..].contains("it is back"), "something had been missing: {}", &log[said..]);
    assert_eq!(bpf::id(&pins.join("program_egress")).unwrap() == before, same_program);
    all_claim(lab);
}

/// The programs on the interface are those that are pinned, and no others.
fn runs_what_is_pinned(lab: &Lab, mode: Mode, pins: &Path) {
    let index = lab.inside("unix1", || nix::net::if_::if_nametoindex("eth0").unwrap()).unwrap();
    let hooks: &[&str] =
        if mode == Mode::Xdp { &["ingress", "egress", "xdp"] } else { &["ingress", "egress"] };
    for hook in hooks {
        let pinned = bpf::id(&pins.join(format!("program_{hook}"))).unwrap();
        if mode == Mode::Clsact {
            let text = lab.exec_ok("unix1", &["tc", "filter", "show", "dev", "eth0", hook]).unwrap();
            assert!(text.contains(&format!(" id {pinned} ")), "program {pinned} is not in {text}");
        } else {
            assert_eq!(bpf::link_program(&pins.join(format!("{hook}_{index}"))).unwrap(), pinned, "{hook}");
        }
    }
}

/// Lets two pins change places.
fn swap(dir: &Path, one: &str, other: &str) {
    fs::rename(dir.join(one), dir.join("swapped")).unwrap();
    fs::rename(dir.join(other), dir.join(one)).unwrap();
    fs::rename(dir.join("swapped"), dir.join(other)).unwrap();
}

/// Segments of one session that a node sends although it does not have it.
fn meddling(lab: &Lab, node: u8, client: IpAddr, port: u16) -> Watch<Segment> {
    Watch::on(lab, "switch", &format!("unix{node}"), move |frame| {
        Segment::parse(frame).filter(|s| s.destination == client && s.destination_port == port)
    })
}

fn nobody_resets_or_answers_a_session_whose_bucket_moves(mode: Mode) {
    let lab = mode.lab("e2e-moves", 3, 20);
    for client in client_of_each_family(&lab, 1) {
        a_session_stays_while_its_bucket_moves(&lab, mode, client);
    }
}

fn a_session_stays_while_its_bucket_moves(lab: &Lab, mode: Mode, client: IpAddr) {
    let bucket = bucket(lab, client);
    let (one, two) = (words(lab, 1), words(lab, 2));
    let elsewhere = verdicts(lab, 2, Reason::TcpElsewhere);
    let mut session = Session::open(lab, client);
    assert_eq!(session.host, "unix1");
    // From now on the daemon has no reason to write this word.
    wait("the scan to find the session", || one.flags(0, bucket).has(Flags::GUESTS));
    let resets = Watch::resets(lab);
    let meddlers = [2, 3].map(|node| meddling(lab, node, client, session.port));

    let ((), longest) = session.while_typing(20_000, |echoes| {
        // Many handovers, at least one in each echo's time, at all points of it.
        for round in 0..100 {
            let so_far = echoes.load(Ordering::Relaxed);
            wait("data to flow", || {
                move_bucket(bucket, &one, &two);
                move_bucket(bucket, &two, &one);
                echoes.load(Ordering::Relaxed) > so_far + round % 2
            });
        }
        move_bucket(bucket, &one, &two);
        assert_eq!(landed(lab, client), "unix2", "new sessions go to the new owner");
        // A scan that finds the session of who has landed writes the word as the table has it.
        wait("the new owner to see the old session", || {
            move_bucket(bucket, &one, &two);
            verdicts(lab, 2, Reason::TcpElsewhere) > elsewhere + 100
        });
    });
    println!("{mode:?}: longest echo of 20 kB through hundreds of handovers: {longest:?}");
    assert!(longest < LONG, "{longest:?}");
    assert!(session.echoes(), "and stays on the old one");
    assert_eq!(resets.seen(), []);
    for (meddler, node) in meddlers.into_iter().zip([2, 3]) {
        assert_eq!(meddler.seen(), [], "said by unix{node}");
    }
}

/// With a fixed membership nobody knows whether another kernel holds what this one has lost, so nobody may reset it:
/// the client of a node that has booted afresh waits for its own timeout (docs/kernel.md, "Verdicts").
#[test]
fn an_orphan_of_a_booted_node_meets_silence() {
    let lab = Mode::Tcx.lab("e2e-orphan", 2, 20);
    let mut session = Session::open(&lab, client_of(&lab, 1));
    assert_eq!(session.host, "unix1");
    lab.fault(&LabFault::PowerOff(1)).unwrap();
    lab.heal(Some("unix1")).unwrap();
    let resets = Watch::resets(&lab);
    session.types();
    wait("the orphan's segments", || verdicts(&lab, 1, Reason::TcpElsewhere) >= 2);
    assert!(session.is_open());
    assert_eq!(resets.seen(), []);
}

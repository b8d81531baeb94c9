//! Limits, end to end: who opens too many connections is told so at once, and an heir knows of it.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use onevip_lab::dial::connect_within;
use onevip_lab::load::segment::{Segment, flag};
use onevip_lab::plan::LabPlan;
use onevip_lab::{Host, Lab, LabFault, Options, wait_until};

use super::{PATIENCE, clients_of, must_be_root, said};

/// A lab whose SSH takes two connections a minute of a source.
fn limited(name: &str, action: &str) -> Lab {
    must_be_root();
    let limit = format!(
        "port = 22\n  [vip.service.limit]\n  burst = 2\n  window = \"10m\"\n  action = \"{action}\"\n"
    );
    let options = Options::test(name).nodes(2).clients(24);
    Lab::up(options.edit_config(|text| text.replace("port = 22\n", &limit)).unwrap()).unwrap()
}

/// What comes of connecting to the VIP's SSH.
fn attempt(lab: &Lab, client: IpAddr) -> Result<(), ErrorKind> {
    let to = SocketAddr::new(lab.vip_for(client), 22);
    let connected = lab.inside("client", || connect_within(client, to, Duration::from_secs(20))).unwrap();
    connected.map(drop).map_err(|error| error.kind())
}

/// The sources that a node says are at a limit.
fn at_limit(lab: &Lab, node: u8) -> Vec<String> {
    let text = said(lab, node, "limits", &["--json"]);
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines
        .filter(|line| !line["refused_for_ms"].is_null())
        .map(|line| line["source"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_third_connection_is_refused_at_once_and_the_heir_goes_on_refusing() {
    let lab = limited("lim-heir", "icmp-port-unreachable");
    let clients = clients_of(&lab, 2, lab.clients(), 2);
    let (busy, other) = (clients[0], clients[1]);
    assert_eq!((attempt(&lab, busy), attempt(&lab, busy)), (Ok(()), Ok(())));
    assert_eq!(
        attempt(&lab, busy),
        Err(ErrorKind::ConnectionRefused),
        "by ICMP, so the client need not wait"
    );
    assert_eq!(attempt(&lab, other), Ok(()));
    assert_eq!(at_limit(&lab, 2), [busy.to_string()]);
    let page = said(&lab, 2, "limits", &[]);
    assert!(page.contains("2 of 2 in 10m, AT ITS LIMIT") && page.contains("refused 1 times"), "{page}");
    let place = said(&lab, 1, "where", &[&busy.to_string()]);
    assert!(place.contains("but the client is at its limit for tcp 22"), "{place}");
    let refused =
        |node| lab.node(node).onevip_status().unwrap()["verdicts"]["ingress"]["syn-limited"].as_u64();
    assert_eq!((refused(1), refused(2)), (Some(0), Some(1)));

    // An IPv6 source is a network of 64 bits: whatever address of it comes.
    let six = clients_of(&lab, 2, lab.clients6(), 3);
    assert_eq!((attempt(&lab, six[0]), attempt(&lab, six[1])), (Ok(()), Ok(())));
    assert_eq!(attempt(&lab, six[2]), Err(ErrorKind::ConnectionRefused));

    said(&lab, 2, "drain", &[]);
    wait_until(PATIENCE, "unix1 to claim everything", || lab.node(1).claims() == Some(1024)).unwrap();
    wait_until(PATIENCE, "unix1 to know of the source", || at_limit(&lab, 1).contains(&busy.to_string()))
        .unwrap();
    assert_eq!(attempt(&lab, busy), Err(ErrorKind::ConnectionRefused), "by its new owner");
    assert!(refused(1) >= Some(1));
    assert_eq!(attempt(&lab, other), Ok(()), "its one connection counts there, too");
    assert_eq!(attempt(&lab, other), Err(ErrorKind::ConnectionRefused));
}

#[test]
fn a_refusal_can_be_a_reset_or_silence() {
    let lab = limited("lim-reset", "tcp-reset");
    for client in [clients_of(&lab, 1, lab.clients(), 1)[0], clients_of(&lab, 1, lab.clients6(), 1)[0]] {
        assert_eq!((attempt(&lab, client), attempt(&lab, client)), (Ok(()), Ok(())), "{client}");
        assert_eq!(attempt(&lab, client), Err(ErrorKind::ConnectionRefused), "{client}");
    }
    drop(lab);
    let lab = limited("lim-drop", "drop");
    let client = clients_of(&lab, 1, lab.clients(), 1)[0];
    assert_eq!((attempt(&lab, client), attempt(&lab, client)), (Ok(()), Ok(())));
    assert!(super::is_kept_out(&lab, client));
}

/// The answer to a refused connection leaves through the interface, and from the MAC, that the node has by then.
#[test]
fn refusals_follow_an_interface_that_changes() {
    let lab = limited("lim-anew", "tcp-reset");
    let busy = clients_of(&lab, 2, lab.clients(), 1)[0];
    let tap = lab.tap("client", "eth0").unwrap();
    // The MAC from which a refusal came, if the connection was refused at once.
    let refused_from = || {
        while tap.read_now(Segment::parse).unwrap().is_some() {}
        (attempt(&lab, busy) == Err(ErrorKind::ConnectionRefused)).then(|| {
            let reset = |frame: &[u8]| Segment::parse(frame).filter(|segment| segment.has(flag::RST));
            let segment = tap.read_now(reset).unwrap().expect("it was refused");
            segment.from_mac.map(|byte| format!("{byte:02x}")).join(":")
        })
    };
    lab.fault(&LabFault::NoInterface(2)).unwrap();
    lab.heal(None).unwrap();
    wait_until(PATIENCE, "unix2 to take its share", || lab.node(2).claims() >= Some(512)).unwrap();
    let own = LabPlan::mac(Host::Node(2));
    wait_until(PATIENCE, "a refusal", || refused_from() == Some(own.clone())).unwrap();
    lab.fault(&LabFault::OtherMac(2)).unwrap();
    let other = LabPlan::other_mac(Host::Node(2));
    wait_until(PATIENCE, "a refusal from the new MAC", || refused_from() == Some(other.clone())).unwrap();
}

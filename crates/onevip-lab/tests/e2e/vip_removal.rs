//! Sessions of a VIP that leaves a node end at once and with words, instead of freezing; nobody else's do.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use onevip_lab::Lab;
use onevip_lab::dial;

use crate::common::{Mode, PATIENCE, Session, VIP, VIP6, all_claim, client_of_each_family, onevip, wait};

/// One that freezes does so for minutes. What is promised is a second.
const LATE: Duration = Duration::from_secs(5);

/// Waits until `ssh` has given up; returns after how long since `from`.
fn ended(session: &mut Session, from: Instant) -> Duration {
    wait("the end of a session", || !session.is_open());
    from.elapsed()
}

#[test]
fn teardown_resets_its_sessions_and_says_how_many() {
    let lab = Mode::Tcx.lab("e2e-reset", 2, 20);
    let mut here = client_of_each_family(&lab, 1).map(|client| Session::open(&lab, client));
    let mut there = client_of_each_family(&lab, 2).map(|client| Session::open(&lab, client));
    lab.node(1).stop_onevip();
    assert!(here.iter_mut().all(Session::echoes), "the kernel part holds them");
    let start = Instant::now();
    let output = onevip(&lab, 1, &["teardown"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.starts_with("resetting 2 sessions\n"), "{said}");
    for session in &mut here {
        let took = ended(session, start);
        println!("a session ended {took:?} after teardown began");
        assert!(took < LATE, "{took:?}");
    }
    assert!(there.iter_mut().all(Session::echoes));
}

/// A connection to a server on all addresses of a node, IPv4 through a socket of IPv6.
fn connect(lab: &Lab, server: &TcpListener, to: IpAddr, from: IpAddr) -> (TcpStream, TcpStream) {
    let port = server.local_addr().unwrap().port();
    let connected = lab.inside("client", || dial::connect(from, SocketAddr::new(to, port))).unwrap();
    let client = connected.unwrap();
    let (peer, _) = server.accept().unwrap();
    for end in [&client, &peer] {
        end.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    (client, peer)
}

fn carries((client, peer): &mut (TcpStream, TcpStream)) -> bool {
    let mut byte = [0];
    client.write_all(b"x").is_ok() && peer.read_exact(&mut byte).is_ok()
}

#[test]
fn only_connections_of_the_vip_are_reset() {
    let lab = Mode::Tcx.lab("e2e-only", 1, 3);
    let server = lab.inside("unix1", || TcpListener::bind("[::]:0").unwrap()).unwrap();
    let own = [lab.node(1).address(), "2001:db8::11".parse().unwrap()];
    let clients = [lab.clients()[0], lab.clients6()[0]];
    let mut to_vip = clients.map(|client| connect(&lab, &server, lab.vip_for(client), client));
    let mut to_own = [0, 1].map(|family| connect(&lab, &server, own[family], clients[family]));
    assert!(to_vip.iter_mut().chain(&mut to_own).all(carries));
    lab.node(1).stop_onevip();
    assert!(onevip(&lab, 1, &["teardown"]).status.success());
    for (client, _) in &mut to_vip {
        let end = client.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::ConnectionReset));
    }
    assert!(to_own.iter_mut().all(carries));
    // The listener as well.
    assert!(carries(&mut connect(&lab, &server, own[0], clients[0])));
}

#[test]
fn an_address_that_leaves_the_file_takes_its_sessions_along_and_no_others() {
    let lab = Mode::Tcx.lab("e2e-left", 2, 20);
    let [mut v4, mut v6] = client_of_each_family(&lab, 1).map(|client| Session::open(&lab, client));
    let text = std::fs::read_to_string(lab.node(1).config()).unwrap();
    lab.write_config(&text.replace(&format!("\"{VIP}\", \"{VIP6}\""), &format!("\"{VIP}\""))).unwrap();
    lab.node(1).stop_onevip();
    let start = Instant::now();
    lab.node(1).start_onevip().unwrap();
    let took = ended(&mut v6, start);
    println!("the session ended {took:?} after the restart began");
    assert!(v4.echoes());
    let log = lab.node(1).onevip_log();
    assert!(log.contains("addresses that the file no longer has: resetting 1 session"), "{log}");
    assert!(took < PATIENCE, "{took:?}");
}

#[test]
fn a_teardown_in_a_session_to_the_vip_is_done_to_its_end() {
    let lab = Mode::Tcx.lab("e2e-own", 1, 3);
    all_claim(&lab);
    let client = lab.clients()[0];
    lab.node(1).stop_onevip();
    let teardown = lab.node(1).onevip_command("teardown").unwrap();
    let words: Vec<_> = std::iter::once(teardown.get_program()).chain(teardown.get_args()).collect();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let mut ssh = lab.openssh("ssh", Some(client)).unwrap();
    let user = onevip_lab::ssh::Login::of(lab.name()).user;
    // With a terminal, whose end hangs up on what runs in it.
    ssh.arg("-tt").arg(format!("{user}@{VIP}")).arg(words.join(" "));
    let mut ssh = ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait("the run directory to go", || !lab.node(1).run_dir().exists());
    let addresses = lab.exec_ok("unix1", &["ip", "addr"]).unwrap();
    assert!(!addresses.contains(&VIP.to_string()) && !addresses.contains(&VIP6.to_string()), "{addresses}");
    wait("the end of the session", || ssh.try_wait().unwrap().is_some());
}

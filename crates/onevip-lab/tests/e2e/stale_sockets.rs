//! What a moved bucket leaves behind in its old owner's kernel never disturbs the new owner's session: the two rules of
//! the verdict table that were found the hard way.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use onevip_core::{Flags, Reason};
use onevip_lab::{Lab, LabFault};

use crate::common::{
    Mode, PATIENCE, Session, VIP, Watch, bucket, client_of, in_every_mode, move_bucket, pings, take_over,
    verdicts, wait,
};

in_every_mode!(
    a_stale_half_open_socket_does_not_reset_the_new_owners_session,
    a_stale_time_wait_socket_does_not_answer_a_reused_port,
);

/// The client's SYN reaches unix1, whose answer is lost; the bucket moves; the client tries again and meets unix2. What
/// unix1 still has is half open, and to it every segment of the client's is wrong in exactly the way that TCP answers
/// with a reset that fits (RFC 9293 §3.10.7.4).
fn a_stale_half_open_socket_does_not_reset_the_new_owners_session(mode: Mode) {
    let lab = mode.lab("e2e-half", 2, 20);
    let client = client_of(&lab, 1);
    let bucket = bucket(&lab, client);
    let (one, two) = (take_over(&lab, 1), take_over(&lab, 2));
    assert!(pings(&lab, client), "the client knows where the VIP is");
    lab.fault(&LabFault::Mute(1)).unwrap();
    let mut session = std::thread::scope(|scope| {
        let opening = scope.spawn(|| Session::open(&lab, client));
        wait("the SYN to reach unix1", || verdicts(&lab, 1, Reason::SynOwn) > 0);
        move_bucket(bucket, &one, &two);
        opening.join().unwrap()
    });
    assert_eq!(session.host, "unix2");
    let resets = Watch::resets(&lab);
    let said = Watch::said_by(&lab, 1, client);
    lab.heal(None).unwrap();
    // Also the half-open socket's own SYN-ACK, sent again, makes the client say something; unix1 must give that no
    // verdict.
    let stale = || verdicts(&lab, 1, Reason::TcpHalfOpenStale);
    let before = stale();
    for _ in 0..20 {
        assert!(session.echoes());
    }
    wait("segments that meet the half-open socket", || stale() > before + 10);
    assert!(session.echoes());
    assert_eq!(resets.seen(), []);
    let said = said.seen();
    assert!(said.iter().all(|s| s.flags & 0x12 == 0x12), "more than SYN-ACKs sent again: {said:?}");
}

/// A connection whose server closed first leaves a TIME_WAIT socket there. The client may use the same port again at
/// once; when the bucket has moved meanwhile, the old socket must not answer the new owner's session.
fn a_stale_time_wait_socket_does_not_answer_a_reused_port(mode: Mode) {
    let lab = mode.lab("e2e-wait", 2, 20);
    let client = client_of(&lab, 1);
    let bucket = bucket(&lab, client);
    let (one, two) = (take_over(&lab, 1), take_over(&lab, 2));
    let port = 40_022;
    dismissed_by_server(&lab, client, port);
    wait("TIME_WAIT on unix1", || time_waits(&lab, 1, port) == 1);
    assert!(!one.flags(0, bucket).has(Flags::GUESTS), "no daemon has looked: the memory of the SYN serves");

    move_bucket(bucket, &one, &two);
    one.set_flags(0, bucket, Flags::ELSEWHERE);
    let said = Watch::said_by(&lab, 1, client);
    let resets = Watch::resets(&lab);
    let mut again = connection(&lab, client, port);
    let mut banner = [0; 4];
    again.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-");
    again.write_all(b"SSH-2.0-story\r\n").unwrap();
    let mut key_exchange = [0; 256];
    again.read_exact(&mut key_exchange).unwrap();
    assert!(verdicts(&lab, 1, Reason::TcpTimeWaitForeign) >= 3);
    assert_eq!(time_waits(&lab, 1, port), 1, "it is still there");
    assert_eq!(said.seen(), []);
    assert_eq!(resets.seen(), []);
}

/// A connection from a client's address and a port of its choice.
fn connection(lab: &Lab, client: IpAddr, port: u16) -> TcpStream {
    let connected = lab.inside("client", || {
        let stream = AddressFamily::Inet;
        let socket = socket(stream, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
        let IpAddr::V4(v4) = client else { panic!("{client} is not IPv4") };
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        bind(fd, &SockaddrIn::from(std::net::SocketAddrV4::new(v4, port))).unwrap();
        connect(fd, &SockaddrIn::from(std::net::SocketAddrV4::new(VIP, 22))).unwrap();
        TcpStream::from(socket)
    });
    let stream = connected.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), SocketAddr::from((VIP, 22)));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Says nonsense until `sshd` hangs up, and only then hangs up as well.
fn dismissed_by_server(lab: &Lab, client: IpAddr, port: u16) {
    let mut stream = connection(lab, client, port);
    let mut said = String::new();
    let mut banner = [0; 1];
    stream.read_exact(&mut banner).unwrap();
    // One line: what a server has not read when it closes, it answers with a reset instead of a FIN.
    stream.write_all(b"nonsense\r\n").unwrap();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.contains("Invalid SSH"), "{said}");
}

/// How many TIME_WAIT sockets a node has for a client's port.
fn time_waits(lab: &Lab, node: u8, port: u16) -> usize {
    let filter = format!("dport = :{port}");
    let text = lab.exec_ok(&format!("unix{node}"), &["ss", "-Htn", "state", "time-wait", &filter]).unwrap();
    text.lines().count()
}

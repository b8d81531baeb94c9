//! `onevip who`.

use onevip_lab::dial::connect;
use onevip_lab::{LabFault, wait_until};

use super::{PATIENCE, clients_of, json, lab, onevip, said, sit_down, stdout, types};

#[test]
fn who_tells_user_source_beginning_and_terminal() {
    let lab = lab("opwho", 2);
    let clients = clients_of(&lab, 2, 2);
    let mut terminal = sit_down(&lab, 2, clients[0]);
    let without_terminal = lab.session(Some(clients[1])).unwrap();
    types(&mut terminal, "good morning");
    let of = |whom: &str| json(&lab, 2, "who", &[whom]);
    let sessions = of(&clients[0].to_string());
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    let session = &sessions[0];
    assert_eq!(session["node"], "unix2");
    assert_eq!(session["user"], "root");
    assert_eq!(session["vip"], "login");
    assert_eq!(session["program"], "sshd");
    assert_eq!(session["service"], 22);
    assert!(session["terminals"][0].as_str().unwrap().starts_with("pts/"), "{session}");
    // The kernel notes the use of a terminal in steps of eight seconds.
    assert!(session["idle_seconds"].as_u64().unwrap() <= 60, "{session}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let since = session["since"].as_u64().unwrap();
    assert!(since <= now + 1 && since + 300 > now, "{session} at {now}");
    let (address, port) = without_terminal.client;
    let other = of(&address.to_string());
    assert_eq!((other.len(), other[0]["port"].as_u64()), (1, Some(u64::from(port))));
    assert_eq!(other[0]["terminals"], serde_json::json!([]));
    assert_eq!(of("root").len(), 2);
    assert_eq!(of("nobody-of-that-name").len(), 0);
    assert_eq!(json(&lab, 1, "who", &[]).len(), 0, "unix1 holds none");
    let page = said(&lab, 2, "who", &[]);
    assert!(page.starts_with("USER") && page.lines().count() == 3, "{page}");
    assert_eq!(of("198.51.100.0/24").len() + of("2001:db8::/64").len(), 2);
    assert_eq!(of("203.0.113.0/24").len(), 0);
    assert_eq!(of(&format!("{address}:{port}")).len(), 1);
    for (mistake, words) in [
        ("", "write a user, an address, a network"),
        ("198.51.100.0/33", "write a user, an address, a network"),
        ("unix1", "unix1 is a node, not a user"),
    ] {
        let output = onevip(&lab, 2, "who", &[mistake]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(words), "{mistake:?}: {said}");
    }
    lab.node(2).stop_onevip();
    assert_eq!(of("root").len(), 2, "without a daemon, too");
}

/// As the health check does, once in a while.
#[test]
fn what_this_host_asks_its_own_vip_is_nobodys_session() {
    let lab = lab("opown", 2);
    let vip = lab.vip_for(lab.clients()[0]);
    let _probe = lab.inside("unix2", || std::net::TcpStream::connect((vip, 22)).unwrap()).unwrap();
    let sshd_has_it = || {
        let found = lab.exec_ok("unix2", &["ss", "-Htn", "state", "established", "( sport = :22 )"]).unwrap();
        found.contains(&vip.to_string())
    };
    wait_until(PATIENCE, "sshd to have the connection", sshd_has_it).unwrap();
    assert_eq!(json(&lab, 2, "who", &[]).len(), 0, "{:?}", json(&lab, 2, "who", &[]));
}

#[test]
fn one_node_answers_for_all_and_says_who_is_silent() {
    let lab = lab("opall", 3);
    let sessions: Vec<_> =
        (1..=3).map(|node| lab.session(Some(clients_of(&lab, node, 1)[0])).unwrap()).collect();
    let all = json(&lab, 1, "who", &["--all-nodes"]);
    let mut nodes: Vec<&str> = all.iter().map(|session| session["node"].as_str().unwrap()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["unix1", "unix2", "unix3"], "{all:?}");
    let one = json(&lab, 2, "who", &["--all-nodes", &sessions[2].client.0.to_string()]);
    assert_eq!((one.len(), one[0]["node"].as_str()), (1, Some("unix3")));

    lab.fault(&LabFault::PowerOff(3)).unwrap();
    wait_until(PATIENCE, "unix3 to be out", || {
        onevip(&lab, 1, "who", &["--all-nodes"]).status.code() == Some(1)
    })
    .unwrap();
    let output = onevip(&lab, 1, "who", &["--all-nodes"]);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("unix3 was not asked: it is out"), "{complaint}");
    assert_eq!(stdout(&output).lines().count(), 3, "the head and two sessions: {}", stdout(&output));
}

/// More than fits in many letters; every page is asked for, and none is missing.
#[test]
fn a_long_answer_arrives_whole_over_a_link_that_loses_frames() {
    let lab = lab("oplong", 2);
    let client = clients_of(&lab, 2, 1)[0];
    let vip = lab.vip_for(client);
    let connections: Vec<std::net::TcpStream> = lab
        .inside("client", || {
            let source = bound_connect(client, 22);
            (0..60).map(|_| source(vip)).collect()
        })
        .unwrap();
    lab.fault(&"loss=10 unix2".parse().unwrap()).unwrap();
    let count = || {
        let output = onevip(&lab, 1, "who", &[&client.to_string(), "--all-nodes", "--json"]);
        output.status.success().then(|| stdout(&output).lines().count())
    };
    // A node that is out for a moment, as with such a link it may be, is not asked.
    wait_until(PATIENCE, "a whole answer", || count() == Some(connections.len())).unwrap();
}

/// Connects from an address to a port.
pub fn bound_connect(from: std::net::IpAddr, port: u16) -> impl Fn(std::net::IpAddr) -> std::net::TcpStream {
    move |to| connect(from, std::net::SocketAddr::new(to, port)).unwrap()
}

#[test]
fn where_says_where_a_client_lands_now_and_why_not_elsewhere() {
    let lab = lab("opwhere", 2);
    let client = clients_of(&lab, 2, 1)[0].to_string();
    let ask = |node| json(&lab, node, "where", &[&client])[0].clone();
    assert_eq!(ask(1)["now"]["node"], "unix2");
    let _session = lab.session(Some(client.parse().unwrap())).unwrap();
    said(&lab, 2, "drain", &[]);
    wait_until(PATIENCE, "unix1 to answer", || ask(1)["now"]["node"] == "unix1").unwrap();
    for node in [1, 2] {
        let page = said(&lab, node, "where", &[&client]);
        assert!(page.starts_with(&format!("{client} → unix1 (unix2 while all live and idle)\n")), "{page}");
        assert!(page.contains("unix1   answers its new connections now"), "{page}");
        assert!(
            page.contains("unix2   takes none: draining, it was drained, holds a session of it"),
            "{page}"
        );
    }
    lab.fault(&LabFault::PowerOff(2)).unwrap();
    wait_until(PATIENCE, "unix2 to be out", || {
        said(&lab, 1, "where", &[&client]).contains("unix2   it is out")
    })
    .unwrap();
}

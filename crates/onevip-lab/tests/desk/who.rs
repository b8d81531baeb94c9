//! `onevip who`.

use super::{clients_of, json, lab, said, sit_down};

#[test]
fn who_tells_user_source_beginning_and_terminal() {
    let lab = lab("dkwho", 2);
    let clients = clients_of(&lab, 2, 2);
    let mut terminal = sit_down(&lab, 2, clients[0]);
    let without_terminal = lab.session(Some(clients[1])).unwrap();
    terminal.types("good morning");
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
    lab.node(2).stop_onevip();
    assert_eq!(of("root").len(), 2, "without a daemon, too");
}

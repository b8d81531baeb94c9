//! Clients that behave, and all kinds of those that do not.

use super::*;
use proptest::prelude::*;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

/// Long, also on a machine that is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || serve(&Door::tcp(listener).unwrap(), page, &StopSignal::new().unwrap()));
    address
}

fn page(path: &str) -> HttpPage {
    match path {
        "/here" => HttpPage::words("200 OK", "a page\n"),
        "/long" => HttpPage::words("200 OK", "x".repeat(8 << 20)),
        _ => HttpPage::words("404 Not Found", "no page\n"),
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What is answered; empty where the connection is closed without a word.
fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(request).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[track_caller]
fn is_served(address: SocketAddr) {
    let text = ask(address, b"GET /here HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\na page\n"), "{text}");
}

#[test]
fn pages_are_read_and_nothing_else_is_done() {
    let address = server();
    is_served(address);
    let begins = |request: &str, status: &str| {
        let text = ask(address, request.as_bytes());
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {text}");
        text
    };
    begins("GET /here?x=1 HTTP/1.0\n\n", "200");
    let head = begins("HEAD /here HTTP/1.1\r\n\r\n", "200");
    assert!(head.contains("Content-Length: 7\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    begins("GET /there HTTP/1.1\r\n\r\n", "404");
    let other = begins("POST /here HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405");
    assert!(other.contains("Allow: GET, HEAD\r\n"), "{other}");
    for garbage in
        ["\x16\x03\x01\x02", "GET\r\n\r\n", "GET  HTTP/1.1\r\n\r\n", "GET / HTTP/2.0\r\n\r\n", "x y z\n"]
    {
        begins(garbage, "400");
    }
    begins(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(HEAD_MAX)), "414");
    begins(&format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(HEAD_MAX / 6)), "431");
    let expects = "GET /here HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n";
    begins(expects, "200");
    is_served(address);
}

#[test]
fn who_says_nothing_or_little_is_sent_away_and_delays_nobody() {
    let address = server();
    let mut silent: Vec<TcpStream> = (0..3 * CONNECTIONS_MAX).map(|_| connect(address)).collect();
    is_served(address);
    let mut slow = connect(address);
    slow.write_all(b"GET /here HT").unwrap();
    is_served(address);
    for stream in silent.iter_mut().chain([&mut slow]) {
        // Closed with or without something unread.
        let ended = stream.read(&mut [0; 1]);
        assert!(matches!(&ended, Ok(0)) || ended.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
    }
}

#[test]
fn each_byte_in_time_is_not_a_request_in_time() {
    let address = server();
    let mut slow = connect(address);
    let begun = Instant::now();
    // A byte every twentieth of the time that all of them may take; the end comes all the same.
    while slow.write_all(b"G").is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it may go on for ever");
        std::thread::sleep(HEAD_WITHIN / 20);
    }
}

#[test]
fn who_does_not_read_does_not_keep_the_answer() {
    let address = server();
    let mut deaf: Vec<TcpStream> = (0..4).map(|_| connect(address)).collect();
    deaf.iter_mut().for_each(|stream| stream.write_all(b"GET /long HTTP/1.1\r\n\r\n").unwrap());
    is_served(address);
    let begun = Instant::now();
    let mut probe = deaf.remove(0);
    // Once it is given up, so is what was not sent.
    while probe.write_all(b"x").is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it is kept for ever");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_long_page_arrives_whole() {
    let text = ask(server(), b"GET /long HTTP/1.1\r\n\r\n");
    assert_eq!(text.split_once("\r\n\r\n").unwrap().1.len(), 8 << 20);
}

#[test]
fn abrupt_ends_end_nothing_else() {
    let address = server();
    for _ in 0..20 {
        let mut stream = connect(address);
        stream.write_all(b"GET /long HTTP/1.1\r\n\r\n").unwrap();
        // With something unread, closing is a reset.
        let _ = stream.read(&mut [0; 1]);
    }
    is_served(address);
}

#[test]
fn sockets_in_the_file_system_are_served_alike() {
    let path = std::env::temp_dir().join(format!("onevip-http-{}.sock", std::process::id()));
    let door = Door::unix(UnixListener::bind(&path).unwrap()).unwrap();
    std::thread::spawn(move || serve(&door, page, &StopSignal::new().unwrap()));
    let silent: Vec<UnixStream> =
        (0..2 * CONNECTIONS_MAX).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /here HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("a page\n"), "{text}");
    drop(silent);
    std::fs::remove_file(path).unwrap();
}

proptest! {
    #[test]
    fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = understand(&bytes);
    }

    #[test]
    fn a_request_is_understood_once_it_is_whole(path in "/[a-z/?=]{0,20}", cut in 0usize..200) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let part = &request.as_bytes()[..cut.min(request.len())];
        let whole = part.len() == request.len();
        prop_assert_eq!(understand(part) == Heard::NotAll, !whole);
    }
}

//! Servers that listen by MPTCP, as programs in Go do unless told otherwise, and whatever `mptcpize` starts: they serve
//! clients of plain TCP as well, and both log in.

use std::net::IpAddr;
use std::process::Stdio;

use nix::sys::signal::Signal;
use onevip_core::Reason;
use onevip_lab::Lab;
use onevip_lab::netns::sysctl;
use onevip_lab::process::{is_alive, run, signal, spawn_background};

use crate::common::{
    Mode, PATIENCE, Session, client_of_each_family, in_every_mode, landed, onevip, status, verdicts, wait,
};

in_every_mode!(clients_of_tcp_and_mptcp_log_in_to_servers_of_mptcp);

/// Puts an `sshd` that listens by MPTCP in the place of a node's.
fn speak_mptcp(lab: &Lab, node: u8) {
    let pid = lab.node(node).sshd().unwrap();
    signal(pid, Signal::SIGTERM);
    wait("sshd to end", || !is_alive(pid));
    let dir = lab.node(node).dir();
    let mut sshd = lab.command(&format!("unix{node}"), "mptcpize").unwrap();
    sshd.args(["run", "/usr/sbin/sshd", "-D", "-e", "-f"]).arg(dir.join("sshd_config"));
    // It belongs to the lab, which ends it.
    spawn_background(&mut sshd, &dir.join("sshd.log")).unwrap();
    wait("sshd to listen", || lab.node(node).sshd().is_some());
    let listening = lab.exec_ok(&format!("unix{node}"), &["ss", "-HlnM", "sport = :22"]).unwrap();
    assert!(listening.contains(":22"), "it listens by MPTCP: {listening:?}");
}

/// Where the login of a client that speaks MPTCP lands.
fn lands_by_mptcp(lab: &Lab, client: IpAddr) -> String {
    let plain = lab.ssh_command(lab.vip_for(client), Some(client)).unwrap();
    let mut command = lab.command("client", "mptcpize").unwrap();
    command.arg("run").arg(plain.get_program()).args(plain.get_args()).arg("hostname").stdin(Stdio::null());
    let output = run(&mut command, PATIENCE).unwrap();
    assert!(output.status.success(), "{client}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn clients_of_tcp_and_mptcp_log_in_to_servers_of_mptcp(mode: Mode) {
    let lab = mode.lab("e2e-mptcp", 2, 20);
    speak_mptcp(&lab, 1);
    // 1 sends cookies when the queue is full, 2 always.
    for cookies in ["1", "2"] {
        lab.inside("unix1", || sysctl("ipv4/tcp_syncookies", cookies).unwrap()).unwrap();
        for client in client_of_each_family(&lab, 1) {
            assert_eq!(landed(&lab, client), "unix1");
            assert_eq!(lands_by_mptcp(&lab, client), "unix1");
        }
    }
    assert_eq!(verdicts(&lab, 1, Reason::TcpHalfOpenStale), 0);

    let mut session = Session::open(&lab, client_of_each_family(&lab, 1)[0]);
    wait("the session to be counted", || status(&lab, 1)["vips"][0]["sessions"] == 1);
    let who = String::from_utf8(onevip(&lab, 1, &["who"]).stdout).unwrap();
    assert!(who.contains("root") && who.contains(&client_of_each_family(&lab, 1)[0].to_string()), "{who}");
    assert!(session.echoes());
}

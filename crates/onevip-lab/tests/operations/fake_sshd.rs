//! Processes of ordinary users that are called what `sshd` is called, listen where it could, and say what it says of
//! itself. Nothing that runs as root runs what they are, reads what they name, or believes who they are.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use onevip_lab::process::{is_alive, run_ok, signal, spawn_background};
use onevip_lab::{Lab, Options, wait_until};

use super::doctor::{findings, finds, finds_nothing, replace_sshd, start_sshd, stop_sshd};
use super::who::bound_connect;
use super::{PATIENCE, clients_of, json, said};

/// `nobody`'s number on Debian and its relatives.
const NOBODY: u32 = 65_534;

/// Listens on TCP ports, and binds the last one for UDP as well; whoever runs it like a real `sshd` leaves a trace.
const PROGRAM: &str = r#"
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 3 || strncmp(argv[1], "-", 1) == 0) {
        FILE *proof = fopen(PROOF, "a");
        for (int i = 0; proof && i < argc; i++)
            fprintf(proof, "%s ", argv[i]);
        if (proof)
            fprintf(proof, "by %u\n", getuid());
        return 0;
    }
    if (strncmp(argv[0], "sshd: ", 6) != 0) {
        char *self = argv[0];
        argv[0] = argv[1];
        return execv(self, argv);
    }
    int fds[8], count = 0;
    for (int i = 2; i < argc && count < 8; i++) {
        struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(atoi(argv[i])) };
        fds[count] = socket(AF_INET6, SOCK_STREAM, 0);
        if (bind(fds[count], (void *)&any, sizeof any) || listen(fds[count++], 16))
            return 1;
        if (i == argc - 1 && bind(socket(AF_INET6, SOCK_DGRAM, 0), (void *)&any, sizeof any))
            return 2;
    }
    for (int i = 1; i < argc; i++)
        memset(argv[i], 0, strlen(argv[i]));
    for (;;) {
        struct pollfd polls[8];
        for (int i = 0; i < count; i++)
            polls[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
        poll(polls, count, -1);
        for (int i = 0; i < count; i++)
            if (polls[i].revents)
                write(accept(fds[i], 0, 0), "SSH-2.0-x\r\n", 11);
    }
}
"#;

/// The user, and what he has prepared.
struct Impostor {
    dir: PathBuf,
    proof: PathBuf,
    pids: Vec<i32>,
}

impl Impostor {
    /// Builds the program in a directory of the user's.
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("onevip-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let proof = dir.join("proof");
        fs::write(dir.join("sshd.c"), PROGRAM).unwrap();
        fs::write(dir.join("config"), "Port 2222\n").unwrap();
        let mut cc = std::process::Command::new("cc");
        cc.arg(format!("-DPROOF=\"{}\"", proof.display()))
            .arg("-o")
            .arg(dir.join("sshd"))
            .arg(dir.join("sshd.c"));
        run_ok(&mut cc, PATIENCE).unwrap();
        for path in [dir.clone(), dir.join("sshd"), dir.join("config")] {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Self { dir, proof, pids: Vec::new() }
    }

    /// Runs it on a node, under this title, with these ports.
    fn runs(&mut self, lab: &Lab, node: u8, title: &str, ports: &[u16]) {
        let host = format!("unix{node}");
        let user = NOBODY.to_string();
        let mut command = lab.command(&host, "setpriv").unwrap();
        command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"]);
        command.arg(self.dir.join("sshd")).arg(title).args(ports.iter().map(u16::to_string));
        let pid = spawn_background(&mut command, &self.dir.join("log")).unwrap();
        self.pids.push(pid);
        wait_until(PATIENCE, "the impostor to listen", || {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let listening = lab.exec_ok(&host, &["ss", "-Htunlp"]).unwrap();
            name == "sshd\n" && listening.matches(&format!("pid={pid},")).count() == ports.len() + 1
        })
        .unwrap();
    }

    #[track_caller]
    fn was_never_run(&self) {
        let proof = fs::read_to_string(&self.proof).unwrap_or_default();
        assert!(proof.is_empty(), "run by somebody else (by 0 is by root):\n{proof}");
        assert!(self.pids.iter().all(|pid| is_alive(*pid)));
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.pids.iter().for_each(|pid| signal(*pid, Signal::SIGKILL));
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Two nodes that serve SSH also at a port that anybody may take, and mosh.
fn lab(name: &str) -> Lab {
    assert!(nix::unistd::geteuid().is_root(), "these tests build network namespaces: run them as root");
    let services = "[[vip.service]]\nprotocol = \"tcp\"\nport = 2222\n\
                    [[vip.service]]\nprotocol = \"udp\"\nport = \"60000-60999\"\nowner = \"socket\"\n\n[[node]]";
    let edit = |text: String| text.replacen("[[node]]", services, 1);
    let lab = Lab::up(Options::test(name).nodes(2).clients(24).edit_config(edit).unwrap()).unwrap();
    replace_sshd(&lab, 1, |text| format!("Port 22\nPort 2222\n{text}"));
    lab
}

#[test]
fn nothing_is_run_or_believed_because_of_its_name() {
    let lab = lab("opfake");
    let mut impostor = Impostor::new("fake");
    let config = impostor.dir.join("config").display().to_string();
    // Before the real one, whose process so has a higher number. 60001 is unix2's: the second slice.
    stop_sshd(&lab, 2);
    let title = format!("sshd: /usr/sbin/sshd -D -f {config} [listener] 0 of 10-100 startups");
    impostor.runs(&lab, 2, &title, &[2222, 60_001]);
    impostor.runs(&lab, 2, "sshd: root@notty", &[60_017]);
    start_sshd(&lab, 2, |text| text);

    // The doctor of the one asks the daemon of the other.
    for node in [1, 2] {
        findings(&lab, node);
        impostor.was_never_run();
    }
    lab.node(2).stop_onevip();
    lab.node(2).start_onevip().unwrap();
    wait_until(PATIENCE, "unix2 to serve", || lab.node(2).claims() == Some(512)).unwrap();
    claims_to_be_somebody(&lab);
    the_real_one_is_still_asked(&lab);
    impostor.was_never_run();

    // Now it listens just where the daemon asks for an sshd.
    let own = lab.node(2).config();
    let text = fs::read_to_string(&own).unwrap();
    rewrite(&own, &text.replace("[health]\n", "[health]\nport = 2222\n"));
    said(&lab, 2, "reload", &[]);
    for node in [1, 2] {
        let (found, text) = findings(&lab, node);
        assert!(!found.contains(&"host-keys-differ".to_owned()), "{text}");
        impostor.was_never_run();
    }
    lab.node(2).stop_onevip();
    lab.node(2).start_onevip().unwrap();
    findings(&lab, 1);
    impostor.was_never_run();
}

/// Who connects there is nobody's session.
fn claims_to_be_somebody(lab: &Lab) {
    let client = clients_of(lab, 2, 1)[0];
    let vip = lab.vip_for(client);
    let _connection = lab.inside("client", || bound_connect(client, 60_017)(vip)).unwrap();
    let mut sessions = Vec::new();
    wait_until(PATIENCE, "the connection to be taken", || {
        sessions = json(lab, 2, "who", &[&client.to_string()]);
        sessions.len() == 1 && sessions[0]["program"] == "sshd"
    })
    .unwrap();
    assert_eq!(sessions[0]["user"], serde_json::Value::Null, "{sessions:?}");
}

fn the_real_one_is_still_asked(lab: &Lab) {
    let key = lab.dir().join("other_key");
    let path = key.to_str().unwrap();
    lab.exec_ok("client", &["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path]).unwrap();
    let common = format!("HostKey {}", lab.dir().join("host_key").display());
    replace_sshd(lab, 2, |text| text.replace(&common, &format!("HostKey {path}")));
    for node in [1, 2] {
        finds(lab, node, "host-keys-differ", &["ssh-ed25519", " on unix2", " on unix1"]);
    }
    replace_sshd(lab, 2, |text| text.replace(&format!("HostKey {path}"), &common));
    finds_nothing(lab, 2);
}

/// A node's own file in the place of the one that all share.
fn rewrite(path: &Path, text: &str) {
    fs::remove_file(path).unwrap();
    fs::write(path, text).unwrap();
}

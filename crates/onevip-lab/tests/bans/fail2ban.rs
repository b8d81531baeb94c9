//! The action file for fail2ban, in the hands of a real fail2ban.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};

use onevip_lab::process::run_ok;
use onevip_lab::{Lab, wait_until};

use super::{PATIENCE, clients_of, is_kept_out, is_let_in, lab, until_banned};

/// fail2ban on unix1, with a directory of its own; ended with the value.
struct Fail2ban {
    server: Child,
    dir: String,
}

impl Fail2ban {
    fn start(lab: &Lab) -> Self {
        let dir = lab.node(1).dir().join("fail2ban");
        let path = dir.to_str().unwrap().to_owned();
        for sub in ["action.d", "filter.d"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        let action = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/fail2ban/onevip.conf");
        fs::copy(action, dir.join("action.d/onevip.conf")).unwrap();
        let command = lab.node(1).onevip_command("").unwrap();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<&str> =
            words.map(|word| word.to_str().unwrap()).filter(|word| !word.is_empty()).collect();
        let control = lab.node(1).run_dir().join("control.sock");
        let write = |name: &str, text: String| fs::write(dir.join(name), text).unwrap();
        write("auth.log", String::new());
        write("filter.d/guess.conf", "[Definition]\nfailregex = Failed password from <HOST>$\n".into());
        write(
            "fail2ban.conf",
            format!(
                "[Definition]\nloglevel = INFO\nlogtarget = {path}/log\nsyslogsocket = auto\nsocket = {path}/sock\n\
                 pidfile = {path}/pid\ndbfile = None\ndbpurgeage = 1d\ndbmaxmatches = 1\n[Thread]\n"
            ),
        );
        write(
            "jail.conf",
            format!(
                "[DEFAULT]\nbackend = polling\nusedns = no\nmaxretry = 2\nfindtime = 600\nbantime = 3600\n\
                 [guess]\nenabled = true\nfilter = guess\nlogpath = {path}/auth.log\n\
                 action = onevip[name=guess, onevip=\"{}\", socket=\"{}\"]\n",
                words.join(" "),
                control.display()
            ),
        );
        let mut server = lab.command("unix1", "fail2ban-server").unwrap();
        server.args([
            "-f",
            "-x",
            "-c",
            &path,
            "-s",
            &format!("{path}/sock"),
            "-p",
            &format!("{path}/pid"),
            "start",
        ]);
        let server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let this = Self { server, dir: path };
        wait_until(PATIENCE, "fail2ban to watch the log", || {
            this.client(lab, &["status", "guess"]).is_some_and(|text| text.contains("Currently banned"))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", this.log()));
        this
    }

    fn client(&self, lab: &Lab, words: &[&str]) -> Option<String> {
        let mut client = lab.command("unix1", "fail2ban-client").unwrap();
        run_ok(client.args(["-c", &self.dir, "-s", &format!("{}/sock", self.dir)]).args(words), PATIENCE).ok()
    }

    fn log(&self) -> String {
        fs::read_to_string(format!("{}/log", self.dir)).unwrap_or_default()
    }

    /// `sshd` would log this.
    fn somebody_guesses(&self, from: std::net::IpAddr) {
        let mut log = OpenOptions::new().append(true).open(format!("{}/auth.log", self.dir)).unwrap();
        let now = run_ok(std::process::Command::new("date").arg("+%Y-%m-%d %H:%M:%S"), PATIENCE).unwrap();
        writeln!(log, "{} unix1 Failed password from {from}", now.trim()).unwrap();
    }
}

impl Drop for Fail2ban {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn whom_fail2ban_bans_on_one_node_is_kept_out_by_all() {
    let lab = lab("lim-f2b", 2);
    let clients = clients_of(&lab, 2, lab.clients(), 2);
    let six = clients_of(&lab, 2, lab.clients6(), 1)[0];
    let fail2ban = Fail2ban::start(&lab);
    fail2ban.somebody_guesses(clients[0]);
    fail2ban.somebody_guesses(clients[0]);
    fail2ban.somebody_guesses(clients[1]);
    let bad = clients[0].to_string();
    wait_until(PATIENCE, "unix2 to know", || super::banned(&lab, 2) == [bad.as_str()])
        .unwrap_or_else(|error| panic!("{error:#}\n{}", fail2ban.log()));
    assert!(is_kept_out(&lab, clients[0]));
    assert!(is_let_in(&lab, clients[1]), "one failure is not enough");
    let page = super::said(&lab, 2, "bans", &[]);
    assert!(page.contains("unix1  fail2ban guess"), "{page}");
    fail2ban.client(&lab, &["set", "guess", "banip", &six.to_string()]).unwrap();
    until_banned(&lab, 2, &[&bad, &six.to_string()]);
    for address in [clients[0], six] {
        fail2ban.client(&lab, &["set", "guess", "unbanip", &address.to_string()]).unwrap();
    }
    until_banned(&lab, 2, &[]);
    assert!(is_let_in(&lab, clients[0]));
}

#[test]
fn bans_outlive_the_fail2ban_that_made_them() {
    let lab = lab("lim-f2b-stop", 2);
    let bad = clients_of(&lab, 2, lab.clients(), 1)[0];
    let mut fail2ban = Fail2ban::start(&lab);
    fail2ban.client(&lab, &["set", "guess", "banip", &bad.to_string()]).unwrap();
    until_banned(&lab, 2, &[&bad.to_string()]);
    fail2ban.client(&lab, &["stop"]).unwrap();
    // It has done all it does about its bans when its process has ended.
    wait_until(PATIENCE, "fail2ban to end", || fail2ban.server.try_wait().is_ok_and(|code| code.is_some()))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", fail2ban.log()));
    for node in [1, 2] {
        assert_eq!(super::banned(&lab, node), [bad.to_string()], "on unix{node}\n{}", fail2ban.log());
    }
    assert!(is_kept_out(&lab, bad));
}

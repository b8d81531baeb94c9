//! What may be late at boot is waited for, as long as it takes, and said; only mistakes of the file or the command line end the
//! daemon. Nothing of the host is changed before everything is there.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use onevip_lab::plan::LabPlan;
use onevip_lab::process::{run, signal};
use onevip_lab::{Host, Lab, Options, daemon, wait_until};

use crate::common::{Mode, VIP, VIP6, complaint, config, landed, must_be_root, onevip, wait};

/// Long for a daemon that looks once a second, on a machine that is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that has just been started, as systemd starts one.
struct Daemon<'a> {
    lab: &'a Lab,
    child: Child,
    systemd: UnixDatagram,
}

impl<'a> Daemon<'a> {
    /// Starts it; `wrap` may change how.
    fn start_by(lab: &'a Lab, wrap: impl FnOnce(Command) -> Command) -> Self {
        let path = lab.dir().join("notify");
        let _ = fs::remove_file(&path);
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_nonblocking(true).unwrap();
        let mut command = wrap(lab.node(1).onevip_command("run").unwrap());
        let log = daemon::log_path(lab.name(), 1);
        command.env("NOTIFY_SOCKET", &path).stderr(File::create(log).unwrap());
        Self { lab, child: command.spawn().unwrap(), systemd }
    }

    fn start(lab: &'a Lab) -> Self {
        Self::start_by(lab, |command| command)
    }

    /// Waits until it says, in its log and in answer to `onevip status`, that it waits for this.
    fn waits_for(&mut self, what: &str) {
        wait_until(PATIENCE, &format!("it to wait for: {what}"), || {
            assert_eq!(self.child.try_wait().unwrap(), None, "it ended\n{}", self.log());
            let output = onevip(self.lab, 1, &["status"]);
            let said = String::from_utf8(output.stderr).unwrap();
            !output.status.success() && said.contains("waits, and does not serve yet") && said.contains(what)
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        assert!(self.log().contains(what), "{}", self.log());
        assert!(!addresses(self.lab).contains("198.51.100.10/"), "{}", addresses(self.lab));
        let told = self.told();
        assert!(told.contains("STATUS=waits: ") && told.contains("EXTEND_TIMEOUT_USEC="), "{told}");
        assert!(!told.contains("READY=1"), "{told}");
    }

    /// It has said what it waits for once, and once is enough.
    fn waits_on(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "it ended\n{}", self.log());
        assert_eq!(self.log().matches("does not serve yet").count(), 1, "{}", self.log());
    }

    fn serves(&mut self) {
        let mut told = String::new();
        wait_until(PATIENCE, "it to serve", || {
            assert_eq!(self.child.try_wait().unwrap(), None, "it ended\n{}", self.log());
            told += &self.told();
            told.contains("READY=1\nSTATUS=\n")
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        wait("it to claim", || self.lab.node(1).claims() == Some(1024));
    }

    /// What it has told systemd since the last time.
    fn told(&self) -> String {
        let mut told = String::new();
        let mut datagram = [0; 4096];
        while let Ok(length) = self.systemd.recv(&mut datagram) {
            told += &String::from_utf8_lossy(&datagram[..length]);
            told.push('\n');
        }
        told
    }

    fn log(&self) -> String {
        self.lab.node(1).onevip_log()
    }

    /// Tells it to end, and waits.
    fn end(&mut self) -> Option<i32> {
        signal(self.child.id() as i32, Signal::SIGTERM);
        let mut ended = None;
        wait("it to end", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap().code()
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn addresses(lab: &Lab) -> String {
    lab.exec_ok("unix1", &["ip", "-br", "addr"]).unwrap()
}

/// A lab of one node on which nothing runs yet.
fn one_node(name: &str) -> Lab {
    Lab::up(Mode::Tcx.options(name, 1, 3).no_onevip()).unwrap()
}

#[test]
fn an_interface_that_comes_up_bit_by_bit_is_waited_for() {
    let lab = one_node("e2e-late");
    let ip = |host: &str, words: &str| {
        let words: Vec<&str> = ["ip"].into_iter().chain(words.split(' ')).collect();
        lab.exec_ok(host, &words).unwrap();
    };
    ip("switch", "link set unix1 down");
    ip("unix1", "address flush dev eth0");
    ip("unix1", "link set eth0 down");
    ip("unix1", "link set eth0 name slow0");
    let mut daemon = Daemon::start(&lab);
    daemon.waits_for("interface eth0 (vip.interface) does not exist; this host has: lo, slow0");
    ip("unix1", "link set slow0 name eth0");
    daemon.waits_for("interface eth0 is down; `ip link set eth0 up` first");
    ip("unix1", "link set eth0 up");
    daemon.waits_for("interface eth0 (of vip login) has no link");
    ip("switch", "link set unix1 up");
    daemon.waits_for("no interface of this host has an address of node unix1 (198.51.100.11, 2001:db8::11)");
    ip("unix1", "address add 198.51.100.11/24 dev eth0");
    daemon.serves();
    assert_eq!(landed(&lab, lab.clients()[0]), "unix1");
    assert_eq!(daemon.end(), Some(0));
}

/// Eight looks, and with systemd's usual limit five starts, are not enough to make it give up.
#[test]
fn without_a_name_for_the_interface_the_network_of_the_vip_is_waited_for() {
    let text = config("e2e-late-net", 1, "").replace("interface = \"eth0\"\n", "");
    let lab = Lab::up(Mode::Tcx.options("e2e-late-net", 1, 3).config(text).no_onevip()).unwrap();
    lab.exec_ok("unix1", &["ip", "address", "flush", "dev", "eth0"]).unwrap();
    let mut daemon = Daemon::start(&lab);
    daemon.waits_for("no interface of this host has a network that contains 198.51.100.10");
    let since = Instant::now();
    wait("eight seconds to pass", || since.elapsed() > Duration::from_secs(8));
    daemon.waits_on();
    lab.exec_ok("unix1", &["ip", "address", "add", "198.51.100.11/24", "dev", "eth0"]).unwrap();
    daemon.serves();
}

#[test]
fn a_key_that_is_missing_or_no_secret_is_waited_for() {
    must_be_root();
    let lab = Lab::up(Options::test("e2e-late-key").nodes(1).clients(3).no_onevip()).unwrap();
    let key = lab.dir().join("key");
    let kept = lab.dir().join("key.kept");
    fs::rename(&key, &kept).unwrap();
    let mut daemon = Daemon::start(&lab);
    daemon.waits_for("cannot open the key file");
    fs::copy(&kept, lab.dir().join("key.new")).unwrap();
    fs::set_permissions(lab.dir().join("key.new"), Permissions::from_mode(0o644)).unwrap();
    fs::rename(lab.dir().join("key.new"), &key).unwrap();
    daemon.waits_for("can be read by others (mode 644)");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    daemon.serves();
}

#[test]
fn a_daemon_that_waits_ends_at_once_and_well_when_it_is_told_to() {
    let lab = one_node("e2e-late-end");
    lab.exec_ok("unix1", &["ip", "link", "set", "eth0", "down"]).unwrap();
    let mut daemon = Daemon::start(&lab);
    daemon.waits_for("interface eth0 is down");
    assert_eq!(daemon.end(), Some(0));
    assert!(daemon.told().contains("STOPPING=1"));
    let said = complaint(&lab, 1, &["status"]);
    assert!(said.contains("does not run on this host"), "{said}");
}

#[test]
fn the_file_is_read_again_while_it_waits() {
    let lab = one_node("e2e-late-file");
    let file = lab.dir().join("onevip.toml");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("\"eth0\"", "\"eth7\"")).unwrap();
    let mut daemon = Daemon::start(&lab);
    daemon.waits_for("interface eth7 (vip.interface) does not exist");
    for command in [&["reload"][..], &["check-health"]] {
        let output = onevip(&lab, 1, command);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(!output.status.success() && said.contains("eth7 (vip.interface) does not exist"), "{said}");
    }
    fs::write(&file, good.replace("membership", "membershop")).unwrap();
    daemon.waits_for("membershop");
    fs::write(&file, good).unwrap();
    daemon.serves();
    assert_eq!(daemon.end(), Some(0));
    assert!(!lab.node(1).run_dir().join("waiting").exists());
}

#[test]
fn a_hostname_that_is_none_of_the_nodes_is_waited_for_but_not_one_of_the_command_line() {
    let lab = one_node("e2e-late-name");
    let mut daemon = Daemon::start_by(&lab, |command| {
        let mut words: Vec<_> = command.get_args().collect();
        let node = words.iter().position(|word| *word == "--node").unwrap();
        words.drain(node..node + 2);
        // Its own view of the hostname, which can be changed from outside.
        let mut unnamed = lab.command("unix1", "unshare").unwrap();
        unnamed.args(["--uts", "sh", "-c", "hostname localhost; exec \"$@\"", "sh"]);
        unnamed.arg(command.get_program()).args(words);
        for (name, value) in command.get_envs() {
            unnamed.env(name, value.unwrap_or_default());
        }
        unnamed
    });
    daemon.waits_for("this host, \"localhost\", is no node of cluster");
    let pid = daemon.child.id().to_string();
    let mut rename = Command::new("nsenter");
    rename.args(["--uts", "--target", &pid, "hostname", "unix1.example.org"]);
    assert!(rename.status().unwrap().success());
    daemon.serves();
    assert_eq!(daemon.end(), Some(0));

    let named = lab.node(1).onevip_command("run").unwrap();
    let words = named.get_args().map(|word| if word == "unix1" { OsStr::new("unix9") } else { word });
    let output =
        run(lab.command("unix1", "env").unwrap().arg(named.get_program()).args(words), PATIENCE).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(2) && said.contains("unix9 (--node) is no node of cluster"),
        "{said}"
    );
}

#[test]
fn a_stranger_who_has_the_vip_is_found_first_and_his_leaving_waited_for() {
    let lab = one_node("e2e-strange");
    for vip in [VIP.to_string(), VIP6.to_string()] {
        lab.exec_ok("client2", &["ip", "addr", "add", &vip, "dev", "eth0"]).unwrap();
        let mut daemon = Daemon::start(&lab);
        daemon.waits_for(&format!(
            "{vip} is already used on the LAN of eth0 by the host with MAC {}",
            LabPlan::mac(Host::Client2)
        ));
        lab.exec_ok("client2", &["ip", "addr", "del", &vip, "dev", "eth0"]).unwrap();
        daemon.serves();
        assert_eq!(daemon.end(), Some(0));
        assert!(onevip(&lab, 1, &["teardown"]).status.success());
    }
}

//! `onevip doctor` where a host is degraded, or set up so that it will be.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use onevip_lab::process::{run_ok, spawn_background};
use onevip_lab::{Lab, LabFault, Options, wait_until};

use super::doctor::{all_findings, findings, finds, finds_nothing, replace_sshd};
use super::who::bound_connect;
use super::{PATIENCE, clients_of, lab};

#[test]
fn each_illness_is_named_on_its_node_and_on_the_others() {
    let lab = lab("opill", 2);
    for (fault, here, words) in [
        (LabFault::KillSshd(2), "not-listening", "sshd: nothing listens"),
        (LabFault::Nologin(2), "health", "nologin: "),
        (LabFault::DiskFull(2), "health", "disk /: "),
        (LabFault::SshdMaxstartups(2), "health", "MaxStartups"),
        (LabFault::ForkBomb(2), "health", "processes: "),
        (LabFault::MemoryHog(2), "health", "memory: "),
    ] {
        [1, 2].into_iter().for_each(|node| finds_nothing(&lab, node));
        lab.fault(&fault).unwrap();
        // A doctor has no room beside a memory hog; the other node's has.
        if !matches!(fault, LabFault::ForkBomb(_) | LabFault::MemoryHog(_)) {
            let on_unix2 = if here == "health" { [words, "unix2 is ill"] } else { ["port 22", "sshd"] };
            finds(&lab, 2, here, &on_unix2);
        }
        finds(&lab, 1, "node-ill", &[words, "unix2 is ill"]);
        lab.heal(None).unwrap();
    }
    [1, 2].into_iter().for_each(|node| finds_nothing(&lab, node));
}

#[test]
fn an_sshd_that_is_slow_or_frozen_is_named() {
    let lab = lab("opslow", 2);
    let client = clients_of(&lab, 2, 1)[0];
    for fault in [LabFault::SshdSlow(2), LabFault::FreezeSshd(2)] {
        lab.fault(&fault).unwrap();
        let waits = lab.inside("client", || bound_connect(client, 22)(lab.vip_for(client))).unwrap();
        finds(&lab, 2, "health", &["unix2 is ill: sshd: ", "systemctl restart ssh"]);
        finds(&lab, 1, "node-ill", &["unix2 is ill: sshd: "]);
        drop(waits);
        lab.heal(None).unwrap();
        [1, 2].into_iter().for_each(|node| finds_nothing(&lab, node));
    }
}

#[test]
fn a_busy_host_is_named() {
    let edit = |text: String| text.replace("[health]\n", "[health]\ncpu_pressure = { shed = 10 }\n");
    let lab = Lab::up(Options::test("opbusy").nodes(2).clients(4).edit_config(edit).unwrap()).unwrap();
    lab.fault(&LabFault::CpuHog(2)).unwrap();
    // It is one machine: the other node may be short of processors as well.
    wait_until(PATIENCE, "cpu pressure to be found", || {
        let (found, text) = findings(&lab, 2);
        found.contains(&"health".to_owned()) && text.contains("unix2 is ill: cpu pressure: ")
    })
    .unwrap();
}

/// A keytab with a key for each of these principals, as `ktutil` writes it.
fn write_keytab(path: &Path, hosts: &[&str]) {
    let text = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
    let mut file = vec![5, 2];
    for host in hosts {
        let mut entry = vec![0, 2];
        entry.extend([text("EXAMPLE.ORG"), text("host"), text(host)].concat());
        entry.extend([0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 17, 0, 16]);
        entry.extend([7; 16]);
        file.extend((entry.len() as i32).to_be_bytes());
        file.extend(entry);
    }
    fs::write(path, file).unwrap();
}

#[test]
fn a_kerberos_principal_that_is_missing_is_found() {
    let edit = |text: String| format!("{text}\n[desk]\nnames = [\"login.example.org\"]\n");
    let lab = Lab::up(Options::test("opkrb").nodes(2).clients(4).edit_config(edit).unwrap()).unwrap();
    let keytab = lab.dir().join("krb5.keytab");
    let on = "GSSAPIAuthentication yes\nGSSAPIStrictAcceptorCheck no\n";
    replace_sshd(&lab, 2, |text| text + on);
    finds_nothing(&lab, 2); // a distribution's default, on a host that is in no realm

    write_keytab(&keytab, &["unix2.example.org"]);
    fs::write(lab.dir().join("onevip.env"), format!("KRB5_KTNAME=FILE:{}", keytab.display())).unwrap();
    finds(&lab, 2, "kerberos-principal", &["host/login.example.org", "addprinc"]);
    finds_nothing(&lab, 1);
    write_keytab(&keytab, &["unix2.example.org", "login.example.org"]);
    finds_nothing(&lab, 2);
    replace_sshd(&lab, 2, |text| text.replace("AcceptorCheck no", "AcceptorCheck yes"));
    finds(&lab, 2, "kerberos-acceptor", &["GSSAPIStrictAcceptorCheck no"]);
}

/// A library that puts the clock of a program forward by ten minutes.
fn wrong_clock(dir: &Path) -> String {
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    let code = "#define _GNU_SOURCE\n#include <time.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
                int clock_gettime(clockid_t c, struct timespec *t)\n\
                { int r = syscall(SYS_clock_gettime, c, t); if (c == CLOCK_REALTIME) t->tv_sec += 600; return r; }\n";
    fs::File::create(&source).unwrap().write_all(code.as_bytes()).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    run_ok(&mut cc, PATIENCE).unwrap();
    library.display().to_string()
}

#[test]
fn a_clock_that_is_off_is_found() {
    let lab = lab("opclock", 2);
    let library = wrong_clock(&lab.dir());
    lab.node(2).stop_onevip();
    fs::write(lab.dir().join("onevip.env"), format!("LD_PRELOAD={library}")).unwrap();
    lab.node(2).start_onevip().unwrap();
    fs::write(lab.dir().join("onevip.env"), "").unwrap();
    finds(&lab, 1, "clock-off", &["unix1 and unix2", "NTP"]);
    finds(&lab, 2, "clock-off", &["unix2 and unix1"]);
}

#[test]
fn a_slow_way_of_attaching_is_found() {
    let lab = Lab::up(Options::test("opattach").nodes(2).clients(4).env("ONEVIP_ATTACH", "clsact")).unwrap();
    finds(&lab, 1, "attach-mode", &["clsact", "tcx"]);
}

#[test]
fn rights_that_are_missing_are_found() {
    let lab = lab("oprights", 2);
    lab.node(2).stop_onevip();
    let run = lab.node(2).onevip_command("run").unwrap();
    let mut reduced = lab.command("unix2", "setpriv").unwrap();
    reduced.args(["--bounding-set", "-sys_nice,-ipc_lock", "--"]).arg(run.get_program()).args(run.get_args());
    for (name, value) in run.get_envs() {
        reduced.env(name, value.unwrap_or_default());
    }
    let dir = lab.node(2).dir();
    let pid = spawn_background(&mut reduced, &dir.join("onevip.log")).unwrap();
    fs::write(dir.join("onevip.pid"), format!("{pid}\n")).unwrap();
    wait_until(PATIENCE, "unix2 to serve", || lab.node(2).claims().is_some_and(|claims| claims > 0)).unwrap();
    let (found, text) = all_findings(&lab, 2);
    assert_eq!(found, ["real-time", "memory-lock"], "{text}");
    assert!(text.contains("CAP_IPC_LOCK"), "{text}");
}

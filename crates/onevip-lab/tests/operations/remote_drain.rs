//! `onevip drain NODE` and `undrain NODE` from another node.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::Group;
use onevip_lab::{Lab, Options, wait_until};

use super::{PATIENCE, clients_of, lab, onevip, said, sit_down, stdout};

fn refused(lab: &Lab, node: u8, subcommand: &str, arguments: &[&str]) -> String {
    let output = onevip(lab, node, subcommand, arguments);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn root_on_one_node_drains_another_and_both_write_it_down() {
    let lab = lab("oporder", 3);
    let client = clients_of(&lab, 2, 1)[0];
    let terminal = sit_down(&lab, 2, client);
    let output = onevip(&lab, 1, "drain", &["unix2", "--wait", "--timeout", "1s"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(3), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("unix2: draining") && text.contains("1 session left: root 1"), "{text}");
    assert!(text.contains("onevip undrain unix2"), "{text}");
    wait_until(PATIENCE, "unix2 to claim nothing", || lab.node(2).claims() == Some(0)).unwrap();
    assert!(lab.node(1).onevip_log().contains("root on this host orders unix2 to drain"));
    assert!(lab.node(2).onevip_log().contains("root on unix1 ordered this node to drain: done"));

    let mut drain = lab.node(1).onevip_command("drain").unwrap();
    let mut drain = drain.args(["unix2", "--wait"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    assert!(drain.try_wait().unwrap().is_none(), "it waits");
    drop(terminal);
    wait_until(PATIENCE, "the drain to end", || drain.try_wait().unwrap().is_some()).unwrap();
    assert!(drain.wait().unwrap().success());

    assert!(said(&lab, 3, "undrain", &["unix2"]).contains("unix2: serving again"));
    wait_until(PATIENCE, "unix2 to serve", || lab.node(2).claims().is_some_and(|claims| claims > 0)).unwrap();
}

#[test]
fn an_order_is_refused_with_the_reason() {
    let lab = lab("oprefuse", 2);
    assert!(refused(&lab, 1, "drain", &["unix9"]).contains("no node unix9"));
    assert!(refused(&lab, 1, "drain", &["unix2", "--notify", "x"]).contains("only unix2 itself can"));
    said(&lab, 1, "drain", &[]);
    wait_until(PATIENCE, "unix2 to claim everything", || lab.node(2).claims() == Some(1024)).unwrap();
    assert!(refused(&lab, 1, "drain", &["unix2"]).contains("unix2 refuses: no other node serves"));
    assert_eq!(lab.node(2).claims(), Some(1024), "nothing has changed");
    lab.node(2).stop_onevip();
    wait_until(PATIENCE, "unix1 to miss it", || {
        refused(&lab, 1, "undrain", &["unix2"]).contains("unix2 cannot be asked: it does not answer")
    })
    .unwrap();
}

#[test]
fn a_node_that_takes_no_orders_takes_none() {
    let edit = |text: String| format!("{text}\n[desk]\nremote_drain = \"refuse\"\n");
    let lab = Lab::up(Options::test("opfree").nodes(2).clients(4).edit_config(edit).unwrap()).unwrap();
    assert!(refused(&lab, 1, "drain", &["unix2"]).contains("unix2 refuses: it takes no orders"));
    said(&lab, 2, "drain", &[]);
}

#[test]
fn only_root_gives_orders_to_others() {
    let edit = |text: String| text.replacen("membership", "control_group = \"daemon\"\nmembership", 1);
    let lab = Lab::up(Options::test("opgroup").nodes(2).clients(4).edit_config(edit).unwrap()).unwrap();
    // The group may use the socket, but a lab lies where only root may look: so whoever asks begins in its directory.
    let ask = |request: &str| {
        let (run_dir, request) = (lab.node(1).run_dir(), format!("{request}\n"));
        // As the unit makes it; the lab's own is stricter.
        std::fs::set_permissions(&run_dir, Permissions::from_mode(0o750)).unwrap();
        let asker = std::thread::spawn(move || {
            as_nobody_of_the_group(&run_dir);
            let mut stream = UnixStream::connect("control.sock").unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).unwrap();
            answer
        });
        asker.join().unwrap()
    };
    let answer = ask("{\"command\":\"order\",\"node\":\"unix2\",\"order\":\"undrain\"}");
    assert!(answer.contains("only root may give orders"), "{answer}");
    let answer = ask("{\"command\":\"ask\",\"question\":{\"ask\":\"permit\"}}");
    assert!(answer.contains("that is no question"), "{answer}");
}

/// Makes the calling thread, and it alone, somebody else who stands in this directory.
fn as_nobody_of_the_group(dir: &Path) {
    unshare(CloneFlags::CLONE_FS).unwrap();
    std::env::set_current_dir(dir).unwrap();
    let group = Group::from_name("daemon").unwrap().unwrap().gid.as_raw();
    // SAFETY: plain numbers. These calls concern the calling thread alone, other than those of the C library.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()), 0);
        assert_eq!(libc::syscall(libc::SYS_setresgid, group, group, group), 0);
        assert_eq!(libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534), 0);
    }
}

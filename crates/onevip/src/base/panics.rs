//! What becomes of the daemon when one of its threads panics: it ends.
//!
//! A thread that is gone is a business that nobody does any more, and the others would not notice. Half a daemon is worse
//! than none: the kernel part holds the sessions, the other nodes take over, and systemd starts a whole one
//! (`Restart=on-failure`).

use std::io::Write;
use std::panic;
use std::thread;

/// The exit code, the one of a Rust program whose main thread panics.
const EXIT_CODE: i32 = 101;

/// From now on a panic in any thread ends the process.
pub fn end_the_process() {
    panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        // Not through the log, which may be what panicked. If it cannot be said there is nobody to hear it.
        let _ = writeln!(
            std::io::stderr(),
            "the thread {name} {panic}\nthis is a mistake of onevip: please report it. The daemon ends, to be started anew; \
             sessions stay with the kernel part"
        );
        // SAFETY: ends the process. Nothing is unwound and no exit handler runs: another thread may hold any lock.
        unsafe { libc::_exit(EXIT_CODE) }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Duration;

    const CHILD: &str = "ONEVIP_TEST_PANICS";

    #[test]
    fn a_panic_in_any_thread_ends_the_daemon() {
        if std::env::var_os(CHILD).is_some() {
            end_the_process();
            crate::base::supervisor::background("broken", || panic!("on purpose")).unwrap();
            thread::sleep(Duration::from_secs(60));
            return;
        }
        // The same test, as a process of its own.
        let name = "base::panics::tests::a_panic_in_any_thread_ends_the_daemon";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(EXIT_CODE), "{said}");
        assert!(
            said.contains("the thread onevip-broken panicked at ") && said.contains("on purpose"),
            "{said}"
        );
        assert!(said.contains("panics.rs:"), "{said}");
    }
}

//! Nothing here has an idle timer: a session is held for as long as its socket lives, whatever has happened meanwhile.

use std::time::Duration;

use onevip_core::{Flags, Reason};

use crate::common::{
    Mode, Session, Watch, bpf, bucket, client_of_each_family, in_every_mode, landed, move_bucket, verdicts,
    wait, words,
};

in_every_mode!(a_session_that_was_idle_for_days_goes_on);

/// As long as a socket can be made to look: the memory of its SYN is set back to the day on which the host booted.
const LONG_AGO: Duration = Duration::from_secs(1);

fn a_session_that_was_idle_for_days_goes_on(mode: Mode) {
    let lab = mode.lab("e2e-idle", 2, 20);
    for client in client_of_each_family(&lab, 1) {
        let bucket = bucket(&lab, client);
        let mut session = Session::open(&lab, client);
        assert_eq!(session.host, "unix1");
        let (one, two) = (words(&lab, 1), words(&lab, 2));
        wait("the scan to find the session", || one.flags(0, bucket).has(Flags::GUESTS));
        let last_syn = lab.node(1).run_dir().join("bpf/last_syn");
        let mut memory = bpf::read_element(&last_syn, 0, bpf::value_size(&last_syn));
        let word = bucket.index() * 8..bucket.index() * 8 + 8;
        assert_ne!(memory[word.clone()], [0; 8], "the SYN is remembered");
        memory[word].copy_from_slice(&(LONG_AGO.as_nanos() as u64).to_ne_bytes());
        bpf::write_element(&last_syn, 0, &memory);

        let resets = Watch::resets(&lab);
        move_bucket(bucket, &one, &two);
        let held = verdicts(&lab, 1, Reason::TcpHeld);
        assert!(session.echoes(), "{client}");
        assert!(verdicts(&lab, 1, Reason::TcpHeld) > held);
        assert_eq!(landed(&lab, client), "unix2", "new sessions go to the new owner");
        assert!(session.echoes(), "{client}");
        assert_eq!(resets.seen(), []);
        move_bucket(bucket, &two, &one);
    }
}

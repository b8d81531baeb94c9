//! Bytes from the network, at the door and (as if a key holder had sent them) in the parser.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onevip_core::beat::codec::{self, Header};
use onevip_core::beat::replay::Door;
use onevip_core::beat::seal::{Key, Keyring};
use onevip_core::beat::{Incarnation, Seq};
use onevip_core::membership::Family;
use onevip_core::{NodeId, Time};

fuzz_target!(|bytes: &[u8]| {
    let (Some(me), Some(other)) = (NodeId::new(1), NodeId::new(2)) else { return };
    let mut door = Door::new(Keyring::new(7, Key::new(&[1; 32]), Vec::new()), me, 10);
    assert!(door.admit(Time::from_nanos(1), Family::V4, bytes).is_err());

    let header = Header { from: other, key: 0, cluster: 7, host: 20, incarnation: Incarnation(1), seq: Seq(1) };
    if let Ok(beat) = codec::read_body(&header, bytes) {
        let written = codec::write_body(&beat);
        assert!(written.len() <= bytes.len());
        assert_eq!(codec::read_body(&header, &written), Ok(beat));
    }
});

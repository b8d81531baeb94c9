//! Anything at all, as a datagram and, behind the seal, as the body of a beat: nothing panics, and whatever is read
//! as a beat is written in exactly that way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onevip_core::NodeId;
use onevip_core::beat::codec::{Origin, decode, encode};
use onevip_core::beat::{Incarnation, Key, KeyFile, Keyring, Receiver, Sealer, Seq};
use onevip_core::membership::Family;

fuzz_target!(|data: &[u8]| {
    let sealer = Sealer::new(&Keyring::new(Key::from_bytes([7; 32]), []), "login", "ssh");
    let mut receiver = Receiver::new(sealer);
    assert!(receiver.receive(Family::V4, data).is_err(), "nobody can guess a seal");

    // What stands behind the seal, as if somebody with the key had sent it.
    let from = NodeId::from_index(usize::from(data.first().copied().unwrap_or(0)) % 64).expect("below 64");
    let origin = Origin { from, host: 1, incarnation: Incarnation(1), seq: Seq(1) };
    let Some(body) = data.get(1..) else { return };
    if let Ok(beat) = decode(origin, body) {
        assert_eq!(encode(&beat), body, "there is one way to write a beat");
        let sealed = receiver.sealer().seal(&beat);
        assert_eq!(receiver.receive(Family::V4, &sealed), Ok(beat));
        assert!(receiver.receive(Family::V4, &sealed).is_err(), "a copy is a copy");
        let at = usize::from(body[0]) * 7 % sealed.len();
        let mut changed = sealed;
        changed[at] ^= 1;
        assert!(receiver.receive(Family::V6, &changed).is_err(), "byte {at} is sealed");
    }
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(file) = KeyFile::parse(text) {
            assert_eq!(KeyFile::parse(&file.render()), Ok(file));
        }
    }
});

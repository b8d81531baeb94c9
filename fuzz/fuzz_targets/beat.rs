//! Anything at all, as a datagram and, behind the seal, as the body of a beat: nothing panics, and whatever is read
//! as a beat is written in exactly that way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onevip_core::NodeId;
use onevip_core::beat::codec::{BODY_MIN, Origin, decode, encode};
use onevip_core::beat::{Incarnation, Key, KeyFile, Keyring, Receiver, Sealer, Seq};
use onevip_core::membership::Family;

fuzz_target!(|data: &[u8]| {
    let sealer = Sealer::new(&Keyring::new(Key::from_bytes([7; 32]), []), "login", "ssh");
    let mut receiver = Receiver::new(sealer);
    assert!(receiver.receive(Family::V4, data).is_err(), "nobody can guess a seal");

    // What stands behind the seal, as if somebody with the key had sent it.
    let from = NodeId::from_index(usize::from(data.first().copied().unwrap_or(0)) % 64).expect("below 64");
    let origin = Origin { from, host: 1, incarnation: Incarnation(1), seq: Seq(1) };
    let Some((head, body)) = data.split_first() else { return };
    let mut body = body.to_vec();
    if head & 0x80 != 0 {
        fit(&mut body);
    }
    if let Ok(beat) = decode(origin, &body) {
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

/// Makes `body` as long as it says it is, because the fuzzer would hardly ever guess that.
fn fit(body: &mut Vec<u8>) {
    body.resize(body.len().max(BODY_MIN), 0);
    let (reports, rulings) = (usize::from(body[1]), usize::from(u16::from_le_bytes([body[38], body[39]])));
    body.resize(BODY_MIN + 12 * (reports % 64) + 2 * (rulings % 512), 0);
}

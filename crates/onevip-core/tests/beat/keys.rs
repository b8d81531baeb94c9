//! Key files, and how a key is replaced without anybody falling silent.

use super::arbitrary::beat_numbered;
use super::{CLUSTER, VIP, key};
use onevip_core::beat::{KeyFile, KeyFileError, Keyring, Rejected, Sealer};
use proptest::prelude::*;

fn sealer(file: &KeyFile) -> Sealer {
    Sealer::new(&file.keyring(), CLUSTER, VIP)
}

fn hear_each_other(one: &KeyFile, other: &KeyFile) -> bool {
    let hears = |from: &KeyFile, to: &KeyFile| sealer(to).open(&sealer(from).seal(&beat_numbered(1))).is_ok();
    hears(one, other) && hears(other, one)
}

#[test]
fn while_a_key_is_replaced_nodes_of_neighbouring_steps_hear_each_other() {
    let old = KeyFile::generate([1; 32]);
    let mut steps = vec![old.clone()];
    let mut file = old.clone();
    file.add([2; 32]).unwrap();
    steps.push(file.clone());
    file.promote().unwrap();
    steps.push(file.clone());
    file.retire().unwrap();
    steps.push(file.clone());

    for pair in steps.windows(2) {
        assert!(hear_each_other(&pair[0], &pair[1]), "one node is a step behind");
    }
    assert!(!hear_each_other(&steps[0], &steps[2]), "who skips the first step is not understood");
    assert_eq!(file, KeyFile::generate([2; 32]));
    assert!(!hear_each_other(&old, &file), "the old key is worth nothing any more");
}

#[test]
fn two_keys_open_at_once_and_a_third_does_not() {
    let both = Sealer::new(&Keyring::new(key(1), [key(2)]), CLUSTER, VIP);
    for known in [1, 2] {
        let sealed = super::sealer_with(known).seal(&beat_numbered(1));
        assert!(both.open(&sealed).is_ok());
    }
    let stranger = super::sealer_with(3).seal(&beat_numbered(1));
    assert_eq!(both.open(&stranger), Err(Rejected::UnknownKey(key(3).id())));
}

#[test]
fn a_keyring_is_bounded_and_counts_each_key_once() {
    let ring = Keyring::new(key(1), [key(1), key(2), key(2), key(3), key(4), key(5)]);
    assert_eq!(ring.accept(), [key(1), key(2), key(3), key(4)]);
    assert_eq!(ring.send(), &key(1));
}

#[test]
fn a_file_is_read_back_as_it_was_written() {
    let mut file = KeyFile::generate([1; 32]);
    for random in 2..=4 {
        file.add([random; 32]).unwrap();
    }
    assert_eq!(file.add([5; 32]), Err(KeyFileError::Full));
    assert_eq!(KeyFile::parse(&file.render()), Ok(file.clone()));
    file.promote().unwrap();
    assert_eq!(KeyFile::parse(&file.render()), Ok(file));
}

#[test]
fn comments_blanks_and_line_ends_of_any_kind_do_not_matter() {
    let text = format!("# keys\r\n\r\n  accept\t{}  \r\nsend   {}", "0a".repeat(32), "0B".repeat(32));
    let file = KeyFile::parse(&text).unwrap();
    assert_eq!(file.keyring(), Keyring::new(key(0x0b), [key(0x0a)]));
}

#[test]
fn what_cannot_be_done_is_refused() {
    let mut file = KeyFile::generate([1; 32]);
    let before = file.clone();
    assert_eq!(file.promote(), Err(KeyFileError::NothingToPromote));
    assert_eq!(file.retire(), Err(KeyFileError::NothingToRetire));
    assert_eq!(file.add([1; 32]), Err(KeyFileError::NotNew));
    assert_eq!(file.add([0; 32]), Err(KeyFileError::NotNew));
    assert_eq!(file, before);
    file.add([2; 32]).unwrap();
    assert_eq!(file.retire(), Err(KeyFileError::NothingToRetire), "the new key is not thrown away");
}

#[test]
fn what_is_wrong_is_named_by_line_and_never_shown() {
    let k = |byte: &str| byte.repeat(32);
    let (a, b, c, d, e) = (k("a1"), k("b2"), k("c3"), k("d4"), k("e5"));
    let rows = [
        (String::new(), KeyFileError::NoSend),
        (format!("accept {a}\n"), KeyFileError::NoSend),
        (format!("\n{a}\n"), KeyFileError::Word { line: 2 }),
        (format!("Send {a}\n"), KeyFileError::Word { line: 1 }),
        (format!("send {a}\nsend{b}\n"), KeyFileError::Word { line: 2 }),
        ("send\n".into(), KeyFileError::Digits { line: 1 }),
        (format!("send {a}0\n"), KeyFileError::Digits { line: 1 }),
        (format!("send {a} # mine\n"), KeyFileError::Digits { line: 1 }),
        (format!("send {}\n", "xy".repeat(32)), KeyFileError::Digits { line: 1 }),
        (format!("send {}\n", k("00")), KeyFileError::Zero { line: 1 }),
        (format!("send {a}\n\naccept {}\n", a.to_uppercase()), KeyFileError::Twice { line: 3, first: 1 }),
        (format!("send {a}\nsend {b}\n"), KeyFileError::SecondSend { line: 2, first: 1 }),
        (
            format!("accept {a}\naccept {b}\naccept {c}\naccept {d}\nsend {e}\n"),
            KeyFileError::TooMany { line: 4 },
        ),
    ];
    for (text, expected) in rows {
        let error = KeyFile::parse(&text).unwrap_err();
        assert_eq!(error, expected, "{text}");
        let shown = format!("{error} {error:?}").to_lowercase();
        assert!(["a1a1", "b2b2", "e5e5", "xyxy"].iter().all(|secret| !shown.contains(secret)), "{shown}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(send|accept|#|[0-9a-f]{64}|[ \t\r\n]|\\PC){0,40}") {
        if let Ok(file) = KeyFile::parse(&text) {
            prop_assert_eq!(KeyFile::parse(&file.render()), Ok(file));
        }
    }

    #[test]
    fn nothing_that_is_printed_shows_a_key(random in any::<[u8; 32]>()) {
        let file = KeyFile::generate(random);
        let secret = onevip_core::beat::Key::from_bytes(random).to_hex();
        prop_assert!(file.render().contains(&secret));
        let shown = format!("{:?} {:?}", file, file.keyring());
        prop_assert!(!shown.contains(&secret[..16]));
    }
}

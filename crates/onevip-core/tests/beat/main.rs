//! Beats as hostile input: what is written is read back and nothing else is; what is forged, cut, copied, foreign or
//! old changes nothing and is counted.

#![allow(clippy::unwrap_used)]

mod arbitrary;
mod codec;
mod flood;
mod guard;
mod keys;
mod restart;
mod seal;

use onevip_core::beat::{Key, Keyring, Receiver, Sealer};

const CLUSTER: &str = "login";
const VIP: &str = "ssh";

fn key(byte: u8) -> Key {
    Key::from_bytes([byte; 32])
}

fn sealer_with(byte: u8) -> Sealer {
    Sealer::new(&Keyring::new(key(byte), []), CLUSTER, VIP)
}

fn sealer() -> Sealer {
    sealer_with(7)
}

fn receiver() -> Receiver {
    Receiver::new(sealer())
}

//! What arrives at a VIP besides users: floods of SYNs, clients that never answer, clients that never speak.
//!
//! Everything that could make a healthy node look as if it served nobody, several at once and bounded: 500 frames a second.

use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::segment::{Segment, flag};
use crate::dial::{dial, end_abruptly};
use crate::lab::Lab;
use crate::net::INTERFACE;
use crate::plan::{Host, LabPlan, vip4};
use crate::random::Random;
use crate::wire::{Tap, parse_mac};

/// How often frames are sent.
const STEP: Duration = Duration::from_millis(20);
/// SYNs from random addresses, in each step: 350 a second.
const FLOOD: usize = 7;
/// Addresses that repeat their SYN each second and never answer.
const REPEATERS: u8 = 10;
/// Addresses that pretend to complete a handshake each second and never acknowledge anything else.
const PRETENDERS: u8 = 10;
/// Connections of real clients that never speak.
const SILENT: usize = 12;

/// A thread that makes all of it from the host `client`, until it is dropped.
pub struct BackgroundTraffic {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BackgroundTraffic {
    /// Begins. The same seed makes the same flood.
    ///
    /// # Errors
    /// When the host is not there.
    pub fn start(lab: &Lab, seed: u64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let clients = lab.plan().addresses4(Host::Client);
        let to = SocketAddrV4::new(vip4(), 22);
        let silent = clients.iter().cycle().take(SILENT);
        let silent = lab.inside("client", || silent.filter_map(|from| dial(*from, to).ok()).collect())?;
        let background = Maker {
            tap: lab.tap("client", INTERFACE)?,
            own_mac: parse_mac(&LabPlan::mac(Host::Client)),
            cluster_mac: parse_mac(lab.cluster_mac()),
            random: Random(seed),
            silent,
        };
        let thread = thread::Builder::new().name("background".into()).spawn(move || background.run(&told))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for BackgroundTraffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Maker {
    tap: Tap,
    own_mac: [u8; 6],
    cluster_mac: [u8; 6],
    random: Random,
    silent: Vec<TcpStream>,
}

impl Maker {
    fn run(mut self, stop: &AtomicBool) {
        let (mut step, begun) = (0u32, Instant::now());
        while !stop.load(Ordering::Relaxed) {
            self.step(step);
            step += 1;
            thread::sleep((begun + STEP * step).saturating_duration_since(Instant::now()));
        }
        self.silent.iter().for_each(end_abruptly);
    }

    fn step(&mut self, step: u32) {
        for _ in 0..FLOOD {
            let random = self.random.draw();
            let bytes = random.to_be_bytes();
            // Some of the LAN, where nobody has them, most of anywhere.
            let from = if random.is_multiple_of(4) {
                stranger(bytes[0] % 10)
            } else {
                Ipv4Addr::new(198, 18 + bytes[0] % 2, bytes[1], bytes[2])
            };
            self.say(from, (random >> 20) as u16 | 1024, flag::SYN, random as u32, 0);
        }
        // Each of them once a second, as TCP repeats it.
        let (second, place) = (step / 50, step % 50);
        if place < u32::from(REPEATERS) {
            self.say(stranger(10 + place as u8), 30_000 + (second / 5) as u16, flag::SYN, second / 5, 0);
        }
        if place < u32::from(PRETENDERS) {
            let (from, port) = (stranger(10 + REPEATERS + place as u8), 20_000 + (second % 10_000) as u16);
            self.say(from, port, flag::SYN, 1, 0);
            self.say(from, port, flag::ACK, 2, 77);
        }
    }

    fn say(&self, from: Ipv4Addr, port: u16, flags: u8, seq: u32, ack: u32) {
        let (from_mac, to_mac) = (self.own_mac, self.cluster_mac);
        let (from, to) = ((from, port), (vip4(), 22));
        let segment = Segment { from_mac, to_mac, from, to, seq, ack, flags, data: 0 };
        // A full queue drops some; there are more.
        let _ = self.tap.send(&segment.frame());
    }
}

/// An address of the LAN that nobody has (`client2` begins at 231), so that SYN-ACKs to it find nobody.
fn stranger(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, 200 + number)
}

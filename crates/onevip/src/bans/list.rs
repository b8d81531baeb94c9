//! A node's list of bans: takes orders and changes, carries them into the kernel part, stores them.

use super::wire::{BanRecord, BanRequest, ListedBan, NewBans, Wake};
use crate::bans::never::{Never, too_wide};
use crate::bans::store;
use crate::base::clock::{now, unix_time};
use crate::base::current::Configured;
use crate::control::reload::{Apply, Reload};
use crate::events::bus::Bus;
use crate::events::record::Record;
use anyhow::{Context, bail};
use onevip_config::{Config, EventKind};
use onevip_core::Prefix;
use onevip_core::bans::{BanList, Entry, Stamp};
use onevip_core::{NodeId, Time};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many entries one answer to another node has.
const PART: usize = 2000;
/// How often this host's gateways are looked up anew.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A node's list of bans, and what it is for.
pub struct NodeBans {
    state: Mutex<State>,
    wake: Sender<Wake>,
    dir: PathBuf,
    bus: Bus,
    /// Tells this life of the daemon from others: numbers of changes begin anew with each.
    epoch: u64,
}

struct State {
    list: BanList,
    kernel: onevip_bpf::Bans,
    config: Config,
    never: Never,
    looked: Time,
    stored: u64,
}

fn clock_ms() -> u64 {
    unix_time().as_millis() as u64
}

impl NodeBans {
    /// Takes over what was stored, and what the kernel part keeps out already. `wake` wakes the thread that replicates.
    pub fn new(
        config: &Config,
        me: NodeId,
        kernel: onevip_bpf::Bans,
        dir: &Path,
        bus: Bus,
        wake: Sender<Wake>,
    ) -> Self {
        let now = now();
        let mut list = BanList::new(me);
        match store::load(dir, now, clock_ms()) {
            Ok(stored) => stored.into_iter().for_each(|(prefix, entry)| {
                let _ = list.merge(prefix, entry, now);
            }),
            Err(error) => tracing::error!("bans of an earlier time are lost: {error:#}"),
        }
        let stored = list.number();
        // Banned just before the daemon died, and not stored yet.
        for (prefix, stop) in kernel.known() {
            if list.get(prefix).is_none() && stop.openings_until > now {
                let stamp = Stamp { time_ms: 0, node: me };
                let spares_sessions = stop.everything_until <= now;
                let reason = "found in the kernel part".to_owned();
                list.merge(
                    *prefix,
                    Entry { stamp, until: stop.openings_until, spares_sessions, reason },
                    now,
                );
            }
        }
        let state =
            State { list, kernel, config: config.clone(), never: Never::new(config), looked: now, stored };
        let (state, dir) = (Mutex::new(state), dir.to_owned());
        let this = Self { state, wake, dir, bus, epoch: clock_ms() ^ now.nanos() };
        this.state().carry_out_all(now);
        this
    }

    /// Bans.
    ///
    /// # Errors
    /// Says why not.
    pub fn ban(&self, order: &BanRequest) -> anyhow::Result<String> {
        let prefix: Prefix = order.prefix.parse()?;
        let (mut state, now) = (self.state(), now());
        state.never = Never::new(&state.config);
        let refuse = state.never.why_not(&prefix).or_else(|| too_wide(&prefix).filter(|_| !order.force));
        if let Some(why) = refuse {
            bail!("{prefix} is not banned: {why}");
        }
        let how_long = order.seconds.map(Duration::from_secs);
        state.list.ban(prefix, how_long, order.keep_sessions, &order.reason, (now, clock_ms()))?;
        state.carry_out(&prefix, now).context("noted, but not carried out")?;
        let words = ban_words(&prefix, how_long, &order.reason);
        drop(state);
        self.tell(EventKind::Banned, None, words.clone());
        let _ = self.wake.send(Wake::Changed);
        Ok(words)
    }

    /// Lifts the ban of exactly this prefix; whether there was one, and in words.
    ///
    /// # Errors
    /// A wider one keeps it out all the same.
    pub fn unban(&self, prefix: &str) -> anyhow::Result<(bool, String)> {
        let prefix: Prefix = prefix.parse()?;
        let (mut state, now) = (self.state(), now());
        let lifted = state.list.lift(prefix, (now, clock_ms()));
        if lifted {
            state.carry_out(&prefix, now)?;
        }
        let covering = state.list.covering(&prefix, now).map(|(wider, _)| wider);
        drop(state);
        if lifted {
            self.tell(EventKind::Unbanned, None, format!("{prefix} is not banned any more"));
            let _ = self.wake.send(Wake::Changed);
        }
        match (lifted, covering) {
            (true, None) => Ok((true, format!("{prefix} is not banned any more"))),
            (false, None) => Ok((false, format!("{prefix} was not banned"))),
            (_, Some(wider)) => bail!("{prefix} is still kept out, because {wider} is banned"),
        }
    }

    /// Everything in force.
    pub fn list(&self) -> Vec<ListedBan> {
        let (state, now) = (self.state(), now());
        let listed = |(prefix, entry): (&Prefix, &Entry)| {
            let by = state.config.node(entry.stamp.node);
            ListedBan {
                prefix: prefix.to_string(),
                left_seconds: (entry.until != Time::NEVER).then(|| entry.until.since(now).as_secs()),
                since: entry.stamp.time_ms / 1000,
                by: by.map_or_else(|| format!("node {}", entry.stamp.node), |node| node.name.clone()),
                keep_sessions: entry.spares_sessions,
                reason: entry.reason.clone(),
                ignored: state.never.why_not(prefix),
            }
        };
        state.list.in_force(now).map(listed).collect()
    }

    /// What changed since the change of this number, for a node that knows so much of this life of the daemon.
    pub fn changes(&self, epoch: u64, after: u64) -> NewBans {
        let (state, now) = (self.state(), now());
        let (changes, upto) = state.list.changes(if epoch == self.epoch { after } else { 0 }, PART);
        let bans = changes.iter().map(|(prefix, entry)| BanRecord::of(prefix, entry, now)).collect();
        NewBans { epoch: self.epoch, upto, number: state.list.number(), bans }
    }

    /// Epoch and number of the newest change.
    pub fn newest(&self) -> (u64, u64) {
        (self.epoch, self.state().list.number())
    }

    /// Another node says that something is new there.
    pub fn hint(&self, node: NodeId, epoch: u64, number: u64) {
        let _ = self.wake.send(Wake::Hint { node, epoch, number });
    }

    /// Takes in what another node said.
    pub fn take_in(&self, from: NodeId, told: Vec<BanRecord>) {
        let (mut state, now) = (self.state(), now());
        for (prefix, entry) in told.into_iter().filter_map(|told| told.read(now, Duration::ZERO)) {
            let was = state.list.get(&prefix).is_some_and(|known| known.is_in_force(now));
            let (until, reason) = (entry.until, entry.reason.clone());
            if !state.list.merge(prefix, entry, now) {
                continue;
            }
            if let Err(error) = state.carry_out(&prefix, now) {
                tracing::error!("{error:#}");
            }
            if let Some(why) = state.never.why_not(&prefix).filter(|_| until > now) {
                tracing::warn!("{prefix} was banned on another node, but is let in here: {why}");
            }
            let by = state.config.node(from).map(|node| node.name.clone());
            if until > now {
                let how_long = (until != Time::NEVER).then(|| until.since(now));
                self.tell(EventKind::Banned, by, ban_words(&prefix, how_long, &reason));
            } else if was {
                self.tell(EventKind::Unbanned, by, format!("{prefix} is not banned any more"));
            }
        }
    }

    /// Ends what has run out, and stores what has changed. To be called about once a second.
    pub fn tick(&self) {
        let (mut state, now) = (self.state(), now());
        for prefix in state.list.expire(now) {
            if let Err(error) = state.carry_out(&prefix, now) {
                tracing::error!("{error:#}");
            }
        }
        if now.since(state.looked) > LOOK_EVERY {
            state.look_again(now);
        }
        let number = state.list.number();
        if number == state.stored {
            return;
        }
        let all = state.list.changes(0, usize::MAX).0;
        drop(state);
        let told = all.iter().map(|(prefix, entry)| BanRecord::of(prefix, entry, now)).collect();
        match store::save(&self.dir, told, now, clock_ms()) {
            Ok(()) => self.state().stored = number,
            Err(error) => tracing::warn!("bans will not outlive a reboot: {error:#}"),
        }
    }

    fn tell(&self, kind: EventKind, node: Option<String>, text: String) {
        tracing::info!("{text}");
        self.bus.publish(&Record::new("", kind, node, text));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reload for NodeBans {
    fn prepare<'a>(&'a self, _old: &'a Configured, new: &'a Configured) -> anyhow::Result<Apply<'a>> {
        Ok(Box::new(|| {
            let mut state = self.state();
            state.config = new.config.clone();
            state.look_again(now());
            Ok(())
        }))
    }
}

impl State {
    /// Brings the kernel part up to date about everything that lies in a prefix.
    fn carry_out(&mut self, prefix: &Prefix, now: Time) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        for prefix in self.list.within(prefix) {
            let stop = self.list.stop(&prefix, now, |wider| self.never.why_not(wider).is_none());
            let done = match stop {
                Some(stop) => self.kernel.put(&prefix, stop),
                None => self.kernel.remove(&prefix),
            };
            outcome = outcome.and(done);
        }
        Ok(outcome?)
    }

    /// Brings the kernel part up to date about everything.
    fn carry_out_all(&mut self, now: Time) {
        self.list.expire(now);
        for world in ["0.0.0.0/0", "::/0"].iter().filter_map(|text| text.parse().ok()) {
            if let Err(error) = self.carry_out(&world, now) {
                tracing::error!("{error:#}");
            }
        }
        self.kernel.tell();
    }

    /// Gateways come and go, and files change.
    fn look_again(&mut self, now: Time) {
        self.looked = now;
        let never = Never::new(&self.config);
        if never != self.never {
            self.never = never;
            self.carry_out_all(now);
        }
    }
}

fn ban_words(prefix: &Prefix, how_long: Option<Duration>, reason: &str) -> String {
    let how_long = match how_long {
        None => "until it is lifted".to_owned(),
        Some(span) => format!("for {}", humantime::format_duration(Duration::from_secs(span.as_secs()))),
    };
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("{prefix} is banned {how_long}{why}")
}

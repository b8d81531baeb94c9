//! The keeper of a node's list: takes orders and news, carries them into the kernel part, stores them.

use super::never::{Never, too_wide};
use super::spread::Wake;
use super::store;
use super::wire::{Listed, Order, Told};
use crate::config::Config;
use crate::daemon::beat_loop::now;
use crate::daemon::news::{Line, Watchers};
use anyhow::{Context, bail};
use onevip_core::Prefix;
use onevip_core::bans::{BanList, Entry, Stamp};
use onevip_core::{NodeId, Time};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many entries one answer to another node has.
const PART: usize = 2000;
/// How often this host's gateways are looked up anew.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Kinds of news.
pub const BANNED: &str = "banned";
/// See [`BANNED`].
pub const UNBANNED: &str = "unbanned";

/// A node's list of bans, and what it is for.
pub struct Keeper {
    state: Mutex<State>,
    wake: Sender<Wake>,
    dir: PathBuf,
    watchers: Watchers,
    /// Tells this life of the daemon from others: numbers of changes begin anew with each.
    epoch: u64,
}

struct State {
    book: BanList,
    kernel: onevip_bpf::Bans,
    config: Config,
    never: Never,
    looked: Time,
    stored: u64,
}

/// News for another node.
pub struct Part {
    /// Of which life of the daemon the numbers are.
    pub epoch: u64,
    /// Up to which number this tells everything.
    pub upto: u64,
    /// The number of the newest change.
    pub number: u64,
    /// The entries.
    pub bans: Vec<Told>,
}

fn clock_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Keeper {
    /// Takes over what was stored, and what the kernel part keeps out already. `wake` wakes the thread that spreads news.
    pub fn new(
        config: &Config,
        me: NodeId,
        kernel: onevip_bpf::Bans,
        dir: &Path,
        watchers: Watchers,
        wake: Sender<Wake>,
    ) -> Self {
        let now = now();
        let mut book = BanList::new(me);
        match store::load(dir, now, clock_ms()) {
            Ok(stored) => stored.into_iter().for_each(|(prefix, entry)| {
                let _ = book.merge(prefix, entry, now);
            }),
            Err(error) => tracing::error!("bans of an earlier time are lost: {error:#}"),
        }
        let stored = book.number();
        // Banned just before the daemon died, and not stored yet.
        for (prefix, stop) in kernel.known() {
            if book.get(prefix).is_none() && stop.openings_until > now {
                let stamp = Stamp { time_ms: 0, node: me };
                let spares_sessions = stop.everything_until <= now;
                let reason = "found in the kernel part".to_owned();
                book.merge(
                    *prefix,
                    Entry { stamp, until: stop.openings_until, spares_sessions, reason },
                    now,
                );
            }
        }
        let state =
            State { book, kernel, config: config.clone(), never: Never::new(config), looked: now, stored };
        let (state, dir) = (Mutex::new(state), dir.to_owned());
        let this = Self { state, wake, dir, watchers, epoch: clock_ms() ^ now.nanos() };
        this.state().carry_out_all(now);
        this
    }

    /// Bans.
    ///
    /// # Errors
    /// Says why not.
    pub fn ban(&self, order: &Order) -> anyhow::Result<String> {
        let prefix: Prefix = order.prefix.parse()?;
        let (mut state, now) = (self.state(), now());
        state.never = Never::new(&state.config);
        let refuse = state.never.why_not(&prefix).or_else(|| too_wide(&prefix).filter(|_| !order.force));
        if let Some(why) = refuse {
            bail!("{prefix} is not banned: {why}");
        }
        let how_long = order.seconds.map(Duration::from_secs);
        state.book.ban(prefix, how_long, order.keep_sessions, &order.reason, (now, clock_ms()))?;
        state.carry_out(&prefix, now).context("noted, but not carried out")?;
        let words = ban_words(&prefix, how_long, &order.reason);
        drop(state);
        self.tell(BANNED, None, words.clone());
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
        let lifted = state.book.lift(prefix, (now, clock_ms()));
        if lifted {
            state.carry_out(&prefix, now)?;
        }
        let covering = state.book.covering(&prefix, now).map(|(wider, _)| wider);
        drop(state);
        if lifted {
            self.tell(UNBANNED, None, format!("{prefix} is not banned any more"));
            let _ = self.wake.send(Wake::Changed);
        }
        match (lifted, covering) {
            (true, None) => Ok((true, format!("{prefix} is not banned any more"))),
            (false, None) => Ok((false, format!("{prefix} was not banned"))),
            (_, Some(wider)) => bail!("{prefix} is still kept out, because {wider} is banned"),
        }
    }

    /// Everything in force.
    pub fn list(&self) -> Vec<Listed> {
        let (state, now) = (self.state(), now());
        let listed = |(prefix, entry): (&Prefix, &Entry)| {
            let by = state.config.node(entry.stamp.node);
            Listed {
                prefix: prefix.to_string(),
                left_seconds: (entry.until != Time::NEVER).then(|| entry.until.since(now).as_secs()),
                since: entry.stamp.time_ms / 1000,
                by: by.map_or_else(|| format!("node {}", entry.stamp.node), |node| node.name.clone()),
                keep_sessions: entry.spares_sessions,
                reason: entry.reason.clone(),
                ignored: state.never.why_not(prefix),
            }
        };
        state.book.in_force(now).map(listed).collect()
    }

    /// What changed since the change of this number, for a node that knows so much of this life of the daemon.
    pub fn news(&self, epoch: u64, after: u64) -> Part {
        let (state, now) = (self.state(), now());
        let (changes, upto) = state.book.changes(if epoch == self.epoch { after } else { 0 }, PART);
        let bans = changes.iter().map(|(prefix, entry)| Told::of(prefix, entry, now)).collect();
        Part { epoch: self.epoch, upto, number: state.book.number(), bans }
    }

    /// Epoch and number of the newest change.
    pub fn newest(&self) -> (u64, u64) {
        (self.epoch, self.state().book.number())
    }

    /// Another node says that it has news.
    pub fn hint(&self, node: NodeId, epoch: u64, number: u64) {
        let _ = self.wake.send(Wake::Hint { node, epoch, number });
    }

    /// Takes in what another node said.
    pub fn take_in(&self, from: NodeId, told: Vec<Told>) {
        let (mut state, now) = (self.state(), now());
        for (prefix, entry) in told.into_iter().filter_map(|told| told.read(now, Duration::ZERO)) {
            let was = state.book.get(&prefix).is_some_and(|known| known.is_in_force(now));
            let (until, reason) = (entry.until, entry.reason.clone());
            if !state.book.merge(prefix, entry, now) {
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
                self.tell(BANNED, by, ban_words(&prefix, how_long, &reason));
            } else if was {
                self.tell(UNBANNED, by, format!("{prefix} is not banned any more"));
            }
        }
    }

    /// Ends what has run out, and stores what has changed. To be called about once a second.
    pub fn tick(&self) {
        let (mut state, now) = (self.state(), now());
        for prefix in state.book.expire(now) {
            if let Err(error) = state.carry_out(&prefix, now) {
                tracing::error!("{error:#}");
            }
        }
        if now.since(state.looked) > LOOK_EVERY {
            state.look_again(now);
        }
        let number = state.book.number();
        if number == state.stored {
            return;
        }
        let all = state.book.changes(0, usize::MAX).0;
        drop(state);
        let told = all.iter().map(|(prefix, entry)| Told::of(prefix, entry, now)).collect();
        match store::save(&self.dir, told, now, clock_ms()) {
            Ok(()) => self.state().stored = number,
            Err(error) => tracing::warn!("bans will not outlive a reboot: {error:#}"),
        }
    }

    /// Another configuration is in force.
    pub fn reconfigure(&self, config: &Config) {
        let mut state = self.state();
        state.config = config.clone();
        state.look_again(now());
    }

    fn tell(&self, event: &str, node: Option<String>, text: String) {
        tracing::info!("{text}");
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        self.watchers.tell(&Line {
            time,
            vip: String::new(),
            event: event.to_owned(),
            node,
            check: None,
            text,
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Brings the kernel part up to date about everything that lies in a prefix.
    fn carry_out(&mut self, prefix: &Prefix, now: Time) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        for prefix in self.book.within(prefix) {
            let stop = self.book.stop(&prefix, now, |wider| self.never.why_not(wider).is_none());
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
        self.book.expire(now);
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

//! The questions a worker asks: a slot with its first token, and tokens.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Path, Sabotage};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::gate::Gate;
use crate::heartbeat;
use crate::lease::Terms;
use crate::link::{Away, Line, Link};
use crate::scripts::{AdmitReply, Asker, Decision, Question, Scripts, Slot, Tokens};
use crate::slot::{Claim, Release};
use crate::{Limits, Mode, Reason, Settings, SlotGuard, Wait};

/// The configured address is not one of a Redis.
#[derive(Debug, thiserror::Error)]
#[error("not the address of a Redis")]
pub struct AddressError(#[source] redis::RedisError);

/// A handle to the limits of a cell. Clones are the same worker.
#[derive(Debug, Clone)]
pub struct Throttle {
    pub(crate) inner: Arc<Inner>,
    pub(crate) releases: mpsc::UnboundedSender<Release>,
}

/// What the handles and the heartbeat share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) link: Link,
    pub(crate) scripts: Scripts,
    /// This worker's name in Redis, unique to this start.
    pub(crate) worker: String,
    epoch_key: String,
    pub(crate) workers_key: String,
    epoch: Mutex<Arc<str>>,
    workers: AtomicU32,
    /// Since when every heartbeat has found the cell settling after a wipe.
    settling: Mutex<Option<Instant>>,
    slots: AtomicU64,
    gates: Mutex<HashMap<Path, Arc<Gate>>>,
}

impl Throttle {
    /// A worker's part in the throttling of its cell, through the Redis at `url`, and its heartbeat.
    ///
    /// Does not connect: the heartbeat does, and as long as it is not run or Redis is away the mode is
    /// [`Mode::Local`]. The heartbeat ends by itself, having said goodbye, once all handles and slots are dropped.
    /// Fails only where `url` is not one.
    pub fn connect(
        url: &str,
        settings: Settings,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static + use<>), AddressError> {
        let link = Link::open(url, &settings).map_err(AddressError)?;
        let inner = Arc::new(Inner {
            link,
            scripts: Scripts::new(),
            worker: format!("{}.{}", settings.worker, uuid::Uuid::now_v7().simple()),
            epoch_key: format!("{{{}}}:epoch", settings.cell),
            workers_key: format!("{{{}}}:workers", settings.cell),
            epoch: Mutex::new("".into()),
            workers: AtomicU32::new(settings.assumed_workers.max(1)),
            settling: Mutex::default(),
            slots: AtomicU64::new(0),
            gates: Mutex::default(),
            settings,
        });
        let (releases, released) = mpsc::unbounded_channel();
        let heartbeat = heartbeat::run(Arc::clone(&inner), released);
        Ok((Self { inner, releases }, heartbeat))
    }

    /// Asks for a connection on `path`, and for the token of its first message with it.
    ///
    /// That token waits in the guard for as long as a connection may take; use it through [`SlotGuard::take`] or
    /// [`SlotGuard::token`].
    pub async fn open(&self, path: &Path, limits: &Limits) -> Result<SlotGuard, Wait> {
        let mut claim = Claim::new(self, self.inner.gate(path, limits));
        let asked_at = Instant::now();
        let share = self.inner.share(&claim.gate, limits);
        let decision = match self.inner.link.line() {
            Some(line) => self.inner.ask_for_slot(&line, &claim, limits).await,
            None => Err(Away),
        };
        let denied = match decision {
            Ok(Decision::Granted { .. }) => {
                claim.gate.hold(claim.id, asked_at);
                return Ok(SlotGuard::new(claim, path.clone()));
            }
            Ok(Decision::RateLimited { wait }) => Wait {
                reason: Reason::RateLimited,
                retry_after: wait,
            },
            // The slot is granted; without a token for it, it is given back.
            Ok(Decision::OfShare { time }) => {
                claim.gate.keep_apart(&share, time)?;
                claim.gate.hold(claim.id, asked_at);
                return Ok(SlotGuard::new(claim, path.clone()));
            }
            Ok(Decision::ConnectionsInUse { wait }) => {
                if self.inner.shares_slots()
                    && claim
                        .gate
                        .open_of_share(claim.id, &share, Duration::ZERO)
                        .is_ok()
                {
                    return Ok(SlotGuard::new(claim, path.clone()));
                }
                Wait::for_connection(wait)
            }
            Err(Away) => {
                match claim
                    .gate
                    .open_of_share(claim.id, &share, self.inner.settings.return_jitter)
                {
                    Ok(()) => return Ok(SlotGuard::new(claim, path.clone())),
                    // The claim stays: Redis may have granted before it failed, so the slot must be released.
                    Err(wait) => return Err(wait),
                }
            }
        };
        claim.withdraw();
        Err(denied)
    }

    /// Asks for one token of `path`: the permission to send one message now.
    pub async fn take(&self, path: &Path, limits: &Limits) -> Result<(), Wait> {
        let Some(terms) = Terms::of(limits, self.inner.settings.lease) else {
            return Ok(());
        };
        let gate = self.inner.gate(path, limits);
        let share = self.inner.share(&gate, limits);
        if let Some(known) = gate.answer(limits, &share, self.mode()) {
            return known;
        }
        let _asking = gate.asking.lock().await;
        if let Some(known) = gate.answer(limits, &share, self.mode()) {
            return known;
        }
        let decision = match self.inner.link.line() {
            Some(line) => self.inner.ask_for_tokens(&line, &gate, terms).await,
            None => Err(Away),
        };
        match decision {
            Ok(decision) => gate.settle(limits, &share, &terms, decision),
            Err(Away) => gate.take_of_share(&share, self.inner.settings.return_jitter),
        }
    }

    /// Waits for one token of `path`. Those who wait are served in the order in which they came.
    pub async fn token(&self, path: &Path, limits: &Limits) {
        if limits.rate().is_none() {
            return;
        }
        let gate = self.inner.gate(path, limits);
        let _turn = gate.turn.lock().await;
        let mut mode = self.watch_mode();
        while let Err(wait) = self.take(path, &gate.limits()).await {
            // A share is slower than the whole, and limits change: whoever waits asks again when either does.
            tokio::select! {
                () = tokio::time::sleep(wait.retry_after) => {}
                () = gate.relearned.notified() => {}
                _ = mode.changed() => {}
            }
        }
    }

    /// Where limits hold at the moment.
    pub fn mode(&self) -> Mode {
        self.inner.link.mode()
    }

    /// Tells changes of the mode.
    pub fn watch_mode(&self) -> watch::Receiver<Mode> {
        self.inner.link.watch_mode()
    }

    /// How many workers are alive in the cell, as far as this one knows.
    pub fn workers(&self) -> u32 {
        self.inner.workers()
    }
}

impl Inner {
    async fn ask_for_slot(
        &self,
        line: &Line,
        claim: &Claim,
        limits: &Limits,
    ) -> Result<Decision, Away> {
        let member = self.member(claim.id);
        let question = Question {
            rate_key: &claim.gate.rate_key,
            slots_key: &claim.gate.slots_key,
            slot: Some(Slot {
                member: &member,
                connections: limits.connections(),
                replaces: claim.gate.has_given_back(self.settings.slot_ttl),
                is_first: claim.gate.slots().is_empty(),
            }),
            tokens: Terms::of(limits, self.settings.lease).map(|terms| Tokens { terms, wanted: 1 }),
        };
        self.ask(line, &claim.gate, &question).await
    }

    async fn ask_for_tokens(
        &self,
        line: &Line,
        gate: &Gate,
        terms: Terms,
    ) -> Result<Decision, Away> {
        let question = Question {
            rate_key: &gate.rate_key,
            slots_key: &gate.slots_key,
            slot: None,
            tokens: Some(Tokens {
                terms,
                wanted: gate.demand(&terms),
            }),
        };
        self.ask(line, gate, &question).await
    }

    async fn ask(
        &self,
        line: &Line,
        gate: &Gate,
        question: &Question<'_>,
    ) -> Result<Decision, Away> {
        let epoch = self.epoch();
        let script = self.scripts.admit(self.asker(&epoch), question);
        let reply: AdmitReply = self.link.ask(line, &script).await?;
        self.remember_epoch(&reply.3);
        if reply.4 > 0 {
            gate.shared_by(reply.4);
        }
        Decision::read(&reply).ok_or(Away)
    }

    pub(crate) fn asker<'a>(&'a self, epoch: &'a str) -> Asker<'a> {
        Asker {
            epoch_key: &self.epoch_key,
            remembered_epoch: epoch,
            proposed_epoch: &self.worker,
            slot_ttl: self.settings.slot_ttl,
        }
    }

    pub(crate) fn epoch(&self) -> Arc<str> {
        Arc::clone(&self.epoch.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn remember_epoch(&self, epoch: &str) {
        let mut remembered = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        if **remembered != *epoch {
            *remembered = epoch.into();
        }
    }

    /// The name of a slot of this worker in Redis.
    pub(crate) fn member(&self, id: u64) -> String {
        format!("{}:{id}", self.worker)
    }

    pub(crate) fn next_slot(&self) -> u64 {
        self.slots.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn workers(&self) -> u32 {
        self.workers.load(Ordering::Relaxed)
    }

    /// Takes in what a heartbeat learned: how many workers are alive, and the cell's state as `beat.lua` says it.
    ///
    /// A Redis that was wiped or away does not know all workers yet: until the cell has settled, none is missed.
    pub(crate) fn learn_cell(&self, live: u32, state: u8) {
        match state {
            0 => self.workers.store(live.max(1), Ordering::Relaxed),
            _ => drop(self.workers.fetch_max(live, Ordering::Relaxed)),
        }
        let mut settling = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        *settling = match state {
            2 => Some(settling.unwrap_or_else(Instant::now)),
            _ => None,
        };
    }

    /// Whether Redis is wiped again and again, so that it never knows all slots: then each worker keeps to its share
    /// of them, as if Redis were away.
    pub(crate) fn shares_slots(&self) -> bool {
        let settling = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        settling.is_some_and(|since| since.elapsed() > self.settings.slot_ttl.mul_f64(1.5))
    }

    fn share(&self, gate: &Gate, limits: &Limits) -> Limits {
        if Sabotage::OpenThrottle.is_on() {
            return Limits::new(None, limits.connections());
        }
        let workers = self.workers();
        limits.share(workers, gate.sharers(workers))
    }

    /// What is known of `path`, whose limits are now `limits`.
    fn gate(&self, path: &Path, limits: &Limits) -> Arc<Gate> {
        let gate = self.known_gate(path, limits);
        gate.learn(limits);
        gate
    }

    fn known_gate(&self, path: &Path, limits: &Limits) -> Arc<Gate> {
        let mut gates = self.gates();
        if let Some(gate) = gates.get(path) {
            return Arc::clone(gate);
        }
        let gate = Arc::new(Gate::new(&self.settings.cell, path, limits));
        gates.insert(path.clone(), Arc::clone(&gate));
        gate
    }

    /// All gates there are; those nobody uses any more are forgotten.
    pub(crate) fn live_gates(&self) -> Vec<Arc<Gate>> {
        let mut gates = self.gates();
        gates.retain(|_, gate| Arc::strong_count(gate) > 1 || !gate.is_idle());
        gates.values().map(Arc::clone).collect()
    }

    fn gates(&self) -> MutexGuard<'_, HashMap<Path, Arc<Gate>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The questions a worker answers: whether there is a slot with its first token, and whether there is a token. What waits
//! until it is so: `waiting.rs`; what Redis is asked: `asking.rs`.

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
use crate::link::{Away, Link};
use crate::scripts::{Asker, Decision, Scripts, Tokens};
use crate::slot::{Claim, Release};
use crate::standing::Standing;
use crate::{Limits, Mode, Party, Settings, SlotGuard, Wait};

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

/// Why a slot is not had.
enum Refusal {
    /// Redis said no.
    Certain(Wait),
    /// Redis may have granted before it failed, or has, and so the slot must be released.
    Unheard(Wait),
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

    /// Asks for a connection on `path` for `party`, and for the token of its first message with it.
    ///
    /// That token waits in the guard for as long as a connection may take; use it through [`SlotGuard::take`] or
    /// [`SlotGuard::token`].
    pub async fn open(
        &self,
        path: &Path,
        limits: &Limits,
        party: &Arc<dyn Party>,
    ) -> Result<SlotGuard, Wait> {
        let gate = self.inner.gate(path, limits);
        if gate.holdings().is_left_by(party) {
            return Err(Wait::for_connection(Duration::MAX));
        }
        let mut claim = Claim::new(self, gate);
        // What this worker holds is used first, or it would expire.
        let in_hand = match limits.rate() {
            Some(_) => claim.gate.spend(),
            None => None,
        };
        let opened = self.open_with(&claim, limits, party, in_hand).await;
        if opened.is_err()
            && let Some(expires) = in_hand
        {
            claim.gate.put_back(expires);
        }
        match opened {
            Ok(()) => Ok(SlotGuard::granted(claim, path.clone(), Arc::clone(party))),
            Err(Refusal::Certain(wait)) => {
                claim.withdraw();
                Err(wait)
            }
            Err(Refusal::Unheard(wait)) => Err(wait),
        }
    }

    /// The same with a claim, and perhaps the token in hand, which is good until then.
    async fn open_with(
        &self,
        claim: &Claim,
        limits: &Limits,
        party: &Arc<dyn Party>,
        in_hand: Option<Instant>,
    ) -> Result<(), Refusal> {
        let (gate, asked_at) = (&claim.gate, Instant::now());
        let share = self.inner.share(gate, limits);
        let of_share = |delay| gate.open_of_share(claim.id, party, &share, delay);
        let terms = match in_hand {
            Some(_) => None,
            None => Terms::of(limits, self.inner.settings.lease),
        };
        let tokens = terms.map(|terms| Tokens {
            terms,
            wanted: 1,
            class: party.class(),
        });
        let decision = match self.inner.link.line() {
            Some(line) => {
                let connections = limits.connections();
                let asked = self.inner.ask_for_slot(&line, claim, connections, tokens);
                asked.await
            }
            None => Err(Away),
        };
        match decision {
            Ok(Decision::Granted { .. }) => {}
            Ok(Decision::RateLimited { wait }) => {
                return Err(Refusal::Certain(Wait::for_token(wait)));
            }
            // The slot is granted; without a token for it, it is given back.
            Ok(Decision::OfShare { time }) => {
                gate.keep_apart(&share, time).map_err(Refusal::Unheard)?;
            }
            Ok(Decision::ConnectionsInUse { wait }) => {
                return match self.inner.shares_slots() && of_share(Duration::ZERO).is_ok() {
                    true => Ok(()),
                    false => Err(Refusal::Certain(Wait::for_connection(wait))),
                };
            }
            Err(Away) => {
                let delay = self.inner.settings.return_jitter;
                return of_share(delay).map_err(Refusal::Unheard);
            }
        }
        gate.holdings().hold(claim.id, party, asked_at);
        Ok(())
    }

    /// Asks for one token of `path` for `party`: the permission to send one message now. It is refused where others wait for
    /// one that come first.
    pub async fn take(
        &self,
        path: &Path,
        limits: &Limits,
        party: &Arc<dyn Party>,
    ) -> Result<(), Wait> {
        let Some(terms) = Terms::of(limits, self.inner.settings.lease) else {
            return Ok(());
        };
        let gate = self.inner.gate(path, limits);
        if gate.line.is_empty() && gate.spend().is_some() {
            return Ok(());
        }
        let class = party.class();
        if !gate.line.lets_pass(class) {
            return Err(Wait::for_token(terms.interval));
        }
        self.inner.take_for(&gate, limits, class).await?;
        gate.line.served(class);
        Ok(())
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

    /// What this worker may do alone on a path.
    pub(crate) fn share(&self, gate: &Gate, limits: &Limits) -> Limits {
        if Sabotage::OpenThrottle.is_on() {
            return Limits::new(None, limits.connections());
        }
        let workers = self.workers();
        // Where Redis never answered, all of the assumed workers may use it.
        let standing = match self.epoch().is_empty() {
            true => Standing::Among(workers),
            false => gate.standing(),
        };
        limits.share(workers, standing)
    }

    /// What is known of `path`, whose limits are now `limits`.
    pub(crate) fn gate(&self, path: &Path, limits: &Limits) -> Arc<Gate> {
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

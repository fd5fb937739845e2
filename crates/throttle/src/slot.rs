//! A connection slot: held while its guard lives, renewed by the heartbeat; when it is dropped, given to whoever waits for
//! one in this worker, or else given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::gate::Gate;
use crate::holdings::SlotId;
use crate::party::Party;
use crate::throttle::Throttle;
use crate::{Limits, Mode, Wait};

/// How often it is looked whether a slot is wanted by now, without a sign: what parties would send next changes, and so does
/// how long a slot has been held.
const RECONSIDERED: Duration = Duration::from_secs(1);

/// A slot to be given back in Redis.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) gate: Arc<Gate>,
    pub(crate) id: SlotId,
}

/// A slot that was or may have been granted. Dropped, it is given on or back, unless it was withdrawn.
#[derive(Debug)]
pub(crate) struct Claim {
    throttle: Throttle,
    pub(crate) gate: Arc<Gate>,
    pub(crate) id: SlotId,
    withdrawn: bool,
}

impl Claim {
    /// A claim to a new slot.
    pub(crate) fn new(throttle: &Throttle, gate: Arc<Gate>) -> Self {
        let id = throttle.inner.next_slot();
        Self::of(throttle, gate, id)
    }

    /// A claim to slot `id`, which is nobody else's.
    pub(crate) fn of(throttle: &Throttle, gate: Arc<Gate>, id: SlotId) -> Self {
        Self {
            throttle: throttle.clone(),
            gate,
            id,
            withdrawn: false,
        }
    }

    /// The slot was refused: there is nothing to give back.
    pub(crate) fn withdraw(&mut self) {
        self.withdrawn = true;
    }

    /// Whether Redis renewed the slot of late, with margin: a heartbeat comes every third of the time to live, and a quarter
    /// is left for closing.
    fn is_renewed(&self) -> bool {
        let slot_ttl = self.throttle.inner.settings.slot_ttl;
        let holdings = self.gate.holdings();
        holdings.is_renewed(self.id, slot_ttl.mul_f64(0.75))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.withdrawn || self.is_renewed() && self.gate.holdings().bequeath(self.id) {
            return;
        }
        self.gate.holdings().release(self.id);
        let release = Release {
            gate: Arc::clone(&self.gate),
            id: self.id,
        };
        // Without a heartbeat nobody renews the slot either, and it expires.
        let _ = self.throttle.releases.send(release);
    }
}

/// The right to have one connection open on a path, and to send over it.
#[derive(Debug)]
pub struct SlotGuard {
    claim: Claim,
    path: model::Path,
    party: Arc<dyn Party>,
    granted_at: Instant,
    /// Whether it has a token that came with it.
    first: AtomicBool,
    /// Whether a message was sent by it, or is about to be.
    has_served: AtomicBool,
}

impl SlotGuard {
    /// A slot that was granted to `party` with the token of its first message.
    pub(crate) fn granted(claim: Claim, path: model::Path, party: Arc<dyn Party>) -> Self {
        Self {
            first: AtomicBool::new(true),
            ..Self::inherited(claim, path, party)
        }
    }

    /// A slot that another party of this worker has given up for `party`.
    pub(crate) fn inherited(claim: Claim, path: model::Path, party: Arc<dyn Party>) -> Self {
        Self {
            claim,
            path,
            party,
            granted_at: Instant::now(),
            first: AtomicBool::new(false),
            has_served: AtomicBool::new(false),
        }
    }

    /// The path the connection is for.
    pub fn path(&self) -> &model::Path {
        &self.path
    }

    /// Whether the slot is still ours, with margin. Once it is not, another worker may be given it: send what is
    /// in hand, take nothing more and close.
    pub fn is_fresh(&self) -> bool {
        let inner = &self.claim.throttle.inner;
        let Claim { gate, id, .. } = &self.claim;
        let is_within_share = || gate.is_within_share(*id, &inner.share(gate, &gate.limits()));
        if inner.shares_slots() {
            return is_within_share();
        }
        if self.claim.is_renewed() {
            return true;
        }
        match inner.link.mode() {
            Mode::Shared => false,
            Mode::Local => is_within_share(),
        }
    }

    /// Whether this slot is to be given up for another worker or another party of this one that waits and has none: send
    /// what is in hand, take nothing more and close. For a party only once a message was sent by this slot, so that no
    /// connection is made in vain.
    pub fn is_wanted(&self) -> bool {
        let mut holdings = self.claim.gate.holdings();
        holdings.is_wanted_elsewhere(self.claim.id)
            || self.has_served.load(Ordering::Relaxed) && holdings.is_wanted_here(self.claim.id)
    }

    /// Waits until that is so, for a session that has nothing in hand.
    pub async fn wanted(&self) {
        loop {
            let stirred = self.claim.gate.stirred.notified();
            if self.is_wanted() {
                return;
            }
            tokio::select! {
                () = stirred => {}
                () = sleep(RECONSIDERED) => {}
            }
        }
    }

    /// Asks for a token for the next message: the one that came with the slot, or else [`Throttle::take`].
    pub async fn take(&self, limits: &Limits) -> Result<(), Wait> {
        if !self.first_token() {
            let throttle = &self.claim.throttle;
            throttle.take(&self.path, limits, &self.party).await?;
        }
        self.has_served.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Waits for a token for the next message: the one that came with the slot, or else [`Throttle::token`].
    pub async fn token(&self, limits: &Limits) {
        if !self.first_token() {
            let throttle = &self.claim.throttle;
            throttle.token(&self.path, limits, &self.party).await;
        }
        self.has_served.store(true, Ordering::Relaxed);
    }

    /// The token that came with the slot, once, and not after a time to live.
    fn first_token(&self) -> bool {
        let slot_ttl = self.claim.throttle.inner.settings.slot_ttl;
        self.first.swap(false, Ordering::Relaxed) && self.granted_at.elapsed() < slot_ttl
    }
}

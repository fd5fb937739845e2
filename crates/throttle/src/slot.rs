//! A connection slot: held while its guard lives, renewed by the heartbeat, given back when dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

use crate::gate::{Gate, SlotId};
use crate::throttle::Throttle;
use crate::{Limits, Mode, Wait};

/// A slot to be given back in Redis.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) gate: Arc<Gate>,
    pub(crate) id: SlotId,
}

/// A slot that was or may have been granted. Dropped, it is given back, unless it was withdrawn.
#[derive(Debug)]
pub(crate) struct Claim {
    throttle: Throttle,
    pub(crate) gate: Arc<Gate>,
    pub(crate) id: SlotId,
    withdrawn: bool,
}

impl Claim {
    pub(crate) fn new(throttle: &Throttle, gate: Arc<Gate>) -> Self {
        let id = throttle.inner.next_slot();
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
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.withdrawn {
            return;
        }
        self.gate.release(self.id);
        let release = Release {
            gate: Arc::clone(&self.gate),
            id: self.id,
        };
        // Without a heartbeat nobody renews the slot either, and it expires.
        let _ = self.throttle.releases.send(release);
    }
}

/// The right to have one connection open on a path, and to send one first message over it.
#[derive(Debug)]
pub struct SlotGuard {
    claim: Claim,
    path: model::Path,
    granted_at: Instant,
    first: AtomicBool,
}

impl SlotGuard {
    pub(crate) fn new(claim: Claim, path: model::Path) -> Self {
        Self {
            claim,
            path,
            granted_at: Instant::now(),
            first: AtomicBool::new(true),
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
        // A heartbeat comes every third of the time to live; a quarter is left for closing.
        if inner.shares_slots() {
            return gate.is_within_share(*id, inner.workers());
        }
        if gate.is_renewed(*id, inner.settings.slot_ttl.mul_f64(0.75)) {
            return true;
        }
        match inner.link.mode() {
            Mode::Shared => false,
            Mode::Local => gate.is_within_share(*id, inner.workers()),
        }
    }

    /// Whether another worker waits that has no slot of the path, and this one is to be given up for it: send what is in
    /// hand, take nothing more and close.
    pub fn is_wanted(&self) -> bool {
        self.claim.gate.is_wanted(self.claim.id)
    }

    /// Asks for a token for the next message: the one that came with the slot, or else [`Throttle::take`].
    pub async fn take(&self, limits: &Limits) -> Result<(), Wait> {
        if self.first_token() {
            return Ok(());
        }
        self.claim.throttle.take(&self.path, limits).await
    }

    /// Waits for a token for the next message: the one that came with the slot, or else [`Throttle::token`].
    pub async fn token(&self, limits: &Limits) {
        if !self.first_token() {
            self.claim.throttle.token(&self.path, limits).await;
        }
    }

    /// The token that came with the slot, once, and not after a time to live.
    fn first_token(&self) -> bool {
        let slot_ttl = self.claim.throttle.inner.settings.slot_ttl;
        self.first.swap(false, Ordering::Relaxed) && self.granted_at.elapsed() < slot_ttl
    }
}

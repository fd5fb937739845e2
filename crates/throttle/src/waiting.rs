//! The questions that wait for a yes: a token in its turn, and a slot.
//!
//! Whoever waits for a token stands in the path's line, also where it is the first one of a connection. Whoever waits for a
//! slot and has none asks again and again, and is an heir to its worker's slots meanwhile.

use std::sync::Arc;
use std::time::Duration;

use model::Path;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::gate::Gate;
use crate::heir::Heir;
use crate::line::Place;
use crate::throttle::Throttle;
use crate::{Limits, Mode, Party, Reason, SlotGuard, Wait};

impl Throttle {
    /// Waits for one token of `path` for `party`: in the order of classes, and of those who wait.
    pub async fn token(&self, path: &Path, limits: &Limits, party: &Arc<dyn Party>) {
        if limits.rate().is_none() {
            return;
        }
        let gate = self.inner.gate(path, limits);
        if gate.line.is_empty() && gate.spend().is_some() {
            return;
        }
        let place = gate.line.join(party);
        let mut mode = self.watch_mode();
        loop {
            place.turn().await;
            let class = party.class();
            let taken = self.inner.take_for(&gate, &gate.limits(), class).await;
            let Err(wait) = taken else {
                return place.served(class);
            };
            rest(&gate, &place, &mut mode, wait.retry_after).await;
        }
    }

    /// Waits for a connection on `path` for `party`, and the token of its first message.
    ///
    /// A party without any slot has its first one that way, as long as it has something to send: from Redis, or from a party of
    /// this worker that gives one up, and then without a token. One that has some, or for which somebody waits already, is
    /// told at once where all connections are in use.
    pub async fn slot(
        &self,
        path: &Path,
        limits: &Limits,
        party: &Arc<dyn Party>,
    ) -> Result<SlotGuard, Wait> {
        let gate = self.inner.gate(path, limits);
        let wait = match self.open_in_turn(&gate, path, party).await {
            Err(wait) if wait.reason == Reason::ConnectionsInUse => wait,
            decided => return decided,
        };
        let Some(heir) = Heir::expect(self, &gate, party) else {
            return Err(wait);
        };
        tokio::select! {
            biased;
            claim = heir.inherited() => {
                Ok(SlotGuard::inherited(claim, path.clone(), Arc::clone(party)))
            }
            decided = self.open_later(&gate, path, party, wait) => decided,
        }
    }

    /// Asks for a slot, after `wait` and again and again, until it is not connections that are missing.
    async fn open_later(
        &self,
        gate: &Gate,
        path: &Path,
        party: &Arc<dyn Party>,
        mut wait: Wait,
    ) -> Result<SlotGuard, Wait> {
        loop {
            sleep(wait.retry_after).await;
            if party.next_class().is_none() {
                return Err(wait);
            }
            wait = match self.open_in_turn(gate, path, party).await {
                Err(again) if again.reason == Reason::ConnectionsInUse => again,
                decided => return decided,
            };
        }
    }

    /// Asks for a slot, and where only the token is missing waits for it in line, as long as there is something to send.
    async fn open_in_turn(
        &self,
        gate: &Gate,
        path: &Path,
        party: &Arc<dyn Party>,
    ) -> Result<SlotGuard, Wait> {
        let class = party.class();
        if gate.limits().rate().is_none() || gate.line.lets_pass(class) {
            match self.open(path, &gate.limits(), party).await {
                Err(wait) if wait.reason == Reason::RateLimited => {}
                decided => {
                    count(gate, &decided, party);
                    return decided;
                }
            }
        }
        let place = gate.line.join(party);
        let mut mode = self.watch_mode();
        loop {
            place.turn().await;
            if party.next_class().is_none() {
                return Err(Wait::for_token(Duration::ZERO));
            }
            match self.open(path, &gate.limits(), party).await {
                Err(wait) if wait.reason == Reason::RateLimited => {
                    rest(gate, &place, &mut mode, wait.retry_after).await;
                }
                decided => {
                    count(gate, &decided, party);
                    return decided;
                }
            }
        }
    }
}

/// Counts the token that came with a slot.
fn count(gate: &Gate, decided: &Result<SlotGuard, Wait>, party: &Arc<dyn Party>) {
    if decided.is_ok() {
        gate.line.served(party.class());
    }
}

/// With the turn, until there may be a token, or there is a reason to ask sooner: a share is slower than the whole, limits
/// change, and somebody more urgent may have come.
async fn rest(gate: &Gate, place: &Place<'_>, mode: &mut watch::Receiver<Mode>, time: Duration) {
    tokio::select! {
        () = sleep(time) => {}
        () = gate.relearned.notified() => {}
        _ = mode.changed() => {}
        () = place.called() => {}
    }
}

//! The one task that speaks to Redis without being asked: renews, releases, reconnects.
//!
//! Owns the order of renewals and releases, so that a released slot is never renewed. Ends once nobody is left who
//! could hold a slot.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::Mode;
use crate::gate::Gate;
use crate::holdings::SlotId;
use crate::link::{Away, Line};
use crate::scripts::{BeatReply, Presence};
use crate::slot::Release;
use crate::throttle::Inner;

/// Slots renewed in one call: about a millisecond of Redis's time.
const RENEWED_AT_ONCE: usize = 100;
/// Slots released in one write.
const RELEASED_AT_ONCE: usize = 256;
/// The first wait before dialling again, which doubles up to the longest.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Beats until every handle and slot is dropped.
pub(crate) async fn run(inner: Arc<Inner>, released: UnboundedReceiver<Release>) {
    let mode = inner.link.watch_mode();
    let mut heart = Heart {
        inner,
        released,
        mode,
    };
    loop {
        let went_on = match heart.inner.link.line() {
            Some(line) => heart.beat_on(&line).await,
            None => heart.recover().await,
        };
        if let Err(Closed) = went_on {
            return heart.say_goodbye().await;
        }
    }
}

/// Nobody is left.
struct Closed;

struct Heart {
    inner: Arc<Inner>,
    released: UnboundedReceiver<Release>,
    mode: watch::Receiver<Mode>,
}

/// A slot this worker holds, as Redis knows it.
struct Held {
    gate: Arc<Gate>,
    id: SlotId,
    member: String,
}

impl Heart {
    /// Renews and releases over `line` until it is lost.
    async fn beat_on(&mut self, line: &Line) -> Result<(), Closed> {
        let mut next = self.next_beat();
        let mut batch = Vec::new();
        while self.inner.link.mode() == Mode::Shared {
            tokio::select! {
                () = sleep_until(next) => {
                    next = self.next_beat();
                    // A failure shows in the mode.
                    let _ = self.beat(line, Presence::Steady).await;
                }
                count = self.released.recv_many(&mut batch, RELEASED_AT_ONCE) => {
                    if count == 0 {
                        return Err(Closed);
                    }
                    let _ = self.release(line, &mut batch).await;
                }
                _ = self.mode.changed() => {}
            }
        }
        Ok(())
    }

    /// Dials until Redis answers a heartbeat, and puts that connection in use.
    async fn recover(&mut self) -> Result<(), Closed> {
        let mut wait = SHORTEST_WAIT;
        loop {
            if let Ok(line) = self.inner.link.dial().await {
                self.pause(self.return_delay()).await?;
                let presence = match self.inner.link.was_away() {
                    true => Presence::Returning,
                    false => Presence::Steady,
                };
                if self.beat(&line, presence).await.is_ok() {
                    self.inner.link.restore(line);
                    self.mode.mark_unchanged();
                    return Ok(());
                }
            }
            self.pause(wait.mul_f64(rand::random_range(0.5..1.0)))
                .await?;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Nothing at the first start; after an outage a random while, so that not all workers return at once.
    fn return_delay(&self) -> Duration {
        match self.inner.link.was_away() {
            true => self
                .inner
                .settings
                .return_jitter
                .mul_f64(rand::random_range(0.0..1.0)),
            false => Duration::ZERO,
        }
    }

    /// Waits. Slots dropped meanwhile are not ours any more, and expire by themselves.
    async fn pause(&mut self, time: Duration) -> Result<(), Closed> {
        let over = sleep(time);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return Ok(()),
                dropped = self.released.recv() => if dropped.is_none() {
                    return Err(Closed);
                },
            }
        }
    }

    /// Tells Redis that this worker lives and which slots it holds.
    async fn beat(&self, line: &Line, presence: Presence) -> Result<(), Away> {
        let held = self.held();
        let mut is_settled = false;
        if held.is_empty() {
            is_settled = self.renew(line, presence, &[]).await?;
        }
        for part in held.chunks(RENEWED_AT_ONCE) {
            is_settled = self.renew(line, presence, part).await?;
        }
        if is_settled {
            self.leave_unused();
        }
        Ok(())
    }

    /// Paths that this worker uses no more are left before Redis forgets that it used them.
    fn leave_unused(&self) {
        let unused = self.inner.settings.slot_ttl / 2;
        for gate in self.inner.live_gates() {
            gate.leave_after(unused);
        }
    }

    /// Renews some slots, and answers whether the cell is settled and rates are shared.
    async fn renew(&self, line: &Line, presence: Presence, held: &[Held]) -> Result<bool, Away> {
        let inner = &self.inner;
        let epoch = inner.epoch();
        let slots = held
            .iter()
            .map(|slot| (slot.gate.slots_key.as_str(), slot.member.as_str()));
        let script = inner.scripts.beat(
            inner.asker(&epoch),
            &inner.workers_key,
            &inner.worker,
            presence,
            slots,
        );
        let asked_at = Instant::now();
        let (workers, epoch, state, wanted): BeatReply = inner.link.ask(line, &script).await?;
        inner.learn_cell(workers, state);
        inner.remember_epoch(&epoch);
        for (slot, is_wanted) in held.iter().zip(wanted) {
            slot.gate.holdings().renewed(slot.id, asked_at);
            slot.gate.want_one(is_wanted);
        }
        Ok(state == 0)
    }

    fn held(&self) -> Vec<Held> {
        let mut held = Vec::new();
        for gate in self.inner.live_gates() {
            let slots = gate.holdings().ids();
            for id in slots {
                held.push(Held {
                    gate: Arc::clone(&gate),
                    id,
                    member: self.inner.member(id),
                });
            }
        }
        held
    }

    async fn release(&self, line: &Line, batch: &mut Vec<Release>) -> Result<(), Away> {
        let mut commands = redis::pipe();
        for Release { gate, id } in batch.drain(..) {
            commands
                .cmd("ZREM")
                .arg(&gate.slots_key)
                .arg(self.inner.member(id))
                .ignore();
        }
        self.inner.link.tell(line, &commands).await
    }

    async fn say_goodbye(&self) {
        let Some(line) = self.inner.link.line() else {
            return;
        };
        let mut commands = redis::pipe();
        commands
            .cmd("ZREM")
            .arg(&self.inner.workers_key)
            .arg(&self.inner.worker)
            .ignore();
        // Unheard, this worker expires.
        let _ = self.inner.link.tell(&line, &commands).await;
    }

    fn next_beat(&self) -> Instant {
        let third = self.inner.settings.slot_ttl / 3;
        Instant::now() + third.mul_f64(rand::random_range(0.9..1.0))
    }
}

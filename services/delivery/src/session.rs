//! One connection's life: admitted, connected, one job after the other, closed.

use std::sync::Arc;
use std::time::Duration;

use throttle::{Party, Reason, SlotGuard};
use tokio::sync::oneshot;

use crate::attempt::{Ended, IsFirst, attempt};
use crate::connect::{Connection, NotConnected};
use crate::judge::Outcome;
use crate::letter::{Letter, Unsendable};
use crate::sender::Sender;
use crate::settle::InHand;
use crate::site::{Site, Turn};

/// The longest a session sleeps before it asks again whether it is still wanted.
const NAP: Duration = Duration::from_secs(1);

/// An open connection and the right to use it.
pub(crate) struct Opened {
    slot: SlotGuard,
    connection: Connection,
}

/// One more connection to `site`; `None` where it is not wanted, at shutdown, and where it could not be made.
pub(crate) async fn open(sender: &Sender, site: &Arc<Site>) -> Option<Opened> {
    let slot = admit(sender, site).await?;
    let connected = tokio::select! {
        connected = sender.connector.connect(&site.route, site.transport) => connected,
        // What waits is given back by whoever runs this.
        () = sender.shutdown().requested() => return None,
    };
    match connected {
        Ok(connection) => {
            site.connected();
            Some(Opened { slot, connection })
        }
        Err(failure) => {
            give_up(sender, site, &failure);
            None
        }
    }
}

/// A connection slot, with the first message's token where it was not another's; `None` where it is not worth waiting for
/// one.
async fn admit(sender: &Sender, site: &Arc<Site>) -> Option<SlotGuard> {
    let limits = site.limits.shared();
    let party: Arc<dyn Party> = site.clone();
    while site.has_waiting() && !sender.shutdown().is_requested() {
        let opened = tokio::select! {
            opened = sender.throttle.slot(&site.path, &limits, &party) => opened,
            () = sender.shutdown().requested() => return None,
        };
        let wait = match opened {
            Ok(slot) => return Some(slot),
            Err(wait) => wait,
        };
        tokio::select! {
            () = tokio::time::sleep(wait.retry_after.min(NAP)) => {}
            () = sender.shutdown().requested() => return None,
        }
        if wait.reason == Reason::ConnectionsInUse && site.has_other_sessions() {
            return None;
        }
    }
    None
}

/// Sends the site's jobs, one after the other, until nothing is left, the connection is used up or wanted for others, or
/// shutdown; the envelope of each goes out behind the one before where that is possible.
pub(crate) async fn converse(sender: &Sender, site: &Site, opened: Opened) {
    let Opened {
        slot,
        mut connection,
    } = opened;
    let mut sent = 0;
    let mut following: Option<Letter> = None;
    loop {
        let letter = match following.take() {
            Some(letter) => Some(letter),
            None => next_letter(sender, site, &slot).await,
        };
        let Some(letter) = letter else { break };
        sent += 1;
        let is_worn = sent >= site.limits.messages_per_connection;
        let used_up = is_worn || slot.is_wanted() || !slot.is_fresh();
        if !used_up {
            following = waiting_letter(sender, site, &slot).await;
        }
        let is_first = if sent == 1 { IsFirst::Yes } else { IsFirst::No };
        let behind = following.as_ref();
        let ended = attempt(sender, site, &mut connection, &letter, behind, is_first).await;
        let held = match ended {
            Ended::Settle(_) => letter.close(sender).await,
            _ => letter.close_unsent(sender).await,
        };
        let marked = conclude(sender, site, held, ended).await;
        if let Some(marked) = marked {
            // Told by being dropped.
            let _ = marked.await;
        }
        if used_up || !connection.session.is_reusable() {
            break;
        }
    }
    if let Some(letter) = following {
        site.put_back(letter.close_unsent(sender).await);
    }
    connection.session.quit().await;
}

/// The next job that can be sent, with its token; `None` when none comes for a while, when the slot is wanted for others, and at
/// shutdown.
async fn next_letter(sender: &Sender, site: &Site, slot: &SlotGuard) -> Option<Letter> {
    let limits = site.limits.shared();
    loop {
        let turn = tokio::select! {
            biased;
            () = sender.shutdown().requested() => return None,
            turn = site.next_turn(sender.idle) => turn?,
            () = slot.wanted() => return None,
        };
        tokio::select! {
            biased;
            () = sender.shutdown().requested() => return None,
            () = slot.token(&limits) => {}
            () = slot.wanted() => return None,
        }
        if let Some(letter) = first_letter(sender, site, slot, turn).await {
            return Some(letter);
        }
    }
}

/// The first of the waiting jobs that can be sent: those that cannot have no part of its token.
async fn first_letter<'site>(
    sender: &Sender,
    site: &'site Site,
    slot: &SlotGuard,
    turn: Turn<'site>,
) -> Option<Letter> {
    let mut next = Some(turn);
    while let Some(turn) = next {
        if let Some(letter) = write(sender, site, turn.take()?).await {
            return Some(letter);
        }
        let goes_on = !sender.shutdown().is_requested() && !slot.is_wanted();
        next = site.turn().filter(|_| goes_on);
    }
    None
}

/// A job that is waiting already, if it has its token at once.
async fn waiting_letter(sender: &Sender, site: &Site, slot: &SlotGuard) -> Option<Letter> {
    if sender.shutdown().is_requested() {
        return None;
    }
    let turn = site.turn()?;
    slot.take(&site.limits.shared()).await.ok()?;
    let held = turn.take()?;
    write(sender, site, held).await
}

async fn write(sender: &Sender, site: &Site, held: InHand) -> Option<Letter> {
    match Letter::write(sender, held).await {
        Ok(letter) => Some(letter),
        Err(Unsendable { held, ended }) => {
            conclude(sender, site, held, ended).await;
            None
        }
    }
}

/// Does with a job what its attempt calls for. Where it is settled, what is answered ends with its marker.
async fn conclude(
    sender: &Sender,
    site: &Site,
    held: InHand,
    ended: Ended,
) -> Option<oneshot::Receiver<()>> {
    match ended {
        Ended::Settle(judgement) => return Some(sender.settle(held, *judgement)),
        Ended::PutBack => site.put_back(held),
        Ended::GiveBack => {
            site.not_sent();
            held.give_back().await;
        }
        Ended::Postpone(delay) => {
            site.not_sent();
            held.postpone(delay).await;
        }
        Ended::Leave => {
            site.not_sent();
            tracing::info!(job = %held.job.id, "job may be with another worker, left to it");
        }
    }
    None
}

/// No connection: with others open their jobs are safe there; otherwise everything that waits is tried later.
fn give_up(sender: &Sender, site: &Site, failure: &NotConnected) {
    site.not_connected();
    tracing::info!(provider = %site.path.provider, detail = failure.detail, "no connection");
    if site.has_other_sessions() {
        return;
    }
    site.close();
    for held in site.take_all() {
        let NotConnected {
            class,
            detail,
            reply,
            refused_at,
            hop,
        } = failure.clone();
        let outcome = Outcome::NotConnected {
            class,
            reply,
            refused_at,
            detail,
        };
        let now = sender.clock.now();
        let judgement = sender
            .judge
            .judge(&held.job, &site.path.provider, outcome, hop, now);
        sender.settle(held, judgement);
    }
}

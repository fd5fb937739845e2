//! One attempt to send one job over an open connection.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use classify::Stage;
use futures_util::FutureExt as _;
use model::{BounceClass, Sabotage};
use smtp::client::{self, Content, Party, SessionError, Transaction, Verb};

use crate::connect::Connection;
use crate::judge::{Judge, Judgement, Outcome};
use crate::letter::{Letter, panicked};
use crate::open::in_full;
use crate::sender::Sender;
use crate::site::Site;

/// How long a transaction may go on at shutdown, as long as its final dot is not sent.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// What is to be done with the job.
pub(crate) enum Ended {
    /// The attempt came to an outcome.
    Settle(Box<Judgement>),
    /// Nothing was sent: the next connection of the site takes it.
    PutBack,
    /// Nothing was sent and nothing will be: another worker takes it.
    GiveBack,
    /// Nothing was sent: it is tried again later, and this was no attempt.
    Postpone(Duration),
    /// It may be in other hands by now, and is left to them.
    Leave,
}

/// Sends the letter, whatever happens meanwhile: a panic ends the attempt and not the worker.
///
/// The envelope of `next` goes out right behind it where the server allows that; the session then is ahead.
pub(crate) async fn attempt(
    sender: &Sender,
    site: &Site,
    connection: &mut Connection,
    letter: &Letter,
    next: Option<&Letter>,
    is_first: IsFirst,
) -> Ended {
    let sending = AssertUnwindSafe(send(sender, site, connection, letter, next, is_first));
    let ended = sending.catch_unwind().await;
    ended.unwrap_or_else(|_| panicked(sender, &letter.held))
}

/// Whether the connection is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IsFirst {
    /// No job was sent over it.
    Yes,
    /// It was used before, and the server may have ended it meanwhile.
    No,
}

async fn send(
    sender: &Sender,
    site: &Site,
    connection: &mut Connection,
    letter: &Letter,
    next: Option<&Letter>,
    is_first: IsFirst,
) -> Ended {
    let held = &letter.held;
    if sender.tombstones.contain(&held.job) {
        connection.session.withdraw().await;
        let cancelled = Judge::cancelled(&held.job, sender.clock.now());
        return Ended::Settle(Box::new(cancelled));
    }
    letter.refresh(sender).await;
    if !letter.is_ours() {
        // What went ahead of it is taken back; it has to be reserved first.
        connection.session.withdraw().await;
        return Ended::PutBack;
    }
    let result = transact(sender, connection, letter, next).await;
    // A fresh connection that fails so is an attempt, or the job would go from one to the next for ever.
    if is_first == IsFirst::No && has_been_ended(&result) {
        return Ended::PutBack;
    }
    let outcome = match result {
        Ok(client::Outcome::Delivered(reply)) => Outcome::Delivered { reply },
        Ok(client::Outcome::Refused(refusal)) => Outcome::Refused {
            by: refusal.by,
            stage: stage(refusal.verb),
            reply: refusal.reply,
        },
        Err(SessionError::Fenced) if sender.shutdown().is_requested() => return Ended::GiveBack,
        // It has to be reserved first, or again.
        Err(SessionError::Fenced) if held.hold.is_proven() => return Ended::PutBack,
        Err(SessionError::Fenced) => return Ended::Leave,
        Err(error) => session_outcome(&error),
    };
    let hop = Some(connection.hop.clone());
    let provider = &site.path.provider;
    let judgement = sender
        .judge
        .judge(&held.job, provider, outcome, hop, sender.clock.now());
    Ended::Settle(Box::new(judgement))
}

/// Whether the server ended a session that was in use, between two messages: it says nothing about the second.
fn has_been_ended(result: &Result<client::Outcome, SessionError>) -> bool {
    match result {
        Ok(client::Outcome::Delivered(_)) => false,
        Ok(client::Outcome::Refused(refusal)) => {
            refusal.verb == Verb::Mail && refusal.by == Party::Peer && refusal.reply.code() == 421
        }
        Err(SessionError::Stale { .. } | SessionError::Unusable) => true,
        Err(SessionError::Closed { verb } | SessionError::Io { verb, .. }) => {
            matches!(verb, Verb::Rset | Verb::Mail)
        }
        // RSET belongs to the message before.
        Err(SessionError::Timeout { verb } | SessionError::Protocol { verb, .. }) => {
            *verb == Verb::Rset
        }
        Err(SessionError::Refused { .. } | SessionError::Tls(_) | SessionError::Fenced) => false,
    }
}

/// One SMTP transaction, unless shutdown comes before its final dot.
async fn transact(
    sender: &Sender,
    connection: &mut Connection,
    letter: &Letter,
    next: Option<&Letter>,
) -> Result<client::Outcome, SessionError> {
    let held = &letter.held;
    let chunks = letter.chunks();
    // It was canonical when the letter was written.
    let content = Content::new(&chunks).map_err(|_| SessionError::Unusable)?;
    let past_dot = AtomicBool::new(false);
    let fence = || {
        let is_ours = held.hold.is_proven() && letter.is_ours();
        let passes = is_ours || Sabotage::NoFence.is_on();
        past_dot.store(passes, Ordering::Relaxed);
        passes
    };
    let transaction = Transaction {
        envelope: &letter.envelope,
        content: &content,
    };
    let next = next.map(|letter| &letter.envelope);
    let sending = connection.session.send(&transaction, next, &fence);
    let drained = async {
        sender.shutdown().requested().await;
        tokio::time::sleep(DRAIN_GRACE).await;
        if past_dot.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        outcome = sending => outcome,
        () = drained => Err(SessionError::Fenced),
        never = letter.keep_ours(sender) => match never {},
    }
}

fn session_outcome(error: &SessionError) -> Outcome {
    let class = match error {
        SessionError::Timeout { .. } => BounceClass::Timeout,
        SessionError::Tls(_) => BounceClass::Tls,
        SessionError::Protocol { .. } | SessionError::Unusable => BounceClass::Protocol,
        SessionError::Closed { .. }
        | SessionError::Io { .. }
        | SessionError::Stale { reply: None } => BounceClass::Connect,
        SessionError::Refused { .. } | SessionError::Stale { reply: Some(_) } => {
            BounceClass::RemoteSystem
        }
        SessionError::Fenced => BounceClass::Undetermined,
    };
    Outcome::soft(class, in_full(error))
}

/// What `verb` is to the classifier.
pub(crate) fn stage(verb: Verb) -> Stage {
    match verb {
        Verb::Greeting => Stage::Greeting,
        Verb::Ehlo | Verb::Helo => Stage::Hello,
        Verb::StartTls | Verb::Handshake => Stage::StartTls,
        Verb::Mail | Verb::Rset | Verb::Quit => Stage::MailFrom,
        Verb::Rcpt => Stage::RcptTo,
        Verb::Data => Stage::Data,
        Verb::Content | Verb::EndOfData => Stage::EndOfData,
    }
}

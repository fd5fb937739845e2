//! One attempt to send one job over an open connection.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use classify::Stage;
use futures_util::FutureExt as _;
use model::{Body, BounceClass, Job};
use smtp::client::{self, Content, Envelope, SessionError, Transaction, Verb};

use crate::connect::Connection;
use crate::judge::{Judge, Judgement, Outcome};
use crate::sender::Sender;
use crate::settle::InHand;
use crate::site::Site;

/// How long a transaction may go on at shutdown, as long as its final dot is not sent.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// When a job whose body could not be read is tried again.
const BODY_PAUSE: Duration = Duration::from_secs(30);

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
    /// It may be in other hands by now.
    Leave,
}

/// Sends the job, whatever happens meanwhile: a panic ends the attempt and not the worker.
pub(crate) async fn attempt(
    sender: &Sender,
    site: &Site,
    connection: &mut Connection,
    held: &InHand,
    is_first: IsFirst,
) -> Ended {
    let sending = AssertUnwindSafe(send(sender, site, connection, held, is_first));
    sending.catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(job = %held.job.id, "attempt panicked, setting the job aside");
        quarantine(
            sender,
            held,
            "the attempt to send it failed in a way it never should",
        )
    })
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
    held: &InHand,
    is_first: IsFirst,
) -> Ended {
    let now = sender.clock.now();
    if sender.tombstones.contain(&held.job) {
        return Ended::Settle(Box::new(Judge::cancelled(&held.job, now)));
    }
    let body = tokio::select! {
        body = body(sender, &held.job) => body,
        () = sender.shutdown().requested() => return Ended::GiveBack,
    };
    let body = match body {
        Ok(body) => body,
        Err(detail) => {
            tracing::error!(job = %held.job.id, detail, "body not available, job is tried later");
            return Ended::Postpone(BODY_PAUSE);
        }
    };
    let chunks = [&held.job.recipient_header[..], &body[..]];
    let content = match Content::new(&chunks) {
        Ok(content) => content,
        Err(error) => return quarantine(sender, held, &error.to_string()),
    };
    let outcome = match transact(sender, connection, held, &content).await {
        Ok(client::Outcome::Delivered(reply)) => Outcome::Delivered { reply },
        Ok(client::Outcome::Refused(refusal)) => Outcome::Refused {
            stage: stage(refusal.verb),
            reply: refusal.reply,
        },
        Err(SessionError::Fenced) if sender.shutdown().is_requested() => return Ended::GiveBack,
        Err(SessionError::Fenced) => return Ended::Leave,
        // A fresh connection that fails so is an attempt, or the job would go from one to the next for ever.
        Err(SessionError::Stale { .. } | SessionError::Unusable) if is_first == IsFirst::No => {
            return Ended::PutBack;
        }
        Err(error) => session_outcome(&error),
    };
    let hop = Some(connection.hop.clone());
    let provider = &site.path.provider;
    let judgement = sender
        .judge
        .judge(&held.job, provider, outcome, hop, sender.clock.now());
    Ended::Settle(Box::new(judgement))
}

/// One SMTP transaction, unless shutdown comes before its final dot.
async fn transact(
    sender: &Sender,
    connection: &mut Connection,
    held: &InHand,
    content: &Content<'_>,
) -> Result<client::Outcome, SessionError> {
    let (from, to) = (held.job.sender.clone(), held.job.recipient.clone());
    let envelope = Envelope {
        dsn: held.job.dsn.clone(),
        require_tls: held.job.require_tls,
        ..Envelope::new(from, to, content.facts())
    };
    let past_dot = AtomicBool::new(false);
    let fence = || {
        let passes = held.hold.is_proven();
        past_dot.store(passes, Ordering::Relaxed);
        passes
    };
    let transaction = Transaction {
        envelope: &envelope,
        content,
    };
    let sending = connection.session.send(&transaction, None, &fence);
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
    }
}

/// The message's body, wherever it is kept. An error says why the message cannot be trusted or had.
async fn body(sender: &Sender, job: &Job) -> Result<Bytes, String> {
    let name = match &job.body {
        Body::Inline(body) => return Ok(body.clone()),
        Body::Blob(name) => name,
    };
    let body = sender.blobs.get(name).await;
    let body = body.map_err(|error| format!("read body {name}: {error}"))?;
    if Job::checksum_of(&job.recipient_header, &body) != job.checksum {
        return Err(format!("body {name} does not match its checksum"));
    }
    Ok(body)
}

fn quarantine(sender: &Sender, held: &InHand, detail: &str) -> Ended {
    let judgement = Judge::quarantined(&held.job, detail.to_owned(), sender.clock.now());
    Ended::Settle(Box::new(judgement))
}

fn session_outcome(error: &SessionError) -> Outcome {
    let class = match error {
        SessionError::Timeout { .. } => BounceClass::Timeout,
        SessionError::Tls(_) => BounceClass::Tls,
        SessionError::Protocol { .. } | SessionError::Unusable => BounceClass::Protocol,
        SessionError::Closed { .. } | SessionError::Io { .. } => BounceClass::Connect,
        SessionError::Refused { .. } | SessionError::Stale { .. } => BounceClass::RemoteSystem,
        SessionError::Fenced => BounceClass::Undetermined,
    };
    Outcome::soft(class, error)
}

fn stage(verb: Verb) -> Stage {
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

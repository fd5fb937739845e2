//! One connection's life: admitted, connected, one job after the other, closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use classify::Stage;
use model::{Body, BounceClass, Clock, Job, Source};
use queue::Blobs;
use runtime::{Shutdown, Tasks};
use smtp::client::{self, Content, Envelope, SessionError, Transaction, Verb};
use throttle::{Reason, SlotGuard, Throttle};

use crate::connect::{Connection, Connector, NotConnected};
use crate::judge::{Judge, Outcome};
use crate::settle::{InHand, Settler};
use crate::site::Site;

/// The longest a session sleeps before it asks again whether it is still wanted.
const NAP: Duration = Duration::from_secs(1);
/// When a job whose body could not be read is tried again.
const BODY_PAUSE: Duration = Duration::from_secs(30);
/// How long a transaction may go on at shutdown, as long as its final dot is not sent.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// What every session of this worker works with.
pub(crate) struct Sender {
    pub(crate) connector: Connector,
    pub(crate) throttle: Throttle,
    pub(crate) blobs: Blobs,
    pub(crate) judge: Arc<Judge>,
    pub(crate) settler: Arc<Settler>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) idle: Duration,
    pub(crate) tasks: Tasks,
}

impl Sender {
    /// Where this worker sends from.
    pub(crate) fn source(&self) -> &Source {
        &self.connector.source
    }

    fn shutdown(&self) -> &Shutdown {
        self.tasks.shutdown()
    }

    /// Settles in the background: the connection goes on with the next job.
    fn settle(&self, held: InHand, outcome: Outcome, site: &Site, hop: Option<model::Hop>) {
        let judgement = self.judge.judge(
            &held.job,
            &site.path.provider,
            outcome,
            hop,
            self.clock.now(),
        );
        let settler = Arc::clone(&self.settler);
        self.tasks.spawn(
            "settle",
            async move { settler.settle(held, judgement).await },
        );
    }
}

/// Serves `site` over one connection until nothing is left, the connection is used up, or shutdown.
pub(crate) async fn run(sender: &Sender, site: &Site) {
    let Some(slot) = admit(sender, site).await else {
        return;
    };
    match sender.connector.connect(&site.route).await {
        Ok(connection) => {
            site.connected();
            converse(sender, site, slot, connection).await;
        }
        Err(failure) => give_up(sender, site, &failure),
    }
}

/// A connection slot with the first message's token; `None` where it is not worth waiting for one.
async fn admit(sender: &Sender, site: &Site) -> Option<SlotGuard> {
    let limits = throttle::Limits::new(site.limits.rate, site.limits.connections);
    while site.has_waiting() && !sender.shutdown().is_requested() {
        let wait = match sender.throttle.open(&site.path, &limits).await {
            Ok(slot) => return Some(slot),
            Err(wait) => wait,
        };
        if wait.reason == Reason::ConnectionsInUse && site.has_other_sessions() {
            return None;
        }
        tokio::select! {
            () = tokio::time::sleep(wait.retry_after.min(NAP)) => {}
            () = sender.shutdown().requested() => {}
        }
    }
    None
}

/// Sends the site's jobs, one after the other.
async fn converse(sender: &Sender, site: &Site, slot: SlotGuard, mut connection: Connection) {
    let limits = throttle::Limits::new(site.limits.rate, site.limits.connections);
    let mut sent = 0;
    while let Some(held) = next(sender, site).await {
        slot.token(&limits).await;
        let is_first = sent == 0;
        sent += 1;
        attempt(sender, site, &mut connection, held, is_first).await;
        let used_up = sent >= site.limits.messages_per_connection || !slot.is_fresh();
        if used_up || !connection.session.is_reusable() {
            break;
        }
    }
    connection.session.quit().await;
}

async fn next(sender: &Sender, site: &Site) -> Option<InHand> {
    tokio::select! {
        biased;
        () = sender.shutdown().requested() => None,
        held = site.next(sender.idle) => held,
    }
}

/// One attempt to send one job.
async fn attempt(
    sender: &Sender,
    site: &Site,
    connection: &mut Connection,
    held: InHand,
    is_first: bool,
) {
    let body = match body(sender, &held.job).await {
        Ok(body) => body,
        Err(detail) => {
            tracing::error!(job = %held.job.id, detail, "body not available, job goes back to the queue");
            return held.postpone(BODY_PAUSE).await;
        }
    };
    let hop = Some(connection.hop.clone());
    match transact(sender, connection, &held, &body).await {
        Ok(client::Outcome::Delivered(reply)) => {
            sender.settle(held, Outcome::Delivered { reply }, site, hop)
        }
        Ok(client::Outcome::Refused(refusal)) => {
            let outcome = Outcome::Refused {
                stage: stage(refusal.verb),
                reply: refusal.reply,
            };
            sender.settle(held, outcome, site, hop);
        }
        Err(SessionError::Fenced) => held.give_back().await,
        // Nothing was sent: the next connection takes it. A fresh connection that fails so is an attempt.
        Err(SessionError::Stale { .. } | SessionError::Unusable) if !is_first => {
            site.put_back(held)
        }
        Err(error) => sender.settle(held, session_outcome(&error), site, hop),
    }
}

/// Sends the job, unless shutdown comes before its final dot.
async fn transact(
    sender: &Sender,
    connection: &mut Connection,
    held: &InHand,
    body: &Bytes,
) -> Result<client::Outcome, SessionError> {
    let chunks = [&held.job.recipient_header[..], &body[..]];
    let content = Content::new(&chunks).map_err(|_| SessionError::Unusable)?;
    let envelope = Envelope {
        dsn: held.job.dsn.clone(),
        require_tls: held.job.require_tls,
        ..Envelope::new(
            held.job.sender.clone(),
            held.job.recipient.clone(),
            content.facts(),
        )
    };
    let past_dot = AtomicBool::new(false);
    let fence = || {
        let passes = held.hold.is_proven();
        past_dot.store(passes, Ordering::Relaxed);
        passes
    };
    let transaction = Transaction {
        envelope: &envelope,
        content: &content,
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
    let body = sender
        .blobs
        .get(name)
        .await
        .map_err(|error| format!("read body {name}: {error}"))?;
    if Job::checksum_of(&job.recipient_header, &body) != job.checksum {
        return Err(format!("body {name} does not match its checksum"));
    }
    Ok(body)
}

/// No connection: with others open their jobs are safe there; otherwise everything that waits is tried later.
fn give_up(sender: &Sender, site: &Site, failure: &NotConnected) {
    site.not_connected();
    tracing::info!(provider = %site.path.provider, detail = failure.detail, "no connection");
    if site.has_other_sessions() {
        return;
    }
    for held in site.take_all() {
        let NotConnected {
            class,
            detail,
            reply,
            hop,
        } = failure.clone();
        sender.settle(
            held,
            Outcome::NotConnected {
                class,
                reply,
                detail,
            },
            site,
            hop,
        );
    }
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

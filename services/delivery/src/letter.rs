//! A job on its way into a connection: with its body at hand and its envelope written.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use model::{Body, Job};
use rand::RngExt as _;
use smtp::client::{Content, Envelope, NotCanonical};

use crate::attempt::Ended;
use crate::judge::Judge;
use crate::reservations::Reserved;
use crate::sender::Sender;
use crate::settle::InHand;
use crate::suspects::{Noted, Suspicion};

/// When a job whose body could not be read is tried again.
const BODY_PAUSE: Duration = Duration::from_secs(30);
/// When a job that has to be attempted alone, and cannot be now, is tried again: in seconds.
const ALONE_PAUSE: std::ops::Range<f64> = 1.0..5.0;

/// What an installation does with each job before it is sent, on the way into the connection.
///
/// One that panics has its job set aside. One that ends the process has its job set aside after some such deaths.
pub trait Hook: Send + Sync {
    /// Called once for every attempt.
    fn before_attempt(&self, job: &Job);
}

/// A job that is ready to be sent.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) held: InHand,
    pub(crate) envelope: Envelope,
    reserved: Option<Reserved>,
    body: Bytes,
    noted: Option<Noted>,
}

/// What stands in the way of sending a job, and what is to be done with it instead.
pub(crate) struct Unsendable {
    pub(crate) held: InHand,
    pub(crate) ended: Ended,
}

impl Letter {
    /// Makes a job ready to be sent. What panics on the way is the job's fault, and ends its attempt alone.
    pub(crate) async fn write(sender: &Sender, held: InHand) -> Result<Self, Unsendable> {
        let reserved = match reserve(sender, &held).await {
            Ok(reserved) => reserved,
            Err(ended) => return Err(Unsendable { held, ended }),
        };
        let noted = match note(sender, &held).await {
            Ok(noted) => noted,
            Err(ended) => {
                sender.reservations.release(&held.job, reserved).await;
                return Err(Unsendable { held, ended });
            }
        };
        let writing = AssertUnwindSafe(write(sender, &held)).catch_unwind().await;
        match writing.unwrap_or_else(|_| Err(panicked(sender, &held))) {
            Ok((envelope, body)) => {
                held.copy.mark_sending();
                Ok(Self {
                    held,
                    envelope,
                    reserved,
                    body,
                    noted,
                })
            }
            Err(ended) => {
                forget(sender, &held, noted).await;
                if !matches!(ended, Ended::Settle(_)) {
                    sender.reservations.release(&held.job, reserved).await;
                }
                Err(Unsendable { held, ended })
            }
        }
    }

    /// The content, in the order in which it is sent.
    pub(crate) fn chunks(&self) -> [&[u8]; 2] {
        [&self.held.job.recipient_header, &self.body]
    }

    /// Whether no other worker sends it by now that may have been given it as well, or its twin.
    pub(crate) fn is_ours(&self) -> bool {
        let is_reserved = self.reserved.as_ref().is_some_and(Reserved::is_good);
        is_reserved || !self.held.is_to_be_reserved()
    }

    /// Asks once more, where it was written a while ago.
    pub(crate) async fn refresh(&self, sender: &Sender) {
        let reserved = self.reserved.as_ref();
        sender.reservations.refresh(&self.held.job, reserved).await;
    }

    /// Keeps it so, for as long as this is polled.
    pub(crate) async fn keep_ours(&self, sender: &Sender) -> Infallible {
        let reserved = self.reserved.as_ref();
        sender.reservations.keep(&self.held.job, reserved).await
    }

    /// The attempt came to an outcome: the job alone is left.
    pub(crate) async fn close(self, sender: &Sender) -> InHand {
        forget(sender, &self.held, self.noted).await;
        self.held
    }

    /// It was not sent: the job alone is left, for whoever is given it.
    pub(crate) async fn close_unsent(mut self, sender: &Sender) -> InHand {
        let reserved = self.reserved.take();
        sender.reservations.release(&self.held.job, reserved).await;
        self.close(sender).await
    }
}

/// Removes the note of intent, where one was made.
async fn forget(sender: &Sender, held: &InHand, noted: Option<Noted>) {
    if noted.is_some() {
        sender.suspects.end(&held.job).await;
    }
}

async fn write(sender: &Sender, held: &InHand) -> Result<(Envelope, Bytes), Ended> {
    let (job, now) = (&held.job, sender.clock.now());
    if sender.tombstones.contain(job) {
        return Err(Ended::Settle(Box::new(Judge::cancelled(job, now))));
    }
    // It may have waited here for long, where its provider takes little.
    if now >= job.expires_at {
        return Err(Ended::Settle(Box::new(Judge::expired(job, now))));
    }
    let body = tokio::select! {
        body = body(sender, held) => body?,
        () = sender.shutdown().requested() => return Err(Ended::GiveBack),
    };
    if let Some(hook) = &sender.hook {
        hook.before_attempt(job);
    }
    let envelope =
        envelope(job, &body).map_err(|error| quarantined(sender, held, &error.to_string()))?;
    Ok((envelope, body))
}

/// Reserves a job that another worker may have been given as well, or its twin.
async fn reserve(sender: &Sender, held: &InHand) -> Result<Option<Reserved>, Ended> {
    tokio::select! {
        reserved = sender.reservations.make(held) => reserved,
        () = sender.shutdown().requested() => Err(Ended::GiveBack),
    }
}

/// Makes the note of intent of a job that was in other hands before.
async fn note(sender: &Sender, held: &InHand) -> Result<Option<Noted>, Ended> {
    if !held.redelivered {
        return Ok(None);
    }
    match sender.suspects.begin(&held.job).await {
        Suspicion::None => Ok(None),
        Suspicion::Noted(noted) => Ok(Some(noted)),
        Suspicion::NotNow => {
            let pause = rand::rng().random_range(ALONE_PAUSE);
            Err(Ended::Postpone(Duration::from_secs_f64(pause)))
        }
        Suspicion::Condemned => {
            tracing::error!(job = %held.job.id, "workers died whenever this job was attempted, setting it aside");
            let detail = "every attempt to send it ended the worker";
            Err(quarantined(sender, held, detail))
        }
    }
}

fn envelope(job: &Job, body: &Bytes) -> Result<Envelope, NotCanonical> {
    let content = Content::new(&[&job.recipient_header, body])?.facts();
    let (from, to) = (job.sender.clone(), job.recipient.clone());
    Ok(Envelope {
        dsn: job.dsn.clone(),
        require_tls: job.require_tls,
        ..Envelope::new(from, to, content)
    })
}

/// The message's body, wherever it is kept, as it was accepted. One that is spoiled within its job is so for ever; of one that
/// is kept elsewhere a good copy may be had later.
async fn body(sender: &Sender, held: &InHand) -> Result<Bytes, Ended> {
    let job = &held.job;
    let name = match &job.body {
        Body::Inline(octets) => {
            return unpacked(job, octets).ok_or_else(|| {
                tracing::error!(job = %job.id, "job's checksum does not match, setting it aside");
                let detail = "the stored message does not match its checksum";
                quarantined(sender, held, detail)
            });
        }
        Body::Blob(name) => name,
    };
    let stored = sender.blobs.get(name).await;
    let detail = match stored.as_ref().map(|octets| unpacked(job, octets)) {
        Ok(Some(body)) => return Ok(body),
        Ok(None) => format!("body {name} does not match its checksum"),
        Err(error) => format!("read body {name}: {error}"),
    };
    tracing::error!(job = %job.id, detail, "body not available, job is tried later");
    Err(Ended::Postpone(BODY_PAUSE))
}

/// The body that was stored as `octets`; `None` where they are not what was accepted.
fn unpacked(job: &Job, octets: &Bytes) -> Option<Bytes> {
    let size = usize::try_from(job.body_size).ok()?;
    let body = job.packing.unpack(octets, size).ok()?;
    let checksum = Job::checksum_of(&job.recipient_header, &body);
    (checksum == job.checksum).then_some(body)
}

/// The end of a job whose attempt panicked.
pub(crate) fn panicked(sender: &Sender, held: &InHand) -> Ended {
    tracing::error!(job = %held.job.id, "attempt panicked, setting the job aside");
    quarantined(
        sender,
        held,
        "the attempt to send it failed in a way it never should",
    )
}

/// The end of a job that cannot be sent as it is.
pub(crate) fn quarantined(sender: &Sender, held: &InHand, detail: &str) -> Ended {
    let judgement = Judge::quarantined(&held.job, detail.to_owned(), sender.clock.now());
    Ended::Settle(Box::new(judgement))
}

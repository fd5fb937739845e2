//! Takes one message from the request to the queue.

use std::sync::Arc;
use std::time::Duration;

use api::v1::{SubmitError, SubmitRequest, SubmitResponse, SubmittedRecipient};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use history::{Claim, History};
use model::{Body, Clock, Event, EventKind, Job, MessageId, Packing, Sabotage, Tenant};
use queue::{Blobs, EventRecorder, Publisher, QueueError, Sharing};
use tonic::{Code, Status};

use crate::config::Config;
use crate::draft::{Draft, Placed};
use crate::readiness::{Readiness, STORAGE_FULL};
use crate::shares::Shares;
use crate::violations::{status, status_with_retry};

/// A larger content is stored once in the object store, and not in every job.
const INLINE_LIMIT: usize = 256 << 10;
/// Publishes of one message in flight at once.
const IN_FLIGHT: usize = 64;
/// When to try again after the queue was full or away.
const RETRY_HINT: Duration = Duration::from_secs(5);

/// Accepts messages; one for the whole service.
pub(crate) struct Acceptor {
    pub(crate) config: Config,
    pub(crate) publisher: Publisher,
    pub(crate) shares: Shares,
    pub(crate) blobs: Blobs,
    pub(crate) events: EventRecorder,
    pub(crate) history: History,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) readiness: Readiness,
}

impl Acceptor {
    /// Makes a message durable and answers its ids, or refuses it with nothing queued.
    pub(crate) async fn accept(
        &self,
        tenant: &Tenant,
        request: SubmitRequest,
    ) -> Result<SubmitResponse, Status> {
        self.readiness.check()?;
        let draft = Draft::check(request, tenant, &self.config, self.clock.now())?;
        let earlier = self.earlier(&draft).await?;
        if earlier == Earlier::Accepted {
            return Ok(replay(&draft));
        }
        let placed = self.place(&draft).await.map_err(|error| refusal(&error))?;
        let recipients = self.publish(&draft, &placed, earlier).await?;
        self.remember(&draft, &recipients).await;
        let message_id = draft.id.to_string();
        Ok(SubmitResponse {
            message_id,
            recipients,
            replayed: false,
        })
    }

    /// What became of the same request before, under the same idempotency key.
    ///
    /// Where Redis does not answer, the request is carried out: its ids derive from the key, so that the queue itself
    /// stores a repetition within five minutes once.
    async fn earlier(&self, draft: &Draft) -> Result<Earlier, Status> {
        let Some(key) = &draft.idempotency else {
            return Ok(Earlier::None);
        };
        match self
            .history
            .claim(&draft.tenant, &key.text, &key.fingerprint)
            .await
        {
            Ok(Claim::Done) => Ok(Earlier::Accepted),
            Ok(Claim::Fresh) => Ok(Earlier::None),
            Ok(Claim::Unfinished) => Ok(Earlier::Unknown),
            Ok(Claim::Taken) => Err(status(
                Code::AlreadyExists,
                "IDEMPOTENCY_KEY_REUSED",
                "idempotency_key: was used for another message within 24 hours; use a new key",
            )),
            Err(error) => {
                tracing::debug!(%error, "idempotency key not looked up");
                Ok(Earlier::Unknown)
            }
        }
    }

    /// Puts the content where its jobs will find it: packed into them, or into the object store before them.
    async fn place(&self, draft: &Draft) -> Result<Placed, QueueError> {
        if draft.content.len() <= INLINE_LIMIT {
            let (octets, packing) = Packing::pack(&draft.content);
            let body = Body::Inline(octets);
            return Ok(Placed { body, packing });
        }
        // Unique, because a name that is stored again loses what a reader may be in the middle of.
        let unique = MessageId::fresh();
        let name = format!("{}/{}/{unique}", draft.expires_at.as_second(), draft.id);
        self.blobs.put(&name, &draft.content).await?;
        Ok(Placed {
            body: Body::Blob(name),
            packing: Packing::Plain,
        })
    }

    /// Publishes a job for each recipient; an error only if none was stored.
    async fn publish(
        &self,
        draft: &Draft,
        placed: &Placed,
        earlier: Earlier,
    ) -> Result<Vec<SubmittedRecipient>, Status> {
        let jobs: Vec<Job> = draft
            .recipients
            .iter()
            .map(|recipient| draft.job(recipient, placed))
            .collect();
        let published: Vec<(Job, Result<(), QueueError>)> = stream::iter(jobs)
            .map(|job| async {
                let stored = self.publish_job(draft, &job, earlier).await;
                (job, stored)
            })
            .buffered(IN_FLIGHT)
            .collect()
            .await;
        if let Some((_, Err(error))) = published.first()
            && published.iter().all(|(_, stored)| stored.is_err())
        {
            return Err(refusal(error));
        }
        Ok(published
            .into_iter()
            .map(|(job, stored)| outcome(&job, stored.err()))
            .collect())
    }

    async fn publish_job(
        &self,
        draft: &Draft,
        job: &Job,
        earlier: Earlier,
    ) -> Result<(), QueueError> {
        if earlier == Earlier::Unknown && self.is_known(job).await {
            return Ok(());
        }
        let payload = api::encode_job(job).into();
        let to = job.destination();
        match job.send_at {
            Some(at) => {
                // A repeated call stores the same job again, and a later schedule of its own replaces an earlier one.
                let sharing = match draft.idempotency {
                    Some(_) => Sharing::Own,
                    None => Sharing::WithOthers,
                };
                self.publisher
                    .schedule(job.class, to, job.id, at, payload, sharing)
                    .await
                    .map_err(QueueError::of_waiting)?
            }
            None => self.make_ready(job, payload, earlier).await?,
        }
        let accepted = Event::of(job, EventKind::Accepted, 0, job.accepted_at);
        // The job is safe, whatever becomes of its event, which is recorded in its own time.
        if let Err(error) = self.events.record(api::encode_event(&accepted)).await {
            tracing::warn!(job = %job.id, %error, "event of an accepted job not recorded");
        }
        Ok(())
    }

    /// Puts the job into its lane. What a lane has no room for goes to the overflow.
    async fn make_ready(
        &self,
        job: &Job,
        payload: Bytes,
        earlier: Earlier,
    ) -> Result<(), QueueError> {
        let (class, to) = (job.class, job.destination());
        let lane = match earlier {
            Earlier::Unknown => self.shares.own_lane(job),
            Earlier::None | Earlier::Accepted => self.shares.lane(job),
        };
        if Sabotage::AnswerBeforeStored.is_on() {
            self.make_ready_unseen(job, payload);
            return Ok(());
        }
        let (publisher, again) = (&self.publisher, payload.clone());
        // What an earlier call may have put into the overflow is looked up among the markers there, and this one here.
        let stored = match earlier {
            Earlier::Unknown => publisher.ready_again(lane, class, to, job.id, again).await,
            Earlier::None | Earlier::Accepted => {
                publisher.ready(lane, class, to, job.id, again).await
            }
        };
        match stored {
            Err(QueueError::Full(_)) if !lane.is_overflow() => {
                let overflow = self.shares.overflow(job);
                self.publisher
                    .ready(overflow, class, to, job.id, payload)
                    .await
            }
            stored => stored,
        }
    }

    /// Puts the job into its lane some time later, without a look at what becomes of that.
    #[allow(clippy::disallowed_methods, reason = "sabotage: nobody waits for it")]
    fn make_ready_unseen(&self, job: &Job, payload: Bytes) {
        let (publisher, lane) = (self.publisher.clone(), self.shares.lane(job).clone());
        let (class, to, id) = (job.class, job.destination().clone(), job.id);
        tokio::spawn(async move { publisher.ready(&lane, class, &to, id, payload).await });
    }

    /// Whether an earlier call stored this very job: its events tell, after the queue has forgotten its id.
    async fn is_known(&self, job: &Job) -> bool {
        matches!(self.history.job(&job.tenant, job.id).await, Ok(Some(_)))
    }

    /// Notes under the idempotency key that everything was stored.
    async fn remember(&self, draft: &Draft, recipients: &[SubmittedRecipient]) {
        let Some(key) = &draft.idempotency else {
            return;
        };
        if recipients.iter().any(|recipient| recipient.error.is_some()) {
            return;
        }
        let completed = self
            .history
            .complete(&draft.tenant, &key.text, &key.fingerprint)
            .await;
        if let Err(error) = completed {
            tracing::debug!(%error, "idempotency key not completed");
        }
    }
}

/// What is known of an earlier call with the same idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Earlier {
    /// There was none.
    None,
    /// There may have been one, which may have stored some of the jobs.
    Unknown,
    /// It stored all of them.
    Accepted,
}

/// The first answer again: every id in it derives from the idempotency key.
fn replay(draft: &Draft) -> SubmitResponse {
    let recipient = |recipient: &model::Address| SubmittedRecipient {
        recipient: recipient.to_string(),
        job_id: draft.job_id(recipient).to_string(),
        error: None,
    };
    SubmitResponse {
        message_id: draft.id.to_string(),
        recipients: draft.recipients.iter().map(recipient).collect(),
        replayed: true,
    }
}

fn outcome(job: &Job, error: Option<QueueError>) -> SubmittedRecipient {
    let recipient = job.recipient.to_string();
    let Some(error) = error else {
        let job_id = job.id.to_string();
        return SubmittedRecipient {
            recipient,
            job_id,
            error: None,
        };
    };
    tracing::warn!(job = %job.id, tenant = %job.tenant, %error, "recipient not accepted");
    let (code, reason) = reason(&error);
    let error = SubmitError {
        reason: reason.to_owned(),
        detail: error.to_string(),
        code: code as i32,
    };
    SubmittedRecipient {
        recipient,
        job_id: String::new(),
        error: Some(error),
    }
}

/// The answer when nothing could be stored.
fn refusal(error: &QueueError) -> Status {
    let (code, reason) = reason(error);
    tracing::warn!(%error, reason, "message not accepted");
    let problem = match error {
        QueueError::Full(_) => {
            "the queue is full and nothing was queued; try again later, or raise nats.ready_bytes"
        }
        QueueError::StorageFull(_) => STORAGE_FULL,
        QueueError::TooLarge(_) => {
            "the message is larger than the queue takes and nothing was queued"
        }
        QueueError::Unacknowledged(_) | QueueError::NotKnown => {
            "the queue did not acknowledge the message, which may be queued or not; repeat the call under the same \
             idempotency key"
        }
        QueueError::ScheduleNotStored | QueueError::Superseded | QueueError::Refused(_) => {
            "the queue did not take the message and nothing was queued; try again"
        }
    };
    match code {
        Code::ResourceExhausted | Code::Unavailable => {
            status_with_retry(code, reason, problem, RETRY_HINT)
        }
        code => status(code, reason, problem),
    }
}

fn reason(error: &QueueError) -> (Code, &'static str) {
    match error {
        QueueError::Full(_) | QueueError::StorageFull(_) => (Code::ResourceExhausted, "QUEUE_FULL"),
        QueueError::TooLarge(_) => (Code::InvalidArgument, "MESSAGE_TOO_LARGE"),
        QueueError::Unacknowledged(_) | QueueError::NotKnown => {
            (Code::Unavailable, "QUEUE_UNACKNOWLEDGED")
        }
        QueueError::ScheduleNotStored | QueueError::Superseded | QueueError::Refused(_) => {
            (Code::Unavailable, "QUEUE_UNAVAILABLE")
        }
    }
}

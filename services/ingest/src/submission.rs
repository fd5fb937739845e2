//! Takes a message from the call to the queue.

use std::sync::Arc;
use std::time::Duration;

use api::v1::submission_server::Submission;
use api::v1::{SubmitError, SubmitRequest, SubmitResponse, SubmittedRecipient};
use futures_util::{StreamExt as _, stream};
use model::{Body, Clock, Event, EventKind, Job, Tenant};
use queue::{Blobs, EventRecorder, Publisher, QueueError};
use tonic::{Code, Request, Response, Status};

use crate::auth::tenant_of;
use crate::config::Config;
use crate::draft::Draft;
use crate::readiness::Readiness;
use crate::violations::{status, status_with_retry};

/// A larger content is stored once in the object store, and not in every job.
const INLINE_LIMIT: usize = 256 << 10;
/// Publishes of one call in flight at once.
const IN_FLIGHT: usize = 64;
/// When to try again after the queue was full or away.
const RETRY_HINT: Duration = Duration::from_secs(5);

/// The service `postrider.v1.Submission`.
pub(crate) struct SubmissionService {
    pub(crate) config: Arc<Config>,
    pub(crate) publisher: Publisher,
    pub(crate) blobs: Blobs,
    pub(crate) events: EventRecorder,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) readiness: Readiness,
}

#[tonic::async_trait]
impl Submission for SubmissionService {
    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitResponse>, Status> {
        let tenant = tenant_of(&request)?;
        self.readiness.check()?;
        let draft = Draft::check(request.into_inner(), &self.config, self.clock.now())?;
        let body = self.place(&draft).await.map_err(|error| refusal(&error))?;
        let recipients = self.publish(&draft, &tenant, body).await?;
        Ok(Response::new(SubmitResponse {
            message_id: draft.id.to_string(),
            recipients,
        }))
    }
}

impl SubmissionService {
    /// Puts the content where its jobs will find it: into them, or into the object store before them.
    async fn place(&self, draft: &Draft) -> Result<Body, QueueError> {
        if draft.content.len() <= INLINE_LIMIT {
            return Ok(Body::Inline(draft.content.clone()));
        }
        let name = format!("{}/{}", draft.expires_at.as_second(), draft.id);
        self.blobs.put(&name, &draft.content).await?;
        Ok(Body::Blob(name))
    }

    /// Publishes a job for each recipient; an error only if none was stored.
    async fn publish(
        &self,
        draft: &Draft,
        tenant: &Tenant,
        body: Body,
    ) -> Result<Vec<SubmittedRecipient>, Status> {
        let jobs: Vec<Job> = draft
            .recipients
            .iter()
            .map(|recipient| draft.job(recipient, tenant, body.clone()))
            .collect();
        let published: Vec<(Job, Result<(), QueueError>)> = stream::iter(jobs)
            .map(|job| async {
                let stored = self.publish_job(&job).await;
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

    async fn publish_job(&self, job: &Job) -> Result<(), QueueError> {
        let payload = api::encode_job(job).into();
        self.publisher
            .ready(job.class, job.destination(), job.id, payload)
            .await?;
        let accepted = Event::of(job, EventKind::Accepted, 0, job.accepted_at);
        // The job is safe, whatever becomes of its event, which is recorded in its own time.
        if let Err(error) = self.events.record(api::encode_event(&accepted)).await {
            tracing::warn!(job = %job.id, %error, "event of an accepted job not recorded");
        }
        Ok(())
    }
}

fn outcome(job: &Job, error: Option<QueueError>) -> SubmittedRecipient {
    let recipient = job.recipient.to_string();
    match error {
        None => SubmittedRecipient {
            recipient,
            job_id: job.id.to_string(),
            error: None,
        },
        Some(error) => {
            tracing::warn!(job = %job.id, tenant = %job.tenant, %error, "recipient not accepted");
            let (_, reason) = reason(&error);
            let error = Some(SubmitError {
                reason: reason.to_owned(),
                detail: error.to_string(),
            });
            SubmittedRecipient {
                recipient,
                job_id: String::new(),
                error,
            }
        }
    }
}

/// The answer when nothing could be stored.
fn refusal(error: &QueueError) -> Status {
    let (code, reason) = reason(error);
    tracing::warn!(%error, reason, "message not accepted");
    let problem = match reason {
        "QUEUE_FULL" => {
            "the queue is full and nothing was queued; try again later, or raise nats.ready_bytes"
        }
        "MESSAGE_TOO_LARGE" => "the message is larger than the queue takes and nothing was queued",
        _ => "the queue did not acknowledge the message; try again",
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
        QueueError::Full(_) => (Code::ResourceExhausted, "QUEUE_FULL"),
        QueueError::TooLarge(_) => (Code::InvalidArgument, "MESSAGE_TOO_LARGE"),
        QueueError::Unacknowledged(_) | QueueError::ScheduleNotStored | QueueError::Refused(_) => {
            (Code::Unavailable, "QUEUE_UNAVAILABLE")
        }
    }
}

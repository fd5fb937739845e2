//! Tells what became of messages: timelines from Redis, and events as they happen.

use std::pin::Pin;

use api::v1::messages_server::Messages;
use api::v1::watch_request::Start;
use api::v1::{
    self, CancelRequest, CancelResponse, GetRequest, GetResponse, JobState, JobStatus,
    WatchRequest, WatchResponse,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use history::{History, Timeline};
use model::{Class, Domain, EventKind, JobId, MessageId, Tenant};
use prost::Message as _;
use queue::{Canceller, EventReader, QueueError, RecordedBatch, Since};
use runtime::Shutdown;
use tonic::{Code, Request, Response, Status};

use crate::auth::tenant_of;
use crate::violations::{Violations, status};

/// The service `postrider.v1.Messages`.
pub(crate) struct MessagesService {
    pub(crate) history: History,
    pub(crate) reader: EventReader,
    pub(crate) canceller: Canceller,
    pub(crate) shutdown: Shutdown,
}

/// A message and its jobs.
type Found = (MessageId, Vec<(JobId, Timeline)>);
type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Messages for MessagesService {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let tenant = tenant_of(&request)?;
        let (message_id, jobs) = self.find(&tenant, &request.into_inner().id).await?;
        let jobs = jobs
            .into_iter()
            .map(|(job, timeline)| job_status(job, timeline))
            .collect();
        Ok(Response::new(GetResponse {
            message_id: message_id.to_string(),
            jobs,
        }))
    }

    async fn cancel(
        &self,
        request: Request<CancelRequest>,
    ) -> Result<Response<CancelResponse>, Status> {
        let tenant = tenant_of(&request)?;
        let id = request.into_inner().id;
        let (message_id, jobs) = self.find(&tenant, &id).await?;
        let mut response = CancelResponse::default();
        if message_id.to_string() == id {
            // Also for jobs whose events are not projected yet.
            let cancelled = self.canceller.cancel_message(&tenant, message_id).await;
            cancelled.map_err(|error| interrupted(&error))?;
        }
        for (job, timeline) in jobs {
            match cancellable(timeline) {
                Some((class, destination)) => {
                    let cancelled = self
                        .canceller
                        .cancel_job(&tenant, class, &destination, job)
                        .await;
                    cancelled.map_err(|error| interrupted(&error))?;
                    response.cancelling_job_ids.push(job.to_string());
                }
                None => response.ended_job_ids.push(job.to_string()),
            }
        }
        Ok(Response::new(response))
    }

    type WatchStream = WatchStream;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<WatchStream>, Status> {
        let tenant = tenant_of(&request)?;
        let (filter, since) = Filter::check(request.into_inner(), tenant)?;
        let batches = self
            .reader
            .tail(since)
            .await
            .map_err(|error| interrupted(&error))?;
        let events = batches
            .map(move |batch| filter.select(batch))
            .map_ok(|events| stream::iter(events.into_iter().map(Ok)))
            .try_flatten();
        let shutdown = self.shutdown.clone();
        let ended = async move { shutdown.requested().await };
        let goodbye = status(
            Code::Unavailable,
            "SHUTTING_DOWN",
            "the server is shutting down; watch another one from the last cursor",
        );
        let events = events.take_until(Box::pin(ended));
        Ok(Response::new(Box::pin(
            events.chain(stream::iter([Err(goodbye)])),
        )))
    }
}

impl MessagesService {
    /// The message and the jobs that `id` names, be it a message's or a job's.
    async fn find(&self, tenant: &Tenant, id: &str) -> Result<Found, Status> {
        let Ok(message_id) = id.parse::<MessageId>() else {
            let mut violations = Violations::default();
            let problem =
                format!("{id:.64?} is not an id; give one that Submission.Submit answered");
            violations.add("id", problem);
            return violations.finish(None);
        };
        let found = self.jobs(tenant, message_id).await.map_err(away)?;
        found.ok_or_else(|| {
            let problem = "id: unknown, no longer remembered, or another tenant's";
            status(Code::NotFound, "MESSAGE_UNKNOWN", problem)
        })
    }

    /// The jobs behind an id, be it a message's or a job's.
    async fn jobs(
        &self,
        tenant: &Tenant,
        id: MessageId,
    ) -> Result<Option<Found>, history::HistoryError> {
        if let Some(jobs) = self.history.message(tenant, id).await? {
            return Ok(Some((id, jobs)));
        }
        let job = JobId::from_bytes(*id.as_bytes());
        let timeline = self.history.job(tenant, job).await?;
        Ok(timeline.map(|timeline| (timeline.message, vec![(job, timeline)])))
    }
}

fn away(error: history::HistoryError) -> Status {
    tracing::warn!(%error, "timeline not read");
    status(
        Code::Unavailable,
        "HISTORY_UNAVAILABLE",
        "timelines cannot be read at the moment; try again",
    )
}

fn interrupted(error: &QueueError) -> Status {
    tracing::warn!(%error, "watch interrupted");
    status(
        Code::Unavailable,
        "QUEUE_UNAVAILABLE",
        "events cannot be read at the moment; try again from the last cursor",
    )
}

fn job_status(job: JobId, timeline: Timeline) -> JobStatus {
    let decode = |event: &Bytes| v1::Event::decode(event.clone()).ok();
    let events: Vec<v1::Event> = timeline.events.iter().filter_map(decode).collect();
    let decisive = decisive(&events);
    JobStatus {
        job_id: job.to_string(),
        recipient: events
            .first()
            .map(|event| event.recipient.clone())
            .unwrap_or_default(),
        state: state(decisive).into(),
        next_attempt_at: decisive.and_then(|event| event.next_attempt_at),
        events,
    }
}

/// The class and destination of a job that has not come to its end.
fn cancellable(timeline: Timeline) -> Option<(Class, Domain)> {
    let decode = |event: &Bytes| api::decode_event(event).ok();
    let events: Vec<model::Event> = timeline.events.iter().filter_map(decode).collect();
    if events.iter().any(|event| event.kind.is_terminal()) {
        return None;
    }
    events
        .first()
        .map(|event| (event.class, event.recipient.domain().clone()))
}

/// The event that says where a job stands: its terminal one, or else its latest attempt's.
fn decisive(events: &[v1::Event]) -> Option<&v1::Event> {
    let kind = |event: &v1::Event| api::kind_from_wire(event.kind);
    let terminal = events
        .iter()
        .find(|event| kind(event).is_some_and(EventKind::is_terminal));
    terminal.or_else(|| events.iter().max_by_key(|event| event.attempt))
}

fn state(decisive: Option<&v1::Event>) -> JobState {
    match decisive.and_then(|event| api::kind_from_wire(event.kind)) {
        None | Some(EventKind::Accepted) => JobState::Queued,
        Some(EventKind::Deferred) => JobState::Deferred,
        Some(EventKind::Delivered) => JobState::Delivered,
        Some(EventKind::Bounced) => JobState::Bounced,
        Some(EventKind::Expired) => JobState::Expired,
        Some(EventKind::Quarantined) => JobState::Quarantined,
        Some(EventKind::Cancelled) => JobState::Cancelled,
    }
}

/// Which events a watcher sees.
struct Filter {
    tenant: Tenant,
    id: String,
    kinds: Vec<i32>,
}

impl Filter {
    fn check(request: WatchRequest, tenant: Tenant) -> Result<(Self, Since), Status> {
        let mut violations = Violations::default();
        let id = match request.id.as_str() {
            "" => String::new(),
            text => violations
                .check("id", text.parse::<MessageId>())
                .map(|id| id.to_string())
                .unwrap_or_default(),
        };
        for (index, kind) in request.kinds.iter().enumerate() {
            if api::kind_from_wire(*kind).is_none() {
                violations.add(
                    format!("kinds[{index}]"),
                    format!("{kind} is no kind of event"),
                );
            }
        }
        let since = match request.start {
            None => Some(Since::Now),
            Some(Start::Since(time)) => api::timestamp_from_wire(&time).map(Since::Time),
            Some(Start::AfterCursor(cursor)) => cursor.parse().ok().map(Since::Sequence),
        };
        if since.is_none() {
            violations.add(
                "start",
                "is neither a valid time nor a cursor that an earlier call answered",
            );
        }
        violations.finish(since.map(|since| {
            (
                Self {
                    tenant,
                    id,
                    kinds: request.kinds,
                },
                since,
            )
        }))
    }

    fn select(
        &self,
        batch: Result<RecordedBatch, QueueError>,
    ) -> Result<Vec<WatchResponse>, Status> {
        let batch = batch.map_err(|error| interrupted(&error))?;
        let events = api::decode_batch(batch.payload).unwrap_or_default();
        let mut selected: Vec<WatchResponse> = events
            .into_iter()
            .filter(|event| self.matches(event))
            // Behind the batch before: whoever has not seen all of this one reads it again.
            .map(|event| WatchResponse {
                event: Some(event),
                cursor: batch.sequence.saturating_sub(1).to_string(),
            })
            .collect();
        if let Some(last) = selected.last_mut() {
            last.cursor = batch.sequence.to_string();
        }
        Ok(selected)
    }

    fn matches(&self, event: &v1::Event) -> bool {
        event.tenant == self.tenant.as_str()
            && (self.id.is_empty() || self.id == event.message_id || self.id == event.job_id)
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
    }
}

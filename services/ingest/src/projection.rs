//! Writes the timelines: what `Messages.Get` answers from, projected out of EVENTS.

use bytes::Bytes;
use history::{History, TimelineEntry};
use prost::Message as _;
use queue::EventReader;
use runtime::Shutdown;
use std::time::Duration;

/// The name all ingest processes share, so that each batch is projected by one of them.
const READER: &str = "timelines";
const PAUSE: Duration = Duration::from_secs(1);
/// How often a batch is tried before it is given back, well within the consumer's `ack_wait` of 30 s.
const TRIES: u32 = 15;

/// Projects batches until shutdown.
pub(crate) async fn run(reader: EventReader, history: History, shutdown: Shutdown) {
    loop {
        let projecting = reader.project(READER, |batch| apply(&history, batch));
        tokio::select! {
            () = shutdown.requested() => return,
            ended = projecting => if let Err(error) = ended {
                tracing::warn!(%error, "projection of events interrupted, resuming");
            },
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether the batch is done with.
async fn apply(history: &History, batch: Bytes) -> bool {
    let events = match api::decode_batch(batch) {
        Ok(events) => events,
        Err(error) => {
            tracing::error!(%error, "batch of events is not readable, skipping it");
            return true;
        }
    };
    let entries: Vec<TimelineEntry> = events.into_iter().filter_map(entry).collect();
    for _ in 0..TRIES {
        match history.append(&entries).await {
            Ok(()) => return true,
            Err(error) if error.is_passing() => {
                tracing::debug!(%error, "timelines not written yet")
            }
            Err(error) => {
                tracing::error!(%error, "timelines cannot be written, skipping a batch of events");
                return true;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    false
}

fn entry(event: api::v1::Event) -> Option<TimelineEntry> {
    let encoded = event.encode_to_vec().into();
    match api::event_from_wire(event) {
        Ok(event) => Some(TimelineEntry {
            event_id: event.id(),
            attempt: event.attempt,
            tenant: event.tenant,
            message: event.message_id,
            job: event.job_id,
            at: event.occurred_at,
            event: encoded,
        }),
        Err(error) => {
            tracing::error!(%error, "event is not readable, skipping it");
            None
        }
    }
}

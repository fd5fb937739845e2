//! How much waits in each lane: what ingest needs to know before it lets one tenant stand in front of others.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_nats::jetstream;
use model::Class;

use crate::{Lane, LaneMap, QueueError, Stage};

/// How often the broker is asked.
const EVERY: Duration = Duration::from_millis(500);

/// Ready jobs waiting or in hand, by stream; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Backlogs {
    jobs: Arc<RwLock<HashMap<String, (u64, u64)>>>,
}

impl Backlogs {
    /// Nothing known yet, and the task that asks for every lane but the overflow, twice a second.
    pub(crate) fn follow(
        jetstream: jetstream::Context,
        lanes: &LaneMap,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let backlogs = Self::default();
        let asked = lanes.lanes().filter(|lane| !lane.is_overflow());
        let streams = asked
            .flat_map(|lane| Class::ALL.map(|class| lane.stream(class, Stage::Ready)))
            .collect();
        (backlogs.clone(), backlogs.keep(jetstream, streams))
    }

    /// How often the broker has answered for `lane`, and how many ready jobs it held by the last answer; 0 and 0 as long
    /// as there was none.
    pub fn of(&self, lane: &Lane, class: Class) -> (u64, u64) {
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        jobs.get(&lane.stream(class, Stage::Ready))
            .copied()
            .unwrap_or_default()
    }

    async fn keep(self, jetstream: jetstream::Context, streams: Vec<String>) {
        let mut turns = tokio::time::interval(EVERY);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            for stream in &streams {
                match ask(&jetstream, stream).await {
                    Ok(jobs) => self.set(stream, jobs),
                    Err(error) => tracing::debug!(stream, %error, "backlog not known"),
                }
            }
        }
    }

    fn set(&self, stream: &str, jobs: u64) {
        let mut known = self.jobs.write().unwrap_or_else(PoisonError::into_inner);
        let (readings, last) = known.entry(stream.to_owned()).or_default();
        *readings += 1;
        *last = jobs;
    }
}

async fn ask(jetstream: &jetstream::Context, stream: &str) -> Result<u64, QueueError> {
    let stream = jetstream
        .get_stream(stream)
        .await
        .map_err(QueueError::refused)?;
    Ok(stream.cached_info().state.messages)
}

//! How much waits in each lane: what ingest needs to know before it lets one tenant stand in front of others.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_nats::jetstream::{self, stream::State};
use futures_util::future::join_all;
use model::Class;
use tokio::time::Instant;

use crate::{Lane, LaneMap, QueueError, Stage};

/// How often the broker is asked.
const EVERY: Duration = Duration::from_millis(500);

/// What the broker said of one stream of ready jobs.
#[derive(Debug, Clone, Copy)]
pub struct Backlog {
    /// When.
    pub at: Instant,
    /// Jobs that wait, are in hand, or have just ended.
    pub jobs: u64,
    /// Jobs that were ever there and have left.
    pub left: u64,
}

/// The ready jobs of each stream; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Backlogs {
    known: Arc<RwLock<HashMap<String, Backlog>>>,
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

    /// The last answer for `lane`; `None` as long as there was none.
    pub fn of(&self, lane: &Lane, class: Class) -> Option<Backlog> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&lane.stream(class, Stage::Ready)).copied()
    }

    /// Asks for each stream by itself: one that does not answer keeps nobody from hearing of the others.
    async fn keep(self, jetstream: jetstream::Context, streams: Vec<String>) {
        join_all(
            streams
                .iter()
                .map(|stream| self.keep_one(&jetstream, stream)),
        )
        .await;
    }

    async fn keep_one(&self, jetstream: &jetstream::Context, stream: &str) {
        let mut turns = tokio::time::interval(EVERY);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            match ask(jetstream, stream).await {
                Ok(state) => self.set(stream, &state),
                Err(error) => tracing::debug!(stream, %error, "backlog not known"),
            }
        }
    }

    fn set(&self, stream: &str, state: &State) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let backlog = Backlog {
            at: Instant::now(),
            jobs: state.messages,
            left: state.last_sequence.saturating_sub(state.messages),
        };
        known.insert(stream.to_owned(), backlog);
    }
}

async fn ask(jetstream: &jetstream::Context, stream: &str) -> Result<State, QueueError> {
    let stream = jetstream
        .get_stream(stream)
        .await
        .map_err(QueueError::refused)?;
    Ok(stream.cached_info().state.clone())
}

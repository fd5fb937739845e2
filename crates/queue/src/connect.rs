//! The connection to the queue.

use std::time::Duration;

use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::{Client, ConnectOptions, Event};
use model::{Clock as _, SystemClock, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::settled::Settled;
use crate::{
    Backlogs, Blobs, Canceller, Condition, Encode, EventReader, EventRecorder, Holds, Lane,
    LaneMap, Members, Publisher, Puller, QueueError, Settings, SetupError, Stage, Tombstones,
};

/// Publishes in flight at once, over the whole connection; beyond it publishers wait.
const MAX_IN_FLIGHT: usize = 4096;

/// How long something that was set up may be out of reach, as while its leader is elected, and how often it is tried.
const ELECTION: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// A connection to the queue; cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    client: Client,
    jetstream: jetstream::Context,
    lanes: LaneMap,
    publisher: Publisher,
    settings: Settings,
    connections: watch::Receiver<Timestamp>,
}

impl Queue {
    /// Connects to one of the servers. Reconnects by itself for ever after.
    pub async fn connect(settings: Settings) -> Result<Self, SetupError> {
        let problem = |problem: String| SetupError::Connect {
            servers: settings.servers.join(", "),
            problem,
        };
        let (connected, connections) = watch::channel(SystemClock.now());
        let mut options = ConnectOptions::new()
            .name("postrider")
            .connection_timeout(Duration::from_secs(5))
            .ping_interval(Duration::from_secs(10))
            .request_timeout(Some(Duration::from_secs(5)))
            .event_callback(move |event| {
                let connected = connected.clone();
                async move {
                    if matches!(event, Event::Connected) {
                        connected.send_replace(SystemClock.now());
                    }
                }
            });
        if let Some(file) = &settings.credentials_file {
            options = options
                .credentials_file(file)
                .await
                .map_err(|error| problem(error.to_string()))?;
        }
        let client = options
            .connect(&settings.servers)
            .await
            .map_err(|error| problem(error.to_string()))?;
        let jetstream = ContextBuilder::new()
            .timeout(Duration::from_secs(5))
            .max_ack_inflight(MAX_IN_FLIGHT)
            .backpressure_on_inflight(true)
            .build(client.clone());
        let lanes = LaneMap::new(
            &settings.egress_group,
            settings.hashed_lanes,
            &settings.own_lanes,
        );
        Ok(Self {
            client,
            publisher: Publisher::new(jetstream.clone(), lanes.clone()),
            jetstream,
            lanes,
            settings,
            connections,
        })
    }

    /// Asks every server whether it keeps what it acknowledges, unless [`SyncPolicy`](crate::SyncPolicy) says
    /// otherwise, and how full it is.
    pub async fn check(&self) -> Result<Condition, SetupError> {
        crate::durability::check(&self.settings).await
    }

    /// Refuses where the streams' limits add up to more than half of the smallest server's storage. Says nothing where
    /// the servers were not asked.
    pub fn check_budget(&self, condition: &Condition) -> Result<(), SetupError> {
        match condition.smallest_storage {
            Some(storage) => crate::budget::check(&self.settings, storage),
            None => Ok(()),
        }
    }

    /// Makes and migrates every stream and consumer; safe to repeat and to run from many processes at once.
    pub async fn set_up(&self) -> Result<(), SetupError> {
        crate::streams::set_up(&self.jetstream, &self.lanes, &self.settings).await
    }

    /// Whether a server is connected at this moment.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// When the connection was last made; changes whenever it is made anew.
    pub fn connections(&self) -> watch::Receiver<Timestamp> {
        self.connections.clone()
    }

    /// How long a pulled job may go without a sign of life.
    pub fn ack_wait(&self) -> Duration {
        self.settings.ack_wait
    }

    /// The lanes of this installation.
    pub fn lanes(&self) -> &LaneMap {
        &self.lanes
    }

    /// How much waits in each lane, and the task that keeps asking.
    pub fn backlogs(&self) -> (Backlogs, impl Future<Output = ()> + Send + use<>) {
        Backlogs::follow(self.jetstream.clone(), &self.lanes)
    }

    /// Puts jobs into the queue.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// The live workers of this egress group, this one among them.
    pub fn members(&self) -> Members {
        Members::new(self.jetstream.clone(), &self.settings)
    }

    /// The table of what this process holds, and the task that keeps it held.
    pub fn holds(&self) -> (Holds, impl Future<Output = ()> + Send + use<>) {
        let ack_wait = self.settings.ack_wait;
        let settled = Settled::new(
            self.jetstream.clone(),
            self.settings.replicas,
            ack_wait,
            self.connections(),
        );
        Holds::new(ack_wait, settled)
    }

    /// Takes jobs of one class and stage out of a lane.
    pub async fn puller(
        &self,
        lane: &Lane,
        class: model::Class,
        stage: Stage,
        holds: &Holds,
    ) -> Result<Puller, QueueError> {
        open(|| Puller::open(&self.jetstream, lane, class, stage, holds.clone())).await
    }

    /// Records events in batches that `encode` makes, and the task that publishes them.
    pub fn event_recorder(
        &self,
        encode: Encode,
    ) -> (EventRecorder, impl Future<Output = ()> + Send + use<>) {
        EventRecorder::new(self.jetstream.clone(), encode)
    }

    /// Reads events.
    pub fn event_reader(&self) -> EventReader {
        EventReader::new(self.jetstream.clone())
    }

    /// The store of large bodies.
    pub async fn blobs(&self) -> Result<Blobs, QueueError> {
        open(|| Blobs::open(&self.jetstream)).await
    }

    /// Asks for jobs to be cancelled.
    pub async fn canceller(&self) -> Result<Canceller, QueueError> {
        open(|| Canceller::open(&self.jetstream, self.publisher())).await
    }

    /// Every cancelled job, and the task that keeps the list current.
    pub fn tombstones(&self) -> (Tombstones, impl Future<Output = ()> + Send + use<>) {
        Tombstones::follow(self.jetstream.clone(), self.settings.body_age)
    }

    /// Sends what is buffered and closes the connection.
    pub async fn close(&self) {
        if let Err(error) = self.client.drain().await {
            tracing::debug!(%error, "drain the connection");
        }
    }
}

/// Opens what [`Queue::set_up`] made, through the loss of a server that leads it.
async fn open<T, F, Trying>(attempt: F) -> Result<T, QueueError>
where
    F: Fn() -> Trying,
    Trying: Future<Output = Result<T, QueueError>>,
{
    let deadline = Instant::now() + ELECTION;
    loop {
        match attempt().await {
            Err(error) if Instant::now() < deadline => {
                tracing::debug!(%error, "not opened yet, trying again");
                tokio::time::sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
}

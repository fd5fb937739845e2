//! Which workers of an egress group are alive: what the leases on lanes follow from (ADR 16).
//!
//! Every worker writes a sign of life into a bucket once a second and watches the others'. One that has not been heard
//! of for [`LIFETIME`] is taken to be dead. A worker that hears nobody takes itself to be alone, and pulls everything:
//! two that pull the same lane cost fairness for a while, and lose nothing.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_nats::jetstream::kv::{self, Operation, Store};
use async_nats::jetstream::{self, stream::StorageType};
use futures_util::StreamExt as _;
use model::{Clock as _, SystemClock, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::connection::CLOCKS;
use crate::streams::WORKERS;
use crate::{QueueError, Settings};

/// How often a worker gives a sign of life.
const BEAT: Duration = Duration::from_secs(1);
/// How long a sign of life is good.
const LIFETIME: Duration = Duration::from_secs(5);
/// How long the bucket keeps one: only so that the dead do not stay in it for ever.
const KEPT: Duration = Duration::from_secs(60);

/// The live workers of this one's egress group, itself among them.
#[derive(Debug)]
pub struct Members {
    own: String,
    group: String,
    alive: watch::Sender<BTreeSet<String>>,
    jetstream: jetstream::Context,
    replicas: usize,
}

impl Members {
    /// This worker, alone as far as it knows.
    pub(crate) fn new(jetstream: jetstream::Context, settings: &Settings) -> Self {
        let own = uuid::Uuid::now_v7().simple().to_string();
        let alone = BTreeSet::from([own.clone()]);
        Self {
            own,
            group: settings.egress_group.to_string(),
            alive: watch::Sender::new(alone),
            jetstream,
            replicas: settings.replicas,
        }
    }

    /// This worker's name among them, unique to this start.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// Tells who is alive, whenever that changes.
    pub fn alive(&self) -> watch::Receiver<BTreeSet<String>> {
        self.alive.subscribe()
    }

    /// By when the queue had come up, by its own clock. Without copies, soon before its bucket was made, which lives in
    /// memory. With copies the bucket outlives each server: nobody knows when all came up, other than that it was before now.
    pub async fn since(&self) -> Timestamp {
        if self.replicas == 1 {
            match self.bucket_made().await {
                Ok(made) => return made,
                Err(error) => tracing::debug!(%error, "when the queue came up is not known"),
            }
        }
        let now = SystemClock.now();
        now.checked_add(CLOCKS).unwrap_or(now)
    }

    async fn bucket_made(&self) -> Result<Timestamp, QueueError> {
        let status = self.bucket().await?.status().await;
        let created = status.map_err(QueueError::refused)?.info.created;
        Timestamp::from_nanosecond(created.unix_timestamp_nanos()).map_err(QueueError::refused)
    }

    /// Gives signs of life and follows the others', for ever.
    pub async fn keep(&self) {
        loop {
            if let Err(error) = self.follow().await {
                tracing::warn!(%error, "other workers not followed, trying again");
            }
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Says goodbye, so that the others need not wait for this one's last sign of life to grow old.
    pub async fn leave(&self) {
        let left = match self.jetstream.get_key_value(WORKERS).await {
            Ok(store) => store.delete(self.key()).await.map_err(QueueError::refused),
            Err(error) => Err(QueueError::refused(error)),
        };
        if let Err(error) = left {
            tracing::debug!(%error, "goodbye not said, the others will notice");
        }
    }

    async fn follow(&self) -> Result<(), QueueError> {
        let store = self.bucket().await?;
        let mut signs = store.watch_all().await.map_err(QueueError::refused)?;
        // After the broker was away nobody is dead before having had the time to speak.
        let known = self.alive.borrow().clone();
        let mut heard: HashMap<String, Instant> =
            known.into_iter().map(|one| (one, Instant::now())).collect();
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beats.tick() => {
                    let beat = store.put(self.key(), "".into()).await;
                    beat.map_err(QueueError::refused)?;
                    heard.retain(|_, last| last.elapsed() < LIFETIME);
                }
                sign = signs.next() => {
                    let Some(sign) = sign else { return Ok(()) };
                    let sign = sign.map_err(QueueError::refused)?;
                    let Some(member) = self.member(&sign.key) else { continue };
                    match sign.operation {
                        Operation::Put => drop(heard.insert(member, Instant::now())),
                        Operation::Delete | Operation::Purge => drop(heard.remove(&member)),
                    }
                }
            }
            self.tell(&heard);
        }
    }

    fn tell(&self, heard: &HashMap<String, Instant>) {
        let mut alive: BTreeSet<String> = heard.keys().cloned().collect();
        alive.insert(self.own.clone());
        self.alive.send_if_modified(|known| {
            let is_new = *known != alive;
            *known = alive;
            is_new
        });
    }

    async fn bucket(&self) -> Result<Store, QueueError> {
        let config = kv::Config {
            bucket: WORKERS.to_owned(),
            history: 1,
            max_age: KEPT,
            // What it holds is worth nothing after a restart.
            storage: StorageType::Memory,
            num_replicas: self.replicas,
            ..kv::Config::default()
        };
        self.jetstream
            .create_or_update_key_value(config)
            .await
            .map_err(QueueError::refused)
    }

    fn key(&self) -> String {
        format!("{}.{}", self.group, self.own)
    }

    /// The worker a key names, if it is of this group.
    fn member(&self, key: &str) -> Option<String> {
        let (group, member) = key.rsplit_once('.')?;
        (group == self.group).then(|| member.to_owned())
    }
}

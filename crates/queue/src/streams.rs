//! The streams, consumers and buckets the product needs, made and migrated by itself.

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::{
    Config, ConsumerError, DiscardPolicy, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{self, ErrorCode, kv, object_store};
use model::Class;

use crate::{Lane, LaneMap, Settings, SetupError, Stage};
use futures_util::StreamExt as _;
use std::collections::HashSet;
use std::time::Duration;

/// The stream of events.
pub(crate) const EVENTS: &str = "EVENTS";
/// The subject events are published on: one shard until there is a reason for more.
pub(crate) const EVENT_SUBJECT: &str = "ev.0";
/// The bucket of large bodies.
pub(crate) const BODIES: &str = "bodies";
/// The stream of the bodies of jobs that wait.
pub(crate) const WAITING_BODIES: &str = "BODIES";
/// The bucket of cancelled jobs.
pub(crate) const CANCELLED: &str = "cancelled";
/// The durable consumer of every lane stream.
pub(crate) const WORKERS: &str = "workers";

/// Within it a job published again under the same id is stored once.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(5 * 60);
/// Far above what the windows of all workers together may hold, so that the broker never stops a lane.
const MAX_ACK_PENDING: i64 = 200_000;
/// How long a body outlives the last moment its job could need it.
const BODY_GRACE: Duration = Duration::from_secs(3600);

/// Makes what is missing and changes what differs.
pub(crate) async fn set_up(
    jetstream: &jetstream::Context,
    lanes: &LaneMap,
    settings: &Settings,
) -> Result<(), SetupError> {
    check_orphans(jetstream, lanes, settings).await?;
    let share = settings.ready_bytes.0 / (lanes.lanes().count() * Class::ALL.len()) as u64;
    for lane in lanes.lanes() {
        for class in Class::ALL {
            for stage in lane.stages() {
                let config = match stage {
                    Stage::Ready => ready_stream(lane, class, share, settings),
                    Stage::Deferred => deferred_stream(lane, class, settings),
                };
                let jobs = lane.jobs(class, *stage);
                make(jetstream, config, &jobs, settings).await?;
            }
        }
    }
    make_stream(jetstream, event_stream(settings)).await?;
    make_stream(jetstream, waiting_bodies(settings)).await?;
    make_tombstones(jetstream, settings).await?;
    make_bodies(jetstream, settings).await
}

fn ready_stream(lane: &Lane, class: Class, max_bytes: u64, settings: &Settings) -> Config {
    Config {
        name: lane.stream(class, Stage::Ready),
        subjects: lane.subjects(class, Stage::Ready),
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        max_bytes: i64::try_from(max_bytes).unwrap_or(i64::MAX),
        duplicate_window: DUPLICATE_WINDOW,
        allow_atomic_publish: true,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        allow_direct: true,
        ..Config::default()
    }
}

/// No `max_bytes`, `max_messages` or `max_age`: a schedule stream rejects `DiscardPolicy::New`, and any other policy
/// would throw away the mail that has waited longest. Ingest accepts nothing once the servers' storage is nearly full.
fn deferred_stream(lane: &Lane, class: Class, settings: &Settings) -> Config {
    Config {
        name: lane.stream(class, Stage::Deferred),
        subjects: lane.subjects(class, Stage::Deferred),
        retention: RetentionPolicy::WorkQueue,
        allow_message_schedules: true,
        duplicate_window: DUPLICATE_WINDOW,
        allow_atomic_publish: true,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        allow_direct: true,
        ..Config::default()
    }
}

fn event_stream(settings: &Settings) -> Config {
    Config {
        name: EVENTS.to_owned(),
        subjects: vec!["ev.>".to_owned()],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        max_bytes: i64::try_from(settings.event_bytes.0).unwrap_or(i64::MAX),
        max_age: settings.event_age,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        allow_direct: true,
        ..Config::default()
    }
}

/// A body for each job that waits, removed when the job has come to its end; the age is for what was forgotten.
fn waiting_bodies(settings: &Settings) -> Config {
    Config {
        name: WAITING_BODIES.to_owned(),
        subjects: vec![waiting_body_subject("*")],
        retention: RetentionPolicy::Limits,
        max_messages_per_subject: 1,
        allow_atomic_publish: true,
        max_age: settings.body_age + BODY_GRACE,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        allow_direct: true,
        ..Config::default()
    }
}

/// The subject of the body of the job with this id.
pub(crate) fn waiting_body_subject(job: &str) -> String {
    format!("body.{job}")
}

/// A lane's stream with its one consumer, of what is under the subject `jobs`.
async fn make(
    jetstream: &jetstream::Context,
    config: Config,
    jobs: &str,
    settings: &Settings,
) -> Result<(), SetupError> {
    let name = config.name.clone();
    // A consumer of everything costs less where there is nothing else.
    let has_schedules = config.allow_message_schedules;
    make_stream(jetstream, config).await?;
    let consumer = pull::Config {
        durable_name: Some(WORKERS.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: settings.ack_wait,
        // Anything but -1 strands messages for ever once it is reached.
        max_deliver: -1,
        max_ack_pending: MAX_ACK_PENDING,
        // Several servers remember together what one alone has to write down (ADR 32).
        memory_storage: settings.replicas > 1,
        filter_subject: if has_schedules {
            jobs.to_owned()
        } else {
            String::new()
        },
        ..pull::Config::default()
    };
    let asset = |problem| SetupError::Asset {
        what: format!("consumer {WORKERS} of {name}"),
        problem,
    };
    let made = make_consumer(jetstream, consumer, &name).await;
    made.map_err(|error| asset(error.to_string()))?;
    let removed = remove_settled(jetstream, &name, jobs).await;
    removed.map_err(|error| asset(error.to_string()))?;
    Ok(())
}

/// Makes a consumer of `stream`, or changes the one there is. What keeps its state on disk goes on doing so.
async fn make_consumer(
    jetstream: &jetstream::Context,
    mut config: pull::Config,
    stream: &str,
) -> Result<(), ConsumerError> {
    let made: Result<PullConsumer, _> = jetstream
        .create_consumer_on_stream(config.clone(), stream)
        .await;
    let Err(refused) = made else { return Ok(()) };
    if !config.memory_storage || !is_on_disk(jetstream, stream).await {
        return Err(refused);
    }
    tracing::info!(
        stream,
        "consumer keeps its state on disk, as it was made (ADR 32)"
    );
    config.memory_storage = false;
    let made: Result<PullConsumer, _> = jetstream.create_consumer_on_stream(config, stream).await;
    made.map(drop)
}

/// Whether there is a consumer that keeps its state on disk.
async fn is_on_disk(jetstream: &jetstream::Context, stream: &str) -> bool {
    let Ok(stream) = jetstream.get_stream_no_info(stream).await else {
        return false;
    };
    let info = stream.consumer_info(WORKERS).await;
    info.is_ok_and(|info| !info.config.memory_storage)
}

/// Removes the copies of jobs that were acknowledged, of those under the subject `jobs`. There are none, unless the server
/// crashed, or failed to write, its disk being full: then it keeps them, gives them to nobody, and counts them towards
/// `max_bytes`.
async fn remove_settled(
    jetstream: &jetstream::Context,
    name: &str,
    jobs: &str,
) -> Result<(), async_nats::Error> {
    let stream = jetstream.get_stream(name).await?;
    let state = &stream.cached_info().state;
    if state.messages == 0 {
        return Ok(());
    }
    // What creating it answers is as old as the server's start.
    let consumer = stream.consumer_info(WORKERS).await?;
    let settled = consumer.ack_floor.stream_sequence;
    // A removal may lose what is in hand (ADR 24): where something is, whoever has it removes the copies.
    if state.first_sequence <= settled && consumer.num_ack_pending == 0 {
        let purged = stream.purge().filter(jobs).sequence(settled + 1).await?;
        if purged.purged > 0 {
            tracing::info!(
                stream = name,
                copies = purged.purged,
                "removed copies of settled jobs"
            );
        }
    }
    Ok(())
}

async fn make_stream(jetstream: &jetstream::Context, config: Config) -> Result<(), SetupError> {
    let what = format!("stream {}", config.name);
    match jetstream.get_stream(&config.name).await {
        Ok(existing) => check_replicas(
            &what,
            existing.cached_info().config.num_replicas,
            config.num_replicas,
        )?,
        Err(error) if is_missing(&error) => {}
        // Without knowing its copies they could be made fewer.
        Err(error) => {
            let problem = error.to_string();
            return Err(SetupError::Asset { what, problem });
        }
    }
    let made = jetstream.create_or_update_stream(config).await;
    made.map(drop).map_err(|error| SetupError::Asset {
        what,
        problem: error.to_string(),
    })
}

fn is_missing(error: &GetStreamError) -> bool {
    matches!(
        error.kind(),
        GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND
    )
}

/// A process with a default configuration must not thin out a cluster's copies.
fn check_replicas(what: &str, existing: usize, wanted: usize) -> Result<(), SetupError> {
    if wanted >= existing {
        return Ok(());
    }
    Err(SetupError::FewerReplicas {
        what: what.to_owned(),
        existing,
        wanted,
    })
}

/// Refuses where a lane that no configuration names any more still holds mail: nobody would ever pull it.
async fn check_orphans(
    jetstream: &jetstream::Context,
    lanes: &LaneMap,
    settings: &Settings,
) -> Result<(), SetupError> {
    let known: HashSet<String> = lanes.lanes().flat_map(lane_streams).collect();
    let prefixes = ["T", "B", "DT", "DB"].map(|kind| format!("{kind}-{}-", settings.egress_group));
    let mut streams = jetstream.streams();
    while let Some(stream) = streams.next().await {
        let asset = |problem| SetupError::Asset {
            what: "the list of streams".to_owned(),
            problem,
        };
        let stream = stream.map_err(|error| asset(error.to_string()))?;
        let (name, messages) = (stream.config.name, stream.state.messages);
        let is_lane = prefixes.iter().any(|prefix| name.starts_with(prefix));
        if is_lane && messages > 0 && !known.contains(&name) {
            return Err(SetupError::OrphanedLane {
                stream: name,
                messages,
            });
        }
    }
    Ok(())
}

fn lane_streams(lane: &Lane) -> Vec<String> {
    let names = |class| {
        lane.stages()
            .iter()
            .map(move |stage| lane.stream(class, *stage))
    };
    Class::ALL.into_iter().flat_map(names).collect()
}

async fn make_tombstones(
    jetstream: &jetstream::Context,
    settings: &Settings,
) -> Result<(), SetupError> {
    let config = kv::Config {
        bucket: CANCELLED.to_owned(),
        history: 1,
        max_age: settings.body_age + BODY_GRACE,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        ..kv::Config::default()
    };
    let made = jetstream.create_or_update_key_value(config).await;
    made.map(drop).map_err(|error| SetupError::Asset {
        what: format!("bucket {CANCELLED}"),
        problem: error.to_string(),
    })
}

/// An object store has no call that updates it, but the stream behind it has.
async fn make_bodies(
    jetstream: &jetstream::Context,
    settings: &Settings,
) -> Result<(), SetupError> {
    let max_age = settings.body_age + BODY_GRACE;
    let config = object_store::Config {
        bucket: BODIES.to_owned(),
        // The broker itself collects what no job can need any more.
        max_age,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        ..object_store::Config::default()
    };
    let asset = |problem: String| SetupError::Asset {
        what: format!("bucket {BODIES}"),
        problem,
    };
    let Err(refused) = jetstream.create_object_store(config).await else {
        return Ok(());
    };
    let Ok(existing) = jetstream.get_stream(format!("OBJ_{BODIES}")).await else {
        return Err(asset(refused.to_string()));
    };
    let mut config = existing.cached_info().config.clone();
    check_replicas(
        &format!("bucket {BODIES}"),
        config.num_replicas,
        settings.replicas,
    )?;
    // Another process may know of longer stays.
    config.max_age = config.max_age.max(max_age);
    config.num_replicas = settings.replicas;
    jetstream
        .update_stream(config)
        .await
        .map(drop)
        .map_err(|error| asset(error.to_string()))
}

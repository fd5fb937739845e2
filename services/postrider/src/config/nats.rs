//! The section `[nats]`.

use std::time::Duration;

use model::{ByteSize, EgressGroup, parse_duration};
use queue::{Settings, SyncPolicy};
use runtime::{ConfigError, Faults};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::own_lanes::{self, RawOwnLanes};

/// The section as it is written.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawNats {
    /// The servers, as nats://host:port; any one that answers is enough.
    pub servers: Vec<String>,
    /// The file with NATS credentials, where the servers ask for them.
    pub credentials_file: String,
    /// The servers' monitoring endpoints, as http://host:port. Together they must reach every server; a name with
    /// several addresses stands for all of them.
    pub monitors: Vec<String>,
    /// "require-always": refuse to run unless every server has `sync_interval: always`, so that accepted mail
    /// survives a power cut. "allow-lazy": do not check; for development only.
    pub sync: String,
    /// Says that every nats-server's disk writes data before the names of files that come later: ext4 mounted with
    /// `nodelalloc` or `data=journal`. Servers of version 2.15.0 and 2.15.1 with copies need such disks to come back after
    /// all of them lost their power at once, and nothing runs on them without.
    pub ordered_disks: bool,
    /// Copies of every stream: 1 on a single server, 3 in a cluster.
    pub replicas: usize,
    /// Streams that the recipients' domains are spread over: 4 suit a single server and a small cluster, 8 three servers
    /// with many cores. The same in every process.
    pub lanes: u32,
    /// Providers that have lanes of their own, beside those over which all other domains are spread. For the few with much of
    /// the mail: every lane has four streams, and every stream its part of `delivery.window`. The same in every process.
    pub own_lanes: Vec<RawOwnLanes>,
    /// The most that messages ready to be sent may occupy; ingest refuses more.
    pub ready_bytes: String,
    /// The most that events may occupy; the oldest go first.
    pub event_bytes: String,
    /// How long events are kept.
    pub event_age: String,
    /// How long a worker may be silent before its jobs are given to another one.
    pub ack_wait: String,
}

impl Default for RawNats {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".into()],
            credentials_file: String::new(),
            monitors: vec!["http://127.0.0.1:8222".into()],
            sync: "require-always".into(),
            ordered_disks: false,
            replicas: 1,
            lanes: 4,
            own_lanes: Vec::new(),
            ready_bytes: "8GiB".into(),
            event_bytes: "2GiB".into(),
            event_age: "3d".into(),
            ack_wait: "30s".into(),
        }
    }
}

/// The queue's settings, but for what other sections know.
#[derive(Debug, Clone)]
pub struct Nats(Settings);

impl Nats {
    /// Whether servers may acknowledge what is not on disk.
    pub fn is_lazy(&self) -> bool {
        self.0.sync == SyncPolicy::AllowLazy
    }

    /// Changes what ready jobs and events may occupy.
    pub fn fit(&mut self, fit: impl FnOnce(ByteSize, ByteSize) -> (ByteSize, ByteSize)) {
        (self.0.ready_bytes, self.0.event_bytes) = fit(self.0.ready_bytes, self.0.event_bytes);
    }

    /// Uses one server, wherever the file pointed.
    pub fn point_at(&mut self, server: &str, monitor: &str) {
        self.0.servers = vec![server.to_owned()];
        self.0.monitors = vec![monitor.to_owned()];
    }

    /// The settings for a process whose messages live at most `max_lifetime`.
    pub fn settings(&self, max_lifetime: Duration) -> Settings {
        Settings {
            body_age: max_lifetime,
            ..self.0.clone()
        }
    }
}

impl TryFrom<RawNats> for Nats {
    type Error = ConfigError;

    fn try_from(raw: RawNats) -> Result<Self, ConfigError> {
        let mut faults = Faults::new("nats");
        let ready_bytes = faults.parse("ready_bytes", &raw.ready_bytes);
        let event_bytes = faults.parse("event_bytes", &raw.event_bytes);
        let event_age = faults.check("event_age", parse_duration(&raw.event_age));
        let ack_wait = faults.check("ack_wait", parse_duration(&raw.ack_wait));
        if raw.servers.is_empty() {
            faults.add(
                "servers",
                "is empty; list at least one server as nats://host:port",
            );
        }
        if ack_wait.is_some_and(|wait| wait < Duration::from_secs(3)) {
            faults.add(
                "ack_wait",
                "must be at least 3s, or a busy worker loses its jobs to another",
            );
        }
        if !matches!(raw.replicas, 1 | 3 | 5) {
            faults.add("replicas", "must be 1, 3 or 5");
        }
        if !(1..=64).contains(&raw.lanes) {
            faults.add("lanes", "must be from 1 to 64");
        }
        let own_lanes = own_lanes::check(&mut faults, &raw.own_lanes);
        let sync = match raw.sync.as_str() {
            "require-always" if raw.monitors.is_empty() => {
                faults.add(
                    "monitors",
                    "is empty, and nats.sync is \"require-always\"; list the endpoints to ask",
                );
                None
            }
            "require-always" => Some(SyncPolicy::RequireAlways),
            "allow-lazy" => Some(SyncPolicy::AllowLazy),
            other => {
                faults.add(
                    "sync",
                    format!("{other:?} is neither \"require-always\" nor \"allow-lazy\""),
                );
                None
            }
        };
        let settings = || {
            Some(Settings {
                servers: raw.servers,
                credentials_file: Some(raw.credentials_file)
                    .filter(|file| !file.is_empty())
                    .map(Into::into),
                monitors: raw.monitors,
                sync: sync?,
                ordered_disks: raw.ordered_disks,
                replicas: raw.replicas,
                hashed_lanes: raw.lanes,
                own_lanes,
                egress_group: EgressGroup::default(),
                ready_bytes: ready_bytes?,
                event_bytes: event_bytes?,
                event_age: event_age?,
                body_age: Duration::ZERO,
                ack_wait: ack_wait?,
            })
        };
        faults.finish(settings().map(Self))
    }
}

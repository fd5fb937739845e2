//! What the queue has to be told.

use std::time::Duration;

use model::{ByteSize, EgressGroup};

use crate::OwnLanes;

/// Whether accepted mail must be on disk before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Every server must run with `sync_interval: always` (ADR 2).
    RequireAlways,
    /// Servers may sync when they like, and lose acknowledged mail in a power cut. For development.
    AllowLazy,
}

/// Where the queue is and how it is laid out.
#[derive(Debug, Clone)]
pub struct Settings {
    /// NATS servers, `nats://host:port`; any one that answers is enough.
    pub servers: Vec<String>,
    /// The file with NATS credentials (JWT and nkey seed), where the servers ask for them.
    pub credentials_file: Option<std::path::PathBuf>,
    /// Monitoring endpoints, `http://host:port`, that together reach every server of the cluster: a name with
    /// several addresses stands for all of them.
    pub monitors: Vec<String>,
    /// Whether the servers' sync setting is enforced.
    pub sync: SyncPolicy,
    /// Whether every server's disk keeps the order in which data and names are written (ADR 28).
    pub ordered_disks: bool,
    /// Copies of every stream: 1 on a single node, 3 in a cluster.
    pub replicas: usize,
    /// Over how many lanes the domains are hashed.
    pub hashed_lanes: u32,
    /// Providers whose domains are not hashed, because they have lanes of their own.
    pub own_lanes: Vec<OwnLanes>,
    /// The egress group whose lanes this process uses.
    pub egress_group: EgressGroup,
    /// The most that ready jobs may occupy, over all lanes and both classes.
    pub ready_bytes: ByteSize,
    /// The most that events may occupy.
    pub event_bytes: ByteSize,
    /// How long events are kept.
    pub event_age: Duration,
    /// How long the body of a job may be needed: the longest lifetime of a message.
    pub body_age: Duration,
    /// How long a pulled job may go without a sign of life from its worker.
    pub ack_wait: Duration,
}

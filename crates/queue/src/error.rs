//! What can go wrong with the queue, and what callers ask about it.

use async_nats::jetstream;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use model::ByteSize;

/// Why the queue could not take, give or settle something.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// A stream is at its `max_bytes`.
    #[error("stream is full")]
    Full(#[source] PublishError),
    /// The servers store as much as they may.
    #[error("nats-server's file storage is full")]
    StorageFull(#[source] PublishError),
    /// The message is larger than the servers' `max_payload`.
    #[error("message is larger than the servers take")]
    TooLarge(#[source] PublishError),
    /// No acknowledgement came in time; the message may be stored or not.
    #[error("no acknowledgement in time")]
    Unacknowledged(#[source] PublishError),
    /// A schedule was answered as a duplicate: nothing was stored.
    #[error("schedule was answered as a duplicate and not stored")]
    ScheduleNotStored,
    /// It may be scheduled or not, together with others.
    #[error("not known whether it was stored")]
    NotKnown,
    /// Something else was stored under the same subject meanwhile.
    #[error("superseded by a later message")]
    Superseded,
    /// The servers refused, or an internal channel is gone.
    #[error("{0}")]
    Refused(String),
}

impl QueueError {
    /// Whether the same request may succeed when it is repeated at once.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unacknowledged(_) | Self::NotKnown => true,
            Self::Full(_)
            | Self::StorageFull(_)
            | Self::TooLarge(_)
            | Self::ScheduleNotStored
            | Self::Superseded
            | Self::Refused(_) => false,
        }
    }

    /// What it says of a job that is to wait. Such jobs are stored together, and in part where storage fills up in the middle
    /// (ADR 19): one that was refused for want of room may stand all the same.
    #[must_use]
    pub fn of_waiting(self) -> Self {
        match self {
            Self::Full(_) | Self::StorageFull(_) => Self::NotKnown,
            other => other,
        }
    }

    pub(crate) fn refused(error: impl std::fmt::Display) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<PublishError> for QueueError {
    fn from(error: PublishError) -> Self {
        match error.kind() {
            PublishErrorKind::TimedOut
            | PublishErrorKind::BrokenPipe
            | PublishErrorKind::StreamNotFound
            | PublishErrorKind::MaxAckPending => Self::Unacknowledged(error),
            PublishErrorKind::MaxPayloadExceeded => Self::TooLarge(error),
            PublishErrorKind::WrongLastSequence => Self::Superseded,
            PublishErrorKind::WrongLastMessageId => Self::refused(error),
            PublishErrorKind::Other => match server_code(&error) {
                Some(ErrorCode::STREAM_STORE_FAILED) => Self::Full(error),
                Some(
                    ErrorCode::STORAGE_RESOURCES_EXCEEDED
                    | ErrorCode::INSUFFICIENT_RESOURCES
                    | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
                ) => Self::StorageFull(error),
                Some(_) => Self::Unacknowledged(error),
                None => Self::Unacknowledged(error),
            },
        }
    }
}

/// The JetStream error code inside a publish error.
fn server_code(error: &PublishError) -> Option<ErrorCode> {
    let source = std::error::Error::source(error)?;
    source
        .downcast_ref::<jetstream::Error>()
        .map(jetstream::Error::error_code)
}

/// Why the queue cannot be used yet.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No server could be reached, or it refused the credentials.
    #[error("connect to NATS at {servers}: {problem}")]
    Connect {
        /// The servers tried.
        servers: String,
        /// What went wrong.
        problem: String,
    },
    /// A stream, consumer or bucket could not be made or changed.
    #[error("set up {what}: {problem}")]
    Asset {
        /// Which one.
        what: String,
        /// What went wrong.
        problem: String,
    },
    /// A monitoring endpoint did not answer as a nats-server does.
    #[error("ask {monitor} how it syncs: {problem}")]
    Monitor {
        /// Which endpoint.
        monitor: String,
        /// What went wrong.
        problem: String,
    },
    /// A server cannot write, and says nothing else: its disk is full or broken, and what waits for it holds up the rest.
    #[error(
        "nats-server at {monitor} cannot write, and does not say how it syncs: {problem}; make room on its disk and restart it"
    )]
    CannotWrite {
        /// Which endpoint.
        monitor: String,
        /// What the server says of its health.
        problem: String,
    },
    /// A server acknowledges before its disk has the message.
    #[error(
        "nats-server at {monitor} does not sync before it acknowledges: set `sync_interval: always` in its jetstream \
         block, or, for development only, nats.sync = \"allow-lazy\""
    )]
    LazySync {
        /// Which endpoint.
        monitor: String,
    },
    /// A server of a version that does not come back to what it acknowledged, where streams have copies and its disk
    /// may write names before data (ADR 28).
    #[error(
        "nats-server at {monitor} is of version {version}, and nats.replicas is more than 1: when all servers lose their \
         power at once, such servers do not come back to mail that was accepted, unless their disks keep the order in which \
         they are written. Mount each server's store_dir as ext4 with the option nodelalloc and set \
         nats.ordered_disks = true; or run version 2.14.6, which is slower; or, for development only, set \
         nats.sync = \"allow-lazy\""
    )]
    UnorderedDisks {
        /// Which endpoint.
        monitor: String,
        /// What the server says of itself.
        version: String,
    },
    /// A stream that this configuration does not know still holds mail.
    #[error(
        "stream {stream} holds {messages} messages, and nats.lanes and nats.own_lanes no longer include it: set the former lanes \
         until they are sent"
    )]
    OrphanedLane {
        /// Which stream.
        stream: String,
        /// How many.
        messages: u64,
    },
    /// This configuration would keep fewer copies than there are.
    #[error(
        "{what} has {existing} copies, and nats.replicas is {wanted}: set nats.replicas to {existing} in every process"
    )]
    FewerReplicas {
        /// Which stream.
        what: String,
        /// How many copies there are.
        existing: usize,
        /// How many this configuration asks for.
        wanted: usize,
    },
    /// The streams' limits do not fit into a server's storage.
    #[error(
        "nats.ready_bytes ({ready}) and nats.event_bytes ({events}) are together more than half of the smallest \
         nats-server's file storage, which is {half}: lower them, or raise max_file_store in every server's jetstream \
         block, where its disk is larger"
    )]
    OverBudget {
        /// The most that ready jobs may occupy.
        ready: ByteSize,
        /// The most that events may occupy.
        events: ByteSize,
        /// Half of what the smallest server may store.
        half: ByteSize,
    },
    /// Fewer servers were asked than the cluster has.
    #[error(
        "nats.monitors reaches {asked} of the cluster's {size} servers; list every server's monitoring endpoint"
    )]
    ServersNotAsked {
        /// How many different servers answered.
        asked: usize,
        /// How many the cluster says it has.
        size: usize,
    },
}

impl SetupError {
    /// Whether a server would lose what it acknowledges: nothing may be accepted then.
    pub fn is_not_durable(&self) -> bool {
        matches!(self, Self::LazySync { .. } | Self::UnorderedDisks { .. })
    }
}

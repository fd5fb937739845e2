//! Timelines: what happened to a job, in order, and which jobs a message became.
//!
//! A job is a hash: one field names its message, every other field is an event by its id, so that a repeated event
//! falls on itself. A message is a sorted set of its jobs. [`write`] and [`read`] hold the two directions.
//!
//! Invariant: a job keeps its first and last [`KEPT_AT_EACH_END`] events, a message lists its first
//! [`JOBS_OF_A_MESSAGE`] jobs; both are gone one retention after they were last written.

mod encoding;
mod read;
mod write;

use bytes::Bytes;
use model::{JobId, MessageId, Tenant, Timestamp};

/// How many events of a job are kept from its beginning, and how many from its end.
const KEPT_AT_EACH_END: usize = 32;
/// How many jobs of a message can be listed.
const JOBS_OF_A_MESSAGE: isize = 1000;

/// One event, and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineEntry {
    /// Whose it is.
    pub tenant: Tenant,
    /// The message the job was made of.
    pub message: MessageId,
    /// The job it happened to.
    pub job: JobId,
    /// The attempt it belongs to.
    pub attempt: u32,
    /// The same however often the event is written.
    pub event_id: String,
    /// When it happened: the order of the timeline.
    pub at: Timestamp,
    /// The event, encoded by the caller.
    pub event: Bytes,
}

/// What is remembered of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// The message the job was made of.
    pub message: MessageId,
    /// Its events as they were written, the earliest first.
    pub events: Vec<Bytes>,
}

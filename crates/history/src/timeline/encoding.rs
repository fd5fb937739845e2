//! How an event lies in the hash of its job: field and value.

use bytes::{BufMut as _, Bytes, BytesMut};
use model::{JobId, MessageId};

use super::{Timeline, TimelineEntry};
use crate::HistoryError;

/// The field that names the message. Events' fields begin with `:` or `=`.
pub(super) const MESSAGE: &str = "m";

/// An event's field: its id without the job's, which the key has already.
pub(super) fn field(entry: &TimelineEntry, job: &str) -> String {
    match entry.event_id.strip_prefix(job) {
        Some(rest) if rest.starts_with(':') => rest.to_owned(),
        Some(_) | None => format!("={}", entry.event_id),
    }
}

/// An event's value: when it happened, in microseconds as 8 bytes, and the event.
pub(super) fn value(entry: &TimelineEntry) -> Bytes {
    let mut value = BytesMut::with_capacity(8 + entry.event.len());
    value.put_i64(entry.at.as_microsecond());
    value.put_slice(&entry.event);
    value.freeze()
}

/// An event as it was read: its place in the order, its field, and itself.
pub(super) struct Stored {
    order: i64,
    pub(super) field: Bytes,
    event: Bytes,
}

/// What a job's hash holds: its message and its events in order. None where there is no such hash.
pub(super) fn decode(
    fields: Vec<(Bytes, Bytes)>,
) -> Result<Option<(MessageId, Vec<Stored>)>, HistoryError> {
    if fields.is_empty() {
        return Ok(None);
    }
    let mut message = None;
    let mut events = Vec::with_capacity(fields.len());
    for (field, value) in fields {
        match field.as_ref() == MESSAGE.as_bytes() {
            true => message = Some(message_id(&value)?),
            false => events.push(stored(field, value)?),
        }
    }
    events.sort_by(|a, b| (a.order, &a.field).cmp(&(b.order, &b.field)));
    let message = message.ok_or(HistoryError::Unreadable("a job without its message"))?;
    Ok(Some((message, events)))
}

/// The same as callers see it.
pub(super) fn timeline(fields: Vec<(Bytes, Bytes)>) -> Result<Option<Timeline>, HistoryError> {
    let decoded = decode(fields)?;
    Ok(decoded.map(|(message, events)| Timeline {
        message,
        events: events.into_iter().map(|stored| stored.event).collect(),
    }))
}

/// A member of a message's sorted set.
pub(super) fn job_id(member: &str) -> Result<JobId, HistoryError> {
    member
        .parse()
        .map_err(|_| HistoryError::Unreadable("a message's job is not an id"))
}

fn message_id(value: &[u8]) -> Result<MessageId, HistoryError> {
    let bytes = value
        .try_into()
        .map_err(|_| HistoryError::Unreadable("a job's message is not an id"))?;
    Ok(MessageId::from_bytes(bytes))
}

fn stored(field: Bytes, value: Bytes) -> Result<Stored, HistoryError> {
    let (order, _) = value
        .split_first_chunk()
        .ok_or(HistoryError::Unreadable("an event without its time"))?;
    Ok(Stored {
        order: i64::from_be_bytes(*order),
        field,
        event: value.slice(8..),
    })
}

//! Events as the EVENTS stream and the API have them.

use bytes::Bytes;
use model::{Event, EventKind, Hop, JobId, Labels, MessageId, Provider};
use prost::Message as _;

use crate::convert::{
    bounce_class_from_wire, bounce_class_to_wire, class_from_wire, class_to_wire, reply_from_wire,
    reply_to_wire, timestamp_from_wire, timestamp_to_wire,
};
use crate::{DecodeError, v1};

/// The bytes of one event.
pub fn encode_event(event: &Event) -> Vec<u8> {
    event_to_wire(event).encode_to_vec()
}

/// The event these bytes hold.
pub fn decode_event(bytes: &[u8]) -> Result<Event, DecodeError> {
    event_from_wire(v1::Event::decode(bytes)?)
}

/// One message of the EVENTS stream out of already encoded events: no event is encoded twice.
pub fn encode_batch(events: &[Vec<u8>]) -> Vec<u8> {
    use prost::encoding::{WireType, encode_key, encode_varint};

    const EVENTS_FIELD: u32 = 1;
    let mut batch = Vec::new();
    for event in events {
        encode_key(EVENTS_FIELD, WireType::LengthDelimited, &mut batch);
        encode_varint(event.len() as u64, &mut batch);
        batch.extend_from_slice(event);
    }
    batch
}

/// The events of one message of the EVENTS stream.
pub fn decode_batch(bytes: Bytes) -> Result<Vec<v1::Event>, DecodeError> {
    Ok(v1::EventBatch::decode(bytes)?.events)
}

/// The kind a wire number stands for; `None` is unspecified or a number we do not know.
pub fn kind_from_wire(number: i32) -> Option<EventKind> {
    match v1::EventKind::try_from(number).ok()? {
        v1::EventKind::Unspecified => None,
        v1::EventKind::Accepted => Some(EventKind::Accepted),
        v1::EventKind::Deferred => Some(EventKind::Deferred),
        v1::EventKind::Delivered => Some(EventKind::Delivered),
        v1::EventKind::Bounced => Some(EventKind::Bounced),
        v1::EventKind::Expired => Some(EventKind::Expired),
        v1::EventKind::Quarantined => Some(EventKind::Quarantined),
        v1::EventKind::Cancelled => Some(EventKind::Cancelled),
    }
}

fn kind_to_wire(kind: EventKind) -> v1::EventKind {
    match kind {
        EventKind::Accepted => v1::EventKind::Accepted,
        EventKind::Deferred => v1::EventKind::Deferred,
        EventKind::Delivered => v1::EventKind::Delivered,
        EventKind::Bounced => v1::EventKind::Bounced,
        EventKind::Expired => v1::EventKind::Expired,
        EventKind::Quarantined => v1::EventKind::Quarantined,
        EventKind::Cancelled => v1::EventKind::Cancelled,
    }
}

/// The wire's form of an event.
pub fn event_to_wire(event: &Event) -> v1::Event {
    v1::Event {
        id: event.id(),
        kind: kind_to_wire(event.kind).into(),
        occurred_at: Some(timestamp_to_wire(event.occurred_at)),
        tenant: event.tenant.to_string(),
        class: class_to_wire(event.class).into(),
        message_id: event.message_id.to_string(),
        job_id: event.job_id.to_string(),
        recipient: event.recipient.to_string(),
        attempt: event.attempt,
        tags: event.labels.tags.clone().into_iter().collect(),
        campaign: event.labels.campaign.clone(),
        list: event.labels.list.clone(),
        accepted_at: Some(timestamp_to_wire(event.accepted_at)),
        next_attempt_at: event.next_attempt_at.map(timestamp_to_wire),
        reply: event.reply.as_ref().map(reply_to_wire),
        bounce_class: event
            .bounce_class
            .map_or(v1::BounceClass::Unspecified, bounce_class_to_wire)
            .into(),
        detail: event.detail.clone(),
        hop: event.hop.as_ref().map(hop_to_wire),
    }
}

/// The event in the wire's form.
pub fn event_from_wire(wire: v1::Event) -> Result<Event, DecodeError> {
    use DecodeError::Field;

    let time = |time: &Option<prost_types::Timestamp>| time.as_ref().and_then(timestamp_from_wire);
    let message_id: MessageId = wire.message_id.parse().map_err(|_| Field("message_id"))?;
    let job_id: JobId = wire.job_id.parse().map_err(|_| Field("job_id"))?;
    Ok(Event {
        kind: kind_from_wire(wire.kind).ok_or(Field("kind"))?,
        occurred_at: time(&wire.occurred_at).ok_or(Field("occurred_at"))?,
        tenant: wire.tenant.parse().map_err(|_| Field("tenant"))?,
        class: class_from_wire(wire.class).ok_or(Field("class"))?,
        message_id,
        job_id,
        recipient: wire.recipient.parse().map_err(|_| Field("recipient"))?,
        attempt: wire.attempt,
        labels: Labels {
            tags: wire.tags.into_iter().collect(),
            campaign: wire.campaign,
            list: wire.list,
        },
        accepted_at: time(&wire.accepted_at).ok_or(Field("accepted_at"))?,
        next_attempt_at: time(&wire.next_attempt_at),
        reply: wire.reply.as_ref().and_then(reply_from_wire),
        bounce_class: bounce_class_from_wire(wire.bounce_class),
        detail: wire.detail,
        hop: wire.hop.map(hop_from_wire).transpose()?,
    })
}

fn hop_to_wire(hop: &Hop) -> v1::Hop {
    v1::Hop {
        provider: hop.provider.to_string(),
        mx_host: hop.mx_host.clone(),
        address: hop.address.clone(),
        source: hop.source.to_string(),
        tls: hop.tls.clone(),
        tls_verification: hop.tls_verification.clone(),
    }
}

fn hop_from_wire(hop: v1::Hop) -> Result<Hop, DecodeError> {
    Ok(Hop {
        provider: Provider::new(&hop.provider),
        mx_host: hop.mx_host,
        address: hop.address,
        source: hop
            .source
            .parse()
            .map_err(|_| DecodeError::Field("hop.source"))?,
        tls: hop.tls,
        tls_verification: hop.tls_verification,
    })
}

#[cfg(test)]
mod tests {
    use model::{BounceClass, Class, EnhancedCode, Reply, Timestamp};

    use super::*;

    fn event() -> Event {
        let time = Timestamp::new(1_700_000_000, 123_456_789).unwrap();
        Event {
            kind: EventKind::Deferred,
            occurred_at: time,
            tenant: "acme".parse().unwrap(),
            class: Class::Transactional,
            message_id: MessageId::fresh(),
            job_id: JobId::fresh(),
            recipient: "ann@example.com".parse().unwrap(),
            attempt: 2,
            labels: Labels::default(),
            accepted_at: time,
            next_attempt_at: Some(time),
            reply: Some(Reply::new(451, Some(EnhancedCode(4, 7, 1)), "greylisted")),
            bounce_class: Some(BounceClass::Greylisted),
            detail: "x".into(),
            hop: Some(Hop {
                provider: Provider::new("google"),
                mx_host: "mx.example.net".into(),
                address: "192.0.2.1:25".into(),
                source: "default".parse().unwrap(),
                tls: "TLSv1.3".into(),
                tls_verification: String::new(),
            }),
        }
    }

    #[test]
    fn an_event_survives_the_stream_with_every_field() {
        let event = event();
        assert_eq!(decode_event(&encode_event(&event)).unwrap(), event);
    }

    #[test]
    fn a_batch_of_encoded_events_reads_as_the_schema_says() {
        let encoded = [encode_event(&event()), encode_event(&event())];
        let batch = encode_batch(&encoded);
        let decoded = decode_batch(batch.into()).unwrap();
        assert_eq!(
            decoded
                .iter()
                .map(|e| e.encode_to_vec())
                .collect::<Vec<_>>(),
            encoded
        );
    }
}

//! Jobs as the queue stores them.

use bytes::Bytes;
use model::{Body, Dsn, Job, JobId, Labels, MessageId, Packing, Route};
use prost::Message as _;

use crate::convert::{class_from_wire, class_to_wire, timestamp_from_wire, timestamp_to_wire};
use crate::v1;

/// The newest version of the job's schema this build writes and reads.
pub const JOB_VERSION: u32 = 2;
/// The version without packed bodies: what is not packed an older build can read.
const UNPACKED: u32 = 1;

/// Why bytes are not a job or an event that this build can act on.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not protobuf, or not of this schema.
    #[error("decode protobuf")]
    Protobuf(#[from] prost::DecodeError),
    /// Written by a newer build.
    #[error("schema version {0} is newer than this build reads ({JOB_VERSION})")]
    TooNew(u32),
    /// A field holds what the model does not allow.
    #[error("field {0} is missing or not valid")]
    Field(&'static str),
}

/// The bytes of a job for the queue.
pub fn encode_job(job: &Job) -> Vec<u8> {
    let body = match &job.body {
        Body::Inline(content) => v1::job::Body::Inline(content.clone()),
        Body::Blob(name) => v1::job::Body::Blob(v1::Blob { name: name.clone() }),
    };
    let kind = match &job.route {
        Route::Mx => v1::route::Kind::Mx(v1::MxRoute {}),
        Route::SmartHost(name) => v1::route::Kind::SmartHost(v1::SmartHost { name: name.clone() }),
    };
    let (version, packing) = match job.packing {
        Packing::Plain => (UNPACKED, v1::Packing::Unspecified),
        Packing::Lz4 => (JOB_VERSION, v1::Packing::Lz4),
    };
    let wire = v1::Job {
        version,
        id: Bytes::copy_from_slice(job.id.as_bytes()),
        message_id: Bytes::copy_from_slice(job.message_id.as_bytes()),
        tenant: job.tenant.to_string(),
        class: class_to_wire(job.class).into(),
        egress_group: job.egress_group.to_string(),
        destination: job.destination().to_string(),
        sender: job
            .sender
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        recipient: job.recipient.to_string(),
        recipient_key: job.recipient_key.clone(),
        attempt: job.attempt,
        accepted_at: Some(timestamp_to_wire(job.accepted_at)),
        send_at: job.send_at.map(timestamp_to_wire),
        expires_at: Some(timestamp_to_wire(job.expires_at)),
        tags: job.labels.tags.clone().into_iter().collect(),
        campaign: job.labels.campaign.clone(),
        list: job.labels.list.clone(),
        engagement: job.engagement,
        pool: job.pool.clone(),
        route: Some(v1::Route { kind: Some(kind) }),
        dsn: dsn_to_wire(&job.dsn),
        require_tls: job.require_tls,
        traceparent: job.traceparent.clone(),
        checksum: Bytes::copy_from_slice(&job.checksum),
        recipient_header: job.recipient_header.clone(),
        body: Some(body),
        body_size: job.body_size,
        data_key_id: String::new(),
        packing: packing.into(),
    };
    wire.encode_to_vec()
}

/// The job these bytes hold. An inline body is a slice of `bytes`, not a copy.
pub fn decode_job(bytes: Bytes) -> Result<Job, DecodeError> {
    use DecodeError::Field;

    let wire = v1::Job::decode(bytes)?;
    if wire.version > JOB_VERSION {
        return Err(DecodeError::TooNew(wire.version));
    }
    let time = |time: &Option<prost_types::Timestamp>| time.as_ref().and_then(timestamp_from_wire);
    let sender = match wire.sender.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| Field("sender"))?),
    };
    let packing = match v1::Packing::try_from(wire.packing) {
        Ok(v1::Packing::Unspecified) => Packing::Plain,
        Ok(v1::Packing::Lz4) => Packing::Lz4,
        Err(_) => return Err(Field("packing")),
    };
    let body = match wire.body.ok_or(Field("body"))? {
        v1::job::Body::Inline(content) => Body::Inline(content),
        v1::job::Body::Blob(blob) => Body::Blob(blob.name),
        v1::job::Body::Template(_) => return Err(Field("body.template")),
    };
    Ok(Job {
        id: JobId::from_bytes(exactly(&wire.id, "id")?),
        message_id: MessageId::from_bytes(exactly(&wire.message_id, "message_id")?),
        tenant: wire.tenant.parse().map_err(|_| Field("tenant"))?,
        class: class_from_wire(wire.class).ok_or(Field("class"))?,
        egress_group: wire
            .egress_group
            .parse()
            .map_err(|_| Field("egress_group"))?,
        sender,
        recipient: wire.recipient.parse().map_err(|_| Field("recipient"))?,
        recipient_key: wire.recipient_key,
        attempt: wire.attempt,
        accepted_at: time(&wire.accepted_at).ok_or(Field("accepted_at"))?,
        send_at: time(&wire.send_at),
        expires_at: time(&wire.expires_at).ok_or(Field("expires_at"))?,
        labels: Labels {
            tags: wire.tags.into_iter().collect(),
            campaign: wire.campaign,
            list: wire.list,
        },
        engagement: wire.engagement,
        pool: wire.pool,
        route: route_from_wire(wire.route),
        dsn: wire.dsn.map(dsn_from_wire).unwrap_or_default(),
        require_tls: wire.require_tls,
        traceparent: wire.traceparent,
        checksum: exactly(&wire.checksum, "checksum")?,
        recipient_header: wire.recipient_header,
        body,
        packing,
        body_size: wire.body_size,
    })
}

pub(crate) fn exactly<const N: usize>(
    bytes: &[u8],
    field: &'static str,
) -> Result<[u8; N], DecodeError> {
    bytes.try_into().map_err(|_| DecodeError::Field(field))
}

fn route_from_wire(route: Option<v1::Route>) -> Route {
    match route.and_then(|route| route.kind) {
        Some(v1::route::Kind::SmartHost(host)) => Route::SmartHost(host.name),
        Some(v1::route::Kind::Mx(_)) | None => Route::Mx,
    }
}

fn dsn_to_wire(dsn: &Dsn) -> Option<v1::Dsn> {
    if *dsn == Dsn::default() {
        return None;
    }
    let Dsn {
        notify,
        ret,
        envid,
        orcpt,
    } = dsn.clone();
    Some(v1::Dsn {
        notify,
        ret,
        envid,
        orcpt,
    })
}

fn dsn_from_wire(dsn: v1::Dsn) -> Dsn {
    let v1::Dsn {
        notify,
        ret,
        envid,
        orcpt,
    } = dsn;
    Dsn {
        notify,
        ret,
        envid,
        orcpt,
    }
}

#[cfg(test)]
mod tests {
    use model::{Class, EgressGroup, Timestamp};

    use super::*;

    fn job() -> Job {
        let body = Bytes::from_static(b"Subject: hi\r\n\r\nhello\r\n");
        Job {
            id: JobId::fresh(),
            message_id: MessageId::fresh(),
            tenant: "acme".parse().unwrap(),
            class: Class::Bulk,
            egress_group: EgressGroup::default(),
            sender: None,
            recipient: "ann@example.com".parse().unwrap(),
            recipient_key: Bytes::new(),
            attempt: 3,
            accepted_at: Timestamp::from_second(1_700_000_000).unwrap(),
            send_at: None,
            expires_at: Timestamp::from_second(1_700_100_000).unwrap(),
            labels: Labels {
                tags: [("a".into(), "b".into())].into(),
                ..Labels::default()
            },
            engagement: 5,
            pool: "warm".into(),
            route: Route::SmartHost("relay".into()),
            dsn: Dsn {
                ret: "HDRS".into(),
                ..Dsn::default()
            },
            require_tls: true,
            traceparent: String::new(),
            checksum: Job::checksum_of(b"", &body),
            recipient_header: Bytes::new(),
            body_size: body.len() as u64,
            body: Body::Inline(body),
            packing: Packing::Plain,
        }
    }

    #[test]
    fn a_job_survives_the_queue_with_every_field() {
        for packing in [Packing::Plain, Packing::Lz4] {
            let job = Job { packing, ..job() };
            assert_eq!(decode_job(encode_job(&job).into()).unwrap(), job);
        }
    }

    #[test]
    fn an_older_build_leaves_a_packed_job_alone() {
        let version = |packing| {
            let job = Job { packing, ..job() };
            v1::Job::decode(encode_job(&job).as_slice())
                .unwrap()
                .version
        };
        assert_eq!(version(Packing::Plain), UNPACKED);
        assert!(version(Packing::Lz4) > UNPACKED);
    }

    #[test]
    fn a_job_of_a_newer_schema_is_told_apart_from_garbage() {
        let newer = v1::Job {
            version: JOB_VERSION + 1,
            ..v1::Job::default()
        }
        .encode_to_vec();
        assert!(matches!(
            decode_job(newer.into()),
            Err(DecodeError::TooNew(_))
        ));
        assert!(matches!(
            decode_job(Bytes::from_static(b"\xff\xff")),
            Err(DecodeError::Protobuf(_))
        ));
    }

    #[test]
    fn a_job_that_names_a_command_for_a_recipient_is_no_job() {
        let mut wire = v1::Job::decode(encode_job(&job()).as_slice()).unwrap();
        wire.recipient = "ann@example.com>\r\nRSET".into();
        assert!(matches!(
            decode_job(wire.encode_to_vec().into()),
            Err(DecodeError::Field("recipient"))
        ));
    }
}

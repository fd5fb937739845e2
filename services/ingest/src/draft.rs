//! A checked request: everything a message's jobs have in common.

use std::collections::BTreeMap;
use std::time::Duration;

use api::v1::{SubmitRequest, submit_request::Content};
use bytes::Bytes;
use model::{
    Address, Body, Class, EgressGroup, Job, JobId, Labels, MessageId, Packing, Tenant, Timestamp,
};
use tonic::Status;

use crate::compose::{compose, to_field};
use crate::config::Config;
use crate::idempotency::Idempotency;
use crate::raw::canonicalise;
use crate::violations::Violations;

/// The most octets of a campaign's or list's name.
const LABEL_LIMIT: usize = 128;
const TAGS_LIMIT: usize = 16;
const TAG_NAME_LIMIT: usize = 64;
const TAG_VALUE_LIMIT: usize = 256;

/// A request in which nothing is wrong.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) id: MessageId,
    pub(crate) tenant: Tenant,
    pub(crate) idempotency: Option<Idempotency>,
    pub(crate) class: Class,
    pub(crate) sender: Address,
    pub(crate) recipients: Vec<Address>,
    pub(crate) labels: Labels,
    /// REQUIRETLS (RFC 8689).
    pub(crate) require_tls: bool,
    pub(crate) accepted_at: Timestamp,
    /// Not before; `None` is at once.
    pub(crate) send_at: Option<Timestamp>,
    pub(crate) expires_at: Timestamp,
    /// Canonical MIME.
    pub(crate) content: Bytes,
    /// Whether each copy is addressed to its recipient alone.
    pub(crate) individual_to: bool,
}

/// Where the content was put.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) body: Body,
    pub(crate) packing: Packing,
}

impl Draft {
    /// Checks `request`; the error names every field that is wrong.
    pub(crate) fn check(
        request: SubmitRequest,
        tenant: &Tenant,
        config: &Config,
        now: Timestamp,
    ) -> Result<Self, Status> {
        let mut violations = Violations::default();
        let idempotency = Idempotency::of(&request, &mut violations);
        let id = idempotency
            .as_ref()
            .map_or_else(MessageId::fresh, |key| key.message_id(tenant));
        let class = class(request.class, &mut violations);
        let recipients = recipients(&request.recipients, config.max_recipients, &mut violations);
        let labels = labels(
            request.tags,
            request.campaign,
            request.list,
            &mut violations,
        );
        let lifetime = lifetime(request.lifetime_seconds, config, &mut violations);
        let send_at = send_at(request.send_at, config, now, &mut violations);
        let content = content(request.content, id, now, config, &mut violations);
        let sender = match (request.sender.as_str(), &content) {
            ("", content) => content.as_ref().map(|content| content.from.clone()),
            (text, _) => address("sender", text, &mut violations),
        };
        let draft = || {
            let content = content?;
            Some(Self {
                id,
                tenant: tenant.clone(),
                idempotency,
                class: class?,
                sender: sender?,
                recipients,
                labels,
                require_tls: request.require_tls,
                accepted_at: now,
                send_at,
                expires_at: send_at.unwrap_or(now).checked_add(lifetime).ok()?,
                content: content.bytes.into(),
                individual_to: content.needs_to,
            })
        };
        violations.finish(draft())
    }

    /// The id of a recipient's job: the same on every call under an idempotency key, and fresh without one.
    pub(crate) fn job_id(&self, recipient: &Address) -> JobId {
        let derived = |key: &Idempotency| key.job_id(&self.tenant, recipient);
        self.idempotency.as_ref().map_or_else(JobId::fresh, derived)
    }

    /// The job for one of the recipients; `placed` is where the content was put.
    pub(crate) fn job(&self, recipient: &Address, placed: &Placed) -> Job {
        let to = self.individual_to.then(|| to_field(recipient));
        let recipient_header = Bytes::from(to.unwrap_or_default());
        Job {
            id: self.job_id(recipient),
            message_id: self.id,
            tenant: self.tenant.clone(),
            class: self.class,
            egress_group: EgressGroup::default(),
            sender: Some(self.sender.clone()),
            recipient: recipient.clone(),
            recipient_key: Bytes::new(),
            attempt: 0,
            accepted_at: self.accepted_at,
            send_at: self.send_at,
            expires_at: self.expires_at,
            labels: self.labels.clone(),
            engagement: 0,
            pool: String::new(),
            route: model::Route::Mx,
            dsn: model::Dsn::default(),
            require_tls: self.require_tls,
            traceparent: String::new(),
            checksum: Job::checksum_of(&recipient_header, &self.content),
            recipient_header,
            body: placed.body.clone(),
            packing: placed.packing,
            body_size: self.content.len() as u64,
        }
    }
}

fn class(number: i32, violations: &mut Violations) -> Option<Class> {
    let class = api::class_from_wire(number);
    if class.is_none() {
        violations.add(
            "class",
            format!("{number} is no class; use CLASS_TRANSACTIONAL (1) or CLASS_BULK (2)"),
        );
    }
    class
}

fn address(field: &str, text: &str, violations: &mut Violations) -> Option<Address> {
    violations.check(
        field,
        text.parse::<Address>()
            .map_err(|problem| format!("{} {problem}", quoted(text))),
    )
}

/// A text as it was given, and not more of it than helps.
fn quoted(text: &str) -> String {
    const SHOWN: usize = 64;
    let more = if text.chars().nth(SHOWN).is_some() {
        "..."
    } else {
        ""
    };
    format!("{:?}{more}", text.chars().take(SHOWN).collect::<String>())
}

fn recipients(texts: &[String], limit: usize, violations: &mut Violations) -> Vec<Address> {
    if texts.is_empty() {
        violations.add("recipients", "is empty; give at least one address");
    }
    if texts.len() > limit {
        violations.add(
            "recipients",
            format!(
                "has {} addresses, more than {limit}; split the call",
                texts.len()
            ),
        );
        return Vec::new();
    }
    let mut seen = std::collections::HashSet::new();
    let mut addresses = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let field = format!("recipients[{index}]");
        let Some(address) = address(&field, text, violations) else {
            continue;
        };
        if !seen.insert(address.clone()) {
            violations.add(
                field,
                format!("{address} is listed twice; list each recipient once"),
            );
        }
        addresses.push(address);
    }
    addresses
}

fn labels(
    tags: std::collections::HashMap<String, String>,
    campaign: String,
    list: String,
    violations: &mut Violations,
) -> Labels {
    if tags.len() > TAGS_LIMIT {
        violations.add(
            "tags",
            format!("has {} entries, more than {TAGS_LIMIT}", tags.len()),
        );
    }
    for (name, value) in &tags {
        let control = name.chars().chain(value.chars()).any(char::is_control);
        if control
            || name.is_empty()
            || name.len() > TAG_NAME_LIMIT
            || value.len() > TAG_VALUE_LIMIT
        {
            let limits = format!(
                "names have 1 to {TAG_NAME_LIMIT} octets and values at most {TAG_VALUE_LIMIT}, \
                 without control characters"
            );
            violations.add(format!("tags[{name:.64}]"), limits);
        }
    }
    for (field, value) in [("campaign", &campaign), ("list", &list)] {
        if value.len() > LABEL_LIMIT || value.chars().any(char::is_control) {
            violations.add(
                field,
                format!("must be at most {LABEL_LIMIT} octets without control characters"),
            );
        }
    }
    Labels {
        tags: BTreeMap::from_iter(tags),
        campaign,
        list,
    }
}

fn lifetime(seconds: u32, config: &Config, violations: &mut Violations) -> Duration {
    let asked = Duration::from_secs(seconds.into());
    if asked > config.max_lifetime {
        let limit = config.max_lifetime.as_secs();
        violations.add(
            "lifetime_seconds",
            format!("is {seconds}, more than this server's {limit}"),
        );
    }
    if asked.is_zero() {
        config.default_lifetime
    } else {
        asked
    }
}

/// When to send; `None` where that is now or past.
fn send_at(
    asked: Option<prost_types::Timestamp>,
    config: &Config,
    now: Timestamp,
    violations: &mut Violations,
) -> Option<Timestamp> {
    let asked = asked?;
    let Some(at) = api::timestamp_from_wire(&asked) else {
        violations.add("send_at", "is not a time");
        return None;
    };
    if now
        .checked_add(config.max_send_ahead)
        .is_ok_and(|latest| at > latest)
    {
        let limit = config.max_send_ahead.as_secs() / 86_400;
        violations.add(
            "send_at",
            format!("{at} is more than {limit} days ahead; send it later"),
        );
    }
    (at > now).then_some(at)
}

/// The message itself, from either form.
struct CheckedContent {
    bytes: Vec<u8>,
    from: Address,
    needs_to: bool,
}

fn content(
    content: Option<Content>,
    id: MessageId,
    now: Timestamp,
    config: &Config,
    violations: &mut Violations,
) -> Option<CheckedContent> {
    let (field, checked) = match content {
        None => {
            violations.add("content", "is missing; give either raw or parts");
            return None;
        }
        Some(Content::Raw(raw)) => {
            check_size("raw", raw.len(), config, violations)?;
            let canonical = violations.check("raw", canonicalise(&raw, id, now))?;
            (
                "raw",
                CheckedContent {
                    bytes: canonical.bytes,
                    from: canonical.from,
                    needs_to: false,
                },
            )
        }
        Some(Content::Parts(parts)) => {
            check_size(
                "parts",
                prost::Message::encoded_len(&parts),
                config,
                violations,
            )?;
            let composed = compose(&parts, id, now, violations)?;
            (
                "parts",
                CheckedContent {
                    bytes: composed.bytes,
                    from: composed.from,
                    needs_to: composed.needs_to,
                },
            )
        }
    };
    check_size(field, checked.bytes.len(), config, violations)?;
    Some(checked)
}

fn check_size(
    field: &str,
    size: usize,
    config: &Config,
    violations: &mut Violations,
) -> Option<()> {
    let limit = config.max_message_size;
    if size as u64 <= limit.0 {
        return Some(());
    }
    violations.add(
        field,
        format!(
            "the message has {size} octets, more than this server's {limit} (ingest.max_message_size); \
             send a link instead of the attachment, or raise the limit"
        ),
    );
    None
}

#[cfg(test)]
mod tests {
    use api::v1::MessageParts;

    use super::*;
    use crate::config::RawConfig;

    fn request() -> SubmitRequest {
        SubmitRequest {
            recipients: vec!["bob@example.org".into(), "eve@example.org".into()],
            content: Some(Content::Parts(MessageParts {
                from: "ann@example.com".into(),
                subject: "hi".into(),
                text: "hello".into(),
                ..MessageParts::default()
            })),
            ..SubmitRequest::default()
        }
    }

    fn check(request: SubmitRequest) -> Result<Draft, String> {
        let config = Config::try_from(RawConfig::default()).unwrap();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        Draft::check(request, &"acme".parse().unwrap(), &config, now)
            .map_err(|status| status.message().to_owned())
    }

    #[test]
    fn each_copy_is_addressed_to_its_recipient_alone() {
        let draft = check(request()).unwrap();
        let placed = Placed {
            body: Body::Inline(draft.content.clone()),
            packing: Packing::Plain,
        };
        let job = draft.job(&draft.recipients[1], &placed);
        assert_eq!(&job.recipient_header[..], b"To: eve@example.org\r\n");
        assert_eq!(job.sender.unwrap().to_string(), "ann@example.com");
        assert!(!String::from_utf8_lossy(&draft.content).contains("bob@"));
    }

    #[test]
    fn every_fault_of_a_request_is_named_with_its_remedy() {
        let cases: [(SubmitRequest, &str); 8] = [
            (
                SubmitRequest {
                    class: 7,
                    ..request()
                },
                "class: 7 is no class; use CLASS_TRANSACTIONAL (1)",
            ),
            (
                SubmitRequest {
                    recipients: vec![],
                    ..request()
                },
                "recipients: is empty",
            ),
            (
                SubmitRequest {
                    recipients: vec!["bob".into()],
                    ..request()
                },
                "recipients[0]: \"bob\" has no '@'",
            ),
            (
                SubmitRequest {
                    sender: "x@y@".into(),
                    ..request()
                },
                "sender: \"x@y@\"",
            ),
            (
                SubmitRequest {
                    content: None,
                    ..request()
                },
                "content: is missing",
            ),
            (
                SubmitRequest {
                    lifetime_seconds: u32::MAX,
                    ..request()
                },
                "lifetime_seconds: is 4294967295",
            ),
            (
                SubmitRequest {
                    campaign: "a\nb".into(),
                    ..request()
                },
                "campaign: ",
            ),
            (
                SubmitRequest {
                    recipients: vec!["b@x.org".into(), "b@X.org".into()],
                    ..request()
                },
                "recipients[1]: b@x.org is listed twice",
            ),
        ];
        for (request, expected) in cases {
            let problem = check(request).unwrap_err();
            assert!(
                problem.contains(expected),
                "{expected:?} is missing in: {problem}"
            );
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_before_it_is_read() {
        let raw = Bytes::from(vec![b'x'; 26 << 20]);
        let problem = check(SubmitRequest {
            content: Some(Content::Raw(raw)),
            ..request()
        })
        .unwrap_err();
        assert!(
            problem.contains("raw: the message has 27262976 octets, more than this server's 25MiB"),
            "{problem}"
        );
    }
}

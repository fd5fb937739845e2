//! Events as JSON, with the names of the .proto files and no field that is empty.

use api::v1::{BounceClass, Class, Event, EventKind};
use serde_json::{Map, Value, json};

/// One event as a JSON object.
pub fn event_to_json(event: &Event) -> Value {
    let kind = EventKind::try_from(event.kind).unwrap_or_default();
    let class = Class::try_from(event.class).unwrap_or_default();
    let bounce = BounceClass::try_from(event.bounce_class).unwrap_or_default();
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        if !is_empty(&value) {
            out.insert(name.to_owned(), value);
        }
    };
    put("id", json!(event.id));
    put("kind", json!(short(kind.as_str_name(), "EVENT_KIND_")));
    put("occurred_at", time(event.occurred_at.as_ref()));
    put("tenant", json!(event.tenant));
    put("class", json!(short(class.as_str_name(), "CLASS_")));
    put("message_id", json!(event.message_id));
    put("job_id", json!(event.job_id));
    put("recipient", json!(event.recipient));
    put("attempt", json!(event.attempt));
    put("tags", json!(event.tags));
    put("campaign", json!(event.campaign));
    put("list", json!(event.list));
    put("accepted_at", time(event.accepted_at.as_ref()));
    put("next_attempt_at", time(event.next_attempt_at.as_ref()));
    if let Some(reply) = &event.reply {
        put(
            "reply",
            json!({ "code": reply.code, "enhanced_code": reply.enhanced_code, "text": reply.text }),
        );
    }
    if bounce != BounceClass::Unspecified {
        put(
            "bounce_class",
            json!(short(bounce.as_str_name(), "BOUNCE_CLASS_")),
        );
    }
    put("detail", json!(event.detail));
    if let Some(hop) = &event.hop {
        put(
            "hop",
            json!({
                "provider": hop.provider, "mx_host": hop.mx_host, "address": hop.address, "source": hop.source,
                "tls": hop.tls, "tls_verification": hop.tls_verification,
            }),
        );
    }
    Value::Object(out)
}

/// "EVENT_KIND_DELIVERED" as "delivered".
pub(crate) fn short(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix)
        .unwrap_or(name)
        .to_ascii_lowercase()
}

pub(crate) fn time(time: Option<&prost_types::Timestamp>) -> Value {
    let time = time.and_then(api::timestamp_from_wire);
    time.map_or(Value::Null, |time| json!(time.to_string()))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => false,
    }
}

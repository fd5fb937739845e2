//! Events as lines that people read.

use api::v1::{BounceClass, Event, EventKind};

use super::json::short;

/// The kind of an event in a word: "delivered".
pub fn event_kind(event: &Event) -> String {
    short(
        EventKind::try_from(event.kind)
            .unwrap_or_default()
            .as_str_name(),
        "EVENT_KIND_",
    )
}

/// One event on one line: when, what, why.
pub fn event_line(event: &Event) -> String {
    let at = event
        .occurred_at
        .as_ref()
        .and_then(api::timestamp_from_wire);
    let at = at
        .map(|at| at.strftime("%H:%M:%S%.3f").to_string())
        .unwrap_or_default();
    let mut line = format!("{at}  {:<11}", event_kind(event));
    if event.attempt > 0 {
        line.push_str(&format!(" attempt {}", event.attempt));
    }
    if let Some(reply) = &event.reply {
        line.push_str(
            &format!("  {} {} {}", reply.code, reply.enhanced_code, reply.text).replace("  ", " "),
        );
    }
    if !event.detail.is_empty() {
        line.push_str(&format!("  {}", event.detail));
    }
    let bounce = BounceClass::try_from(event.bounce_class).unwrap_or_default();
    if bounce != BounceClass::Unspecified {
        line.push_str(&format!(
            "  ({})",
            short(bounce.as_str_name(), "BOUNCE_CLASS_")
        ));
    }
    if let Some(next) = event
        .next_attempt_at
        .as_ref()
        .and_then(api::timestamp_from_wire)
    {
        line.push_str(&format!("  next at {}", next.strftime("%H:%M:%S")));
    }
    if let Some(hop) = &event.hop {
        let tls = if hop.tls.is_empty() {
            "no TLS"
        } else {
            &hop.tls
        };
        line.push_str(&format!("  via {} [{}] {tls}", hop.mx_host, hop.address));
    }
    line
}

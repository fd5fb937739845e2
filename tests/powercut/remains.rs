//! What the queue still knows of mail that did not arrive: whether it is gone, stuck or late, and what was the last of it.

use std::collections::BTreeMap;

use anyhow::Context as _;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{DirectGetErrorKind, Stream};

use super::streams;

/// How many of the missing are shown.
const SHOWN: usize = 5;

/// Prints what each stream holds, and for some of the `missing` recipients where they are named.
pub(crate) async fn print(url: &str, missing: &[&String]) -> anyhow::Result<()> {
    let (context, names) = streams(url).await?;
    let mut traces = BTreeMap::new();
    for name in names {
        let stream = context.get_stream(&name).await.context("find a stream")?;
        let held = stream.cached_info().state.messages;
        if held > 0 {
            println!("{name} holds {held}");
            follow(&stream, &name, missing, &mut traces).await?;
        }
    }
    for (to, trace) in traces.iter().take(SHOWN) {
        println!("{to}:\n    {}", trace.join("\n    "));
    }
    Ok(())
}

/// Adds where `stream`, called `name`, speaks of the `missing`.
async fn follow<'to>(
    stream: &Stream,
    name: &str,
    missing: &[&'to String],
    traces: &mut BTreeMap<&'to str, Vec<String>>,
) -> anyhow::Result<()> {
    let mut from = 1;
    loop {
        let message = match stream.direct_get_next_for_subject(">", Some(from)).await {
            Ok(message) => message,
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).context("read a stream"),
        };
        from = message.sequence + 1;
        let said = said(&message);
        for to in missing {
            let about = said.iter().filter(|(said, _)| said.contains(to.as_str()));
            let lines = about.map(|(_, shown)| format!("{name} {} {shown}", message.sequence));
            traces.entry(to).or_default().extend(lines);
        }
    }
}

/// What a message says that may name a recipient, and how it is shown: each event by itself, of anything else its subject.
fn said(message: &StreamMessage) -> Vec<(String, String)> {
    if !message.subject.starts_with("ev.") {
        let all = String::from_utf8_lossy(&message.payload).into_owned();
        return vec![(all, message.subject.to_string())];
    }
    let events = api::decode_batch(message.payload.clone()).unwrap_or_default();
    let shown = events.into_iter().map(|event| {
        let (kind, job, attempt) = (event.kind(), &event.job_id, event.attempt);
        let shown = format!("{} of job {job}, attempt {attempt}", kind.as_str_name());
        (event.recipient, shown)
    });
    shown.collect()
}

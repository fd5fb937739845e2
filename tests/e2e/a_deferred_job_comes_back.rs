//! What each kind of failure comes to: tried again when it was said, and given up when that is final or time is over.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use api::v1::{BounceClass, Event, EventKind, JobState, SubmitRequest};
use expect_test::expect;
use futures_util::StreamExt as _;
use jiff::SignedDuration;
use tests::{PATIENCE, Setup, eventually, letter};

use super::PROGRAM;

/// The second attempt comes 4 to 6 s after the first, inside the lifetime on however slow a machine, and the third would come
/// after it.
const RETRIES: [&str; 2] = ["5s", "1h"];
const LIFETIME: u32 = 300;
const NEXT_ATTEMPT: std::ops::RangeInclusive<SignedDuration> =
    SignedDuration::from_millis(4000)..=SignedDuration::from_millis(6000);

const RECIPIENTS: [&str; 9] = [
    "success@gmail.example",
    "greylist@gmail.example",
    "defer@gmail.example",
    "full@gmail.example",
    "drop@gmail.example",
    "bounce@gmail.example",
    "ann@nullmx.example",
    "ann@nowhere.example",
    "ann@servfail.example",
];

#[tokio::test]
async fn a_deferred_job_comes_back() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM)
        .configured(|config| config.delivery.retry_delays = RETRIES.map(Into::into).into());
    let cluster = setup.start_with(1).await?;
    let api = cluster.api(0)?;
    for recipient in RECIPIENTS {
        let request = SubmitRequest {
            lifetime_seconds: LIFETIME,
            ..letter(recipient)
        };
        api.submit(request)
            .await
            .with_context(|| format!("submit to {recipient}"))?;
    }
    let mut events = api.events().await?;
    let mut timelines = BTreeMap::<String, Vec<Event>>::new();
    let mut open = RECIPIENTS.len();
    while open > 0 {
        let event = tokio::time::timeout(PATIENCE, events.next()).await;
        let event = event
            .with_context(|| format!("wait for {open} ends"))?
            .context("the watch ended")??;
        check_next_attempt(&event)?;
        open -= usize::from(!matches!(
            event.kind(),
            EventKind::Accepted | EventKind::Deferred
        ));
        timelines
            .entry(event.recipient.clone())
            .or_default()
            .push(event);
    }
    expect![[r#"
        success@gmail.example: 0 accepted, 1 delivered 250 2.0.0
        greylist@gmail.example: 0 accepted, 1 deferred greylisted 451 4.7.1, 2 delivered 250 2.0.0
        defer@gmail.example: 0 accepted, 1 deferred remote_system 451 4.3.0, 2 expired remote_system 451 4.3.0
        full@gmail.example: 0 accepted, 1 deferred mailbox_full 452 4.2.2, 2 expired mailbox_full 452 4.2.2
        drop@gmail.example: 0 accepted, 1 deferred connect, 2 delivered 250 2.0.0
        bounce@gmail.example: 0 accepted, 1 bounced invalid_recipient 550 5.1.1
        ann@nullmx.example: 0 accepted, 1 bounced bad_domain
        ann@nowhere.example: 0 accepted, 1 bounced bad_domain
        ann@servfail.example: 0 accepted, 1 deferred dns, 2 expired dns
    "#]].assert_eq(&show(&timelines));
    cluster.finish().await
}

#[tokio::test]
async fn what_is_deferred_again_and_again_is_delivered_in_the_end() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(1).await?;
    let api = cluster.api(0)?;
    api.submit(letter("ann@down.example")).await?;
    let mut events = api.events().await?;
    let mut deferrals = 0;
    let ended = loop {
        let event = tokio::time::timeout(PATIENCE, events.next()).await;
        let event = event
            .with_context(|| format!("after {deferrals} deferrals"))?
            .context("the watch ended")??;
        match event.kind() {
            EventKind::Accepted => {}
            EventKind::Deferred => deferrals += 1,
            ended => break ended,
        }
    };
    assert_eq!(ended, EventKind::Delivered);
    assert!(deferrals >= 2, "{deferrals}");
    cluster.finish().await
}

#[tokio::test]
async fn until_then_its_status_says_when() -> anyhow::Result<()> {
    let setup =
        Setup::new(PROGRAM).configured(|config| config.delivery.retry_delays = vec!["1h".into()]);
    let cluster = setup.start_with(1).await?;
    let api = cluster.api(0)?;
    let sent = api.submit(letter("defer@gmail.example")).await?;
    let job = eventually("the job is deferred", Duration::from_secs(30), async || {
        let found = api.get(&sent.recipients[0].job_id).await.ok();
        let job = found.and_then(|mut found| found.jobs.pop());
        Ok(job.filter(|job| job.state() == JobState::Deferred))
    })
    .await?;
    let next = job
        .next_attempt_at
        .as_ref()
        .and_then(api::timestamp_from_wire);
    let tried = job.events[1]
        .occurred_at
        .as_ref()
        .and_then(api::timestamp_from_wire);
    let pause = next
        .context("no next attempt")?
        .duration_since(tried.context("no time")?);
    assert!(
        (SignedDuration::from_mins(48)..=SignedDuration::from_mins(72)).contains(&pause),
        "{pause}"
    );
    cluster.finish().await
}

/// An event of a deferral says when the next attempt is due, and no other does.
fn check_next_attempt(event: &Event) -> anyhow::Result<()> {
    let next = event
        .next_attempt_at
        .as_ref()
        .and_then(api::timestamp_from_wire);
    if event.kind() != EventKind::Deferred {
        assert_eq!(next, None, "{event:?}");
        return Ok(());
    }
    let occurred = event
        .occurred_at
        .as_ref()
        .and_then(api::timestamp_from_wire);
    let pause = next
        .context("no next attempt")?
        .duration_since(occurred.context("no time")?);
    assert!(NEXT_ATTEMPT.contains(&pause), "{pause}: {event:?}");
    Ok(())
}

/// A recipient a line: attempt, kind, class and reply of every event but the first, which is its acceptance.
fn show(timelines: &BTreeMap<String, Vec<Event>>) -> String {
    let line = |recipient: &str| {
        let events = timelines.get(recipient).map_or(&[][..], Vec::as_slice);
        let events: Vec<String> = events.iter().map(show_event).collect();
        format!("{recipient}: {}\n", events.join(", "))
    };
    RECIPIENTS.map(line).concat()
}

fn show_event(event: &Event) -> String {
    let mut words = vec![
        event.attempt.to_string(),
        short(event.kind().as_str_name(), "EVENT_KIND_"),
    ];
    if event.bounce_class() != BounceClass::Unspecified {
        words.push(short(event.bounce_class().as_str_name(), "BOUNCE_CLASS_"));
    }
    if let Some(reply) = &event.reply {
        words.push(format!("{} {}", reply.code, reply.enhanced_code));
    }
    words.join(" ")
}

fn short(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase()
}

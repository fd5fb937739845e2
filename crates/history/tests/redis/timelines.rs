//! Timelines of jobs and messages.

use model::{JobId, MessageId};

use crate::entries::{entry, history, numbers, tenant};
use crate::server::RedisServer;

#[tokio::test]
async fn a_timeline_is_in_the_order_in_which_things_happened_however_often_they_are_written() {
    let server = RedisServer::start();
    let history = history(&server);
    let (message, job) = (MessageId::fresh(), JobId::fresh());
    for batch in [vec![3, 1], vec![2, 3], vec![1]] {
        let entries: Vec<_> = batch
            .into_iter()
            .map(|second| entry(message, job, second))
            .collect();
        history.append(&entries).await.unwrap();
    }
    let timeline = history.job(&tenant("acme"), job).await.unwrap().unwrap();
    assert_eq!(timeline.message, message);
    assert_eq!(numbers(&timeline.events), [1, 2, 3]);
}

#[tokio::test]
async fn an_event_id_of_any_form_is_kept_apart_from_the_others() {
    let server = RedisServer::start();
    let history = history(&server);
    let (message, job) = (MessageId::fresh(), JobId::fresh());
    let ids = [
        "m",
        "",
        ":1:deferred",
        &format!("{job}:1:deferred"),
        &format!("{job}m"),
    ];
    for (second, id) in (1..).zip(ids) {
        let event_id = id.to_owned();
        let entry = history::TimelineEntry {
            event_id,
            ..entry(message, job, second)
        };
        history.append(&[entry]).await.unwrap();
    }
    let timeline = history.job(&tenant("acme"), job).await.unwrap().unwrap();
    assert_eq!(numbers(&timeline.events), [1, 2, 3, 4, 5]);
    assert_eq!(timeline.message, message);
}

#[tokio::test]
async fn a_message_lists_its_jobs_as_they_were_accepted_whatever_came_last() {
    let server = RedisServer::start();
    let history = history(&server);
    let message = MessageId::fresh();
    let jobs = [JobId::fresh(), JobId::fresh(), JobId::fresh()];
    let accepted = [
        entry(message, jobs[2], 1),
        entry(message, jobs[0], 2),
        entry(message, jobs[1], 3),
    ];
    let later = [entry(message, jobs[2], 9), entry(message, jobs[0], 7)];
    history.append(&later).await.unwrap();
    history.append(&accepted).await.unwrap();
    let listed = history
        .message(&tenant("acme"), message)
        .await
        .unwrap()
        .unwrap();
    let order: Vec<_> = listed
        .iter()
        .map(|(job, timeline)| (*job, numbers(&timeline.events)))
        .collect();
    assert_eq!(
        order,
        [
            (jobs[2], vec![1, 9]),
            (jobs[0], vec![2, 7]),
            (jobs[1], vec![3])
        ]
    );
}

#[tokio::test]
async fn another_tenants_ids_are_simply_not_found() {
    let server = RedisServer::start();
    let history = history(&server);
    let (message, job) = (MessageId::fresh(), JobId::fresh());
    history.append(&[entry(message, job, 1)]).await.unwrap();
    assert_eq!(history.job(&tenant("other"), job).await.unwrap(), None);
    assert_eq!(
        history.message(&tenant("other"), message).await.unwrap(),
        None
    );
    assert!(
        history
            .message(&tenant("acme"), message)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_message_to_very_many_lists_its_first_thousand_jobs() {
    let server = RedisServer::start();
    let history = history(&server);
    let message = MessageId::fresh();
    let entries: Vec<_> = (1..=1200)
        .map(|second| entry(message, JobId::fresh(), second))
        .collect();
    history.append(&entries).await.unwrap();
    let listed = history
        .message(&tenant("acme"), message)
        .await
        .unwrap()
        .unwrap();
    let first: Vec<JobId> = entries[..1000].iter().map(|entry| entry.job).collect();
    assert_eq!(
        listed.iter().map(|(job, _)| *job).collect::<Vec<_>>(),
        first
    );
    assert!(
        history
            .job(&tenant("acme"), entries[1100].job)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_job_that_was_tried_very_often_keeps_its_beginning_and_its_end() {
    let server = RedisServer::start();
    let history = history(&server);
    let (message, job) = (MessageId::fresh(), JobId::fresh());
    for second in 1..=300 {
        history
            .append(&[entry(message, job, second)])
            .await
            .unwrap();
    }
    let timeline = history.job(&tenant("acme"), job).await.unwrap().unwrap();
    let kept = numbers(&timeline.events);
    assert!((64..=80).contains(&kept.len()), "{} kept", kept.len());
    assert_eq!(kept[..32], (1..=32).collect::<Vec<_>>());
    assert_eq!(kept[kept.len() - 32..], (269..=300).collect::<Vec<_>>());
}

#[tokio::test]
async fn every_key_expires() {
    let server = RedisServer::start();
    let history = history(&server);
    let job = JobId::fresh();
    history
        .append(&[entry(MessageId::fresh(), job, 1)])
        .await
        .unwrap();
    history
        .mark_done(job, b"", history.marker_ttl())
        .await
        .unwrap();
    let keys: Vec<String> = server.run("KEYS *").await;
    assert_eq!(keys.len(), 3, "{keys:?}");
    for key in keys {
        assert!(
            server.run::<i64>(&format!("PTTL {key}")).await > 0,
            "{key} stays for ever"
        );
    }
}

//! Markers of jobs that have ended.

use std::time::Duration;

use bytes::Bytes;
use model::JobId;

use crate::entries::history;
use crate::server::RedisServer;

#[tokio::test]
async fn a_marker_gives_back_the_event_that_ended_the_job() {
    let server = RedisServer::start();
    let (history, elsewhere) = (history(&server), history(&server));
    let (ended, other) = (JobId::fresh(), JobId::fresh());
    history
        .mark_done(ended, b"\0delivered\r\n", history.marker_ttl())
        .await
        .unwrap();
    let event = elsewhere.done(ended).await.unwrap();
    assert_eq!(event, Some(Bytes::from_static(b"\0delivered\r\n")));
    assert_eq!(elsewhere.done(other).await.unwrap(), None);
}

#[tokio::test]
async fn a_marker_lives_as_long_as_it_was_told_to() {
    let server = RedisServer::start();
    let history = history(&server);
    let job = JobId::fresh();
    history
        .mark_done(job, b"bounced", Duration::from_secs(60))
        .await
        .unwrap();
    let left: u64 = server.run(&format!("PTTL {{test}}:done:{job}")).await;
    assert!((50_000..=60_000).contains(&left), "{left} ms");
}

#[tokio::test]
async fn the_first_ending_of_a_job_stands() {
    let server = RedisServer::start();
    let (history, elsewhere) = (history(&server), history(&server));
    let (job, ttl) = (JobId::fresh(), Duration::from_secs(60));
    assert_eq!(
        history.mark_done(job, b"delivered", ttl).await.unwrap(),
        None
    );
    for process in [elsewhere, history] {
        let earlier = process.mark_done(job, b"expired", ttl).await.unwrap();
        assert_eq!(earlier, Some(Bytes::from_static(b"delivered")));
        assert_eq!(process.done(job).await.unwrap(), earlier);
    }
}

#[tokio::test]
async fn what_a_process_marked_it_knows_without_redis() {
    let mut server = RedisServer::start();
    let history = history(&server);
    let (before, meanwhile, other) = (JobId::fresh(), JobId::fresh(), JobId::fresh());
    let ttl = Duration::from_secs(60);
    history.mark_done(before, b"delivered", ttl).await.unwrap();
    server.kill();
    history
        .mark_done(meanwhile, b"bounced", ttl)
        .await
        .unwrap_err();
    let known = async |job| history.done(job).await.unwrap();
    assert_eq!(known(before).await.as_deref(), Some(&b"delivered"[..]));
    assert_eq!(known(meanwhile).await.as_deref(), Some(&b"bounced"[..]));
    assert!(history.done(other).await.is_err());
    let earlier = history.mark_done(before, b"expired", ttl).await.unwrap();
    assert_eq!(earlier.as_deref(), Some(&b"delivered"[..]));
}

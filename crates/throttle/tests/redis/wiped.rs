//! A wiped Redis is told from one that was idle.

use std::time::Duration;

use throttle::{Mode, Reason};
use tokio::time::Instant;

use crate::server::RedisServer;
use crate::worker::{SLOT_TTL, Worker, limits, path};

#[tokio::test]
async fn a_cluster_that_starts_for_the_first_time_waits_for_nothing() {
    let server = RedisServer::start();
    let one = Worker::join(&server, "one").await;
    let limits = limits("100/s", 2);
    assert!(one.open(&path("big"), &limits).await.is_ok());
    let two = Worker::join(&server, "two").await;
    assert!(two.open(&path("big"), &limits).await.is_ok());
}

#[tokio::test]
async fn after_a_wipe_holders_come_back_before_anybody_new_gets_a_slot() {
    let server = RedisServer::start();
    let one = Worker::join(&server, "one").await;
    let two = Worker::join(&server, "two").await;
    let limits = limits("100/s", 1);
    let held = one.open(&path("big"), &limits).await.unwrap();
    server.run::<()>("FLUSHALL").await;
    let wiped = Instant::now();
    let wait = two.open(&path("big"), &limits).await.unwrap_err();
    assert_eq!(wait.reason, Reason::ConnectionsInUse);
    while wiped.elapsed() < SLOT_TTL * 2 {
        let wait = two.open(&path("big"), &limits).await.unwrap_err();
        tokio::time::sleep(wait.retry_after).await;
        assert!(held.is_fresh());
    }
    drop(held);
    two.open_soon(&path("big"), &limits).await;
}

#[tokio::test]
async fn after_a_wipe_a_newcomer_is_held_back_as_soon_as_anybody_remembers() {
    let server = RedisServer::start();
    let old = Worker::join(&server, "old").await;
    let limits = limits("100/s", 1);
    let _held = old.open(&path("big"), &limits).await.unwrap();
    server.run::<()>("FLUSHALL").await;
    let newcomer = Worker::join(&server, "new").await;
    let _ = old.take(&path("other"), &limits).await;
    let wait = newcomer.open(&path("big"), &limits).await.unwrap_err();
    assert_eq!(wait.reason, Reason::ConnectionsInUse);
}

#[tokio::test]
async fn after_a_wipe_buckets_start_empty() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let limits = limits("10/s", 1);
    server.run::<()>("FLUSHALL").await;
    let wait = worker.take(&path("big"), &limits).await.unwrap_err();
    assert!(wait.retry_after > Duration::from_millis(50), "{wait:?}");
    worker.token(&path("big"), &limits).await;
}

#[tokio::test]
async fn a_redis_that_restarts_empty_is_a_wiped_one() {
    let mut server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let limits = limits("10/s", 1);
    server.kill();
    let _ = worker.open(&path("big"), &limits).await;
    assert_eq!(worker.mode(), Mode::Local);
    server.launch();
    worker.reach(Mode::Shared).await;
    let wait = worker.take(&path("small"), &limits).await.unwrap_err();
    assert_eq!(wait.reason, Reason::RateLimited);
}

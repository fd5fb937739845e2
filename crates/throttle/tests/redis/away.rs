//! Redis away neither stops sending nor opens the throttle.

use std::time::Duration;

use throttle::{Mode, Reason, Settings};
use tokio::time::Instant;

use crate::server::RedisServer;
use crate::worker::{SLOT_TTL, Worker, limits, path, settings};

#[tokio::test]
async fn a_worker_starts_without_redis_and_finds_it_later() {
    let mut server = RedisServer::absent();
    let worker = Worker::launch(&server, settings("one"));
    assert_eq!(worker.mode(), Mode::Local);
    let unlimited_rate = throttle::Limits::new(None, 8);
    let held = [
        worker.open(&path("big"), &unlimited_rate).await.unwrap(),
        worker.open(&path("big"), &unlimited_rate).await.unwrap(),
    ];
    let wait = worker
        .open(&path("big"), &unlimited_rate)
        .await
        .unwrap_err();
    assert_eq!(
        wait.reason,
        Reason::ConnectionsInUse,
        "8 connections among 4 assumed workers are 2"
    );
    server.launch();
    worker.reach(Mode::Shared).await;
    assert_eq!(worker.workers(), 1);
    assert_eq!(
        server.run::<u32>("ZCARD {test}:slots:big|mta-1").await,
        2,
        "what is open is counted"
    );
    drop(held);
}

#[tokio::test]
async fn a_killed_redis_leaves_each_worker_its_share() {
    let mut server = RedisServer::start();
    let one = Worker::join(&server, "one").await;
    let two = Worker::join(&server, "two").await;
    let limits = limits("20/s", 4).with_burst(4);
    server.kill();
    let start = Instant::now();
    let _first = two.open_soon(&path("big"), &limits).await;
    assert_eq!(two.mode(), Mode::Local);
    let _second = two.open_soon(&path("big"), &limits).await;
    let wait = two.open(&path("big"), &limits).await.unwrap_err();
    assert_eq!(
        wait.reason,
        Reason::ConnectionsInUse,
        "4 connections between 2 workers are 2"
    );
    for _ in 0..6 {
        two.token(&path("big"), &limits).await;
    }
    // An empty bucket at half of 20/s: 8 tokens take 800 ms.
    assert!(
        start.elapsed() > Duration::from_millis(780),
        "{:?}",
        start.elapsed()
    );
    server.launch();
    one.reach(Mode::Shared).await;
    two.reach(Mode::Shared).await;
}

/// Who has every connection is alone on the path, but not for long.
#[tokio::test]
async fn one_that_waits_for_a_connection_is_left_its_share_of_the_rate() {
    let mut server = RedisServer::start();
    let one = Worker::join(&server, "one").await;
    let two = Worker::join(&server, "two").await;
    let limits = limits("20/s", 1).with_burst(1);
    let slot = one.open(&path("big"), &limits).await.unwrap();
    two.open(&path("big"), &limits).await.unwrap_err();
    let end = Instant::now() + SLOT_TTL;
    while !slot.is_wanted() {
        assert!(Instant::now() < end, "nobody is known to wait");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.kill();
    one.reach(Mode::Local).await;
    let start = Instant::now();
    for _ in 0..12 {
        one.token(&path("big"), &limits).await;
    }
    // At half of 20/s; the whole rate takes 600 ms.
    assert!(
        start.elapsed() > Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_frozen_redis_costs_one_call_its_deadline_and_later_calls_nothing() {
    let server = RedisServer::start();
    let worker = Worker::launch(
        &server,
        Settings {
            slot_ttl: Duration::from_secs(12),
            ..settings("one")
        },
    );
    worker.reach(Mode::Shared).await;
    server.freeze();
    let limits = limits("1000/s", 100);
    let start = Instant::now();
    let _ = worker.open(&path("big"), &limits).await;
    assert!(start.elapsed() >= Duration::from_millis(240));
    let start = Instant::now();
    for _ in 0..20 {
        drop(worker.open(&path("big"), &limits).await);
    }
    assert!(
        start.elapsed() < Duration::from_millis(100),
        "{:?}",
        start.elapsed()
    );
    server.thaw();
    worker.reach(Mode::Shared).await;
}

#[tokio::test]
async fn a_slot_beyond_the_share_goes_stale_before_it_expires() {
    let server = RedisServer::start();
    let one = Worker::join(&server, "one").await;
    let two = Worker::join(&server, "two").await;
    let limits = limits("100/s", 2);
    let first = two.open(&path("big"), &limits).await.unwrap();
    let second = two.open(&path("big"), &limits).await.unwrap();
    server.freeze();
    let frozen = Instant::now();
    two.reach(Mode::Local).await;
    while second.is_fresh() {
        assert!(
            frozen.elapsed() < SLOT_TTL,
            "still used when others may have it"
        );
        tokio::task::yield_now().await;
    }
    assert!(
        first.is_fresh(),
        "one of two connections is this worker's share"
    );
    server.thaw();
    two.reach(Mode::Shared).await;
    assert!(second.is_fresh(), "it is renewed again");
    drop(one);
}

#[tokio::test]
async fn who_waits_for_a_share_does_not_sleep_through_the_return_of_redis() {
    let mut server = RedisServer::absent();
    let worker = Worker::launch(&server, settings("one"));
    let hourly = limits("1/h", 1);
    let (there, start) = (path("big"), Instant::now());
    let waiting = worker.token(&there, &hourly);
    let returning = async {
        server.launch();
        worker.reach(Mode::Shared).await;
    };
    tokio::join!(waiting, returning);
    assert!(start.elapsed() < Duration::from_secs(10));
}

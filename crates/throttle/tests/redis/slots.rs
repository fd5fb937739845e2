//! Connection slots hold for all workers together, and a dead worker's come back.

use std::time::Duration;

use throttle::{Limits, Reason, SlotGuard};
use tokio::time::Instant;

use crate::server::RedisServer;
use crate::worker::{SLOT_TTL, Worker, limits, path};

const SLOTS: &str = "ZCARD {test}:slots:big|mta-1";

#[tokio::test]
async fn two_workers_share_the_connections_of_a_path() {
    let server = RedisServer::start();
    let (one, two) = (
        Worker::join(&server, "one").await,
        Worker::join(&server, "two").await,
    );
    let limits = limits("100/s", 3);
    let held = [
        one.open(&path("big"), &limits).await.unwrap(),
        two.open(&path("big"), &limits).await.unwrap(),
        one.open(&path("big"), &limits).await.unwrap(),
    ];
    for worker in [&one, &two] {
        let wait = worker.open(&path("big"), &limits).await.unwrap_err();
        assert_eq!(wait.reason, Reason::ConnectionsInUse);
    }
    assert!(
        one.open(&path("small"), &limits).await.is_ok(),
        "another path has its own"
    );
    drop(held);
    two.open_soon(&path("big"), &limits).await;
}

#[tokio::test]
async fn a_slot_without_a_token_is_not_granted_and_leaves_nothing_behind() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let limits = limits("1/h", 5);
    let first = worker.open(&path("big"), &limits).await.unwrap();
    let wait = worker.open(&path("big"), &limits).await.unwrap_err();
    assert_eq!(wait.reason, Reason::RateLimited);
    assert!(wait.retry_after > Duration::from_secs(3500));
    assert_eq!(server.run::<u32>(SLOTS).await, 1);
    drop(first);
}

#[tokio::test]
async fn a_token_without_a_slot_is_not_taken() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let limits = limits("2/h", 1).with_burst(2);
    let _held = worker.open(&path("big"), &limits).await.unwrap();
    let wait = worker.open(&path("big"), &limits).await.unwrap_err();
    assert_eq!(wait.reason, Reason::ConnectionsInUse);
    assert_eq!(worker.take(&path("big"), &limits).await, Ok(()));
}

#[tokio::test]
async fn a_slot_brings_the_token_of_its_first_message() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let limits = limits("1/h", 1);
    let slot = worker.open(&path("big"), &limits).await.unwrap();
    assert_eq!(slot.take(&limits).await, Ok(()));
    assert_eq!(
        slot.take(&limits).await.unwrap_err().reason,
        Reason::RateLimited
    );
}

#[tokio::test]
async fn a_slot_that_is_held_outlives_its_time_to_live() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let limits = limits("100/s", 1);
    let slot = worker.open(&path("big"), &limits).await.unwrap();
    let end = Instant::now() + SLOT_TTL * 3;
    while Instant::now() < end {
        assert!(slot.is_fresh());
        let wait = worker.open(&path("big"), &limits).await.unwrap_err();
        tokio::time::sleep(wait.retry_after).await;
    }
}

#[tokio::test]
async fn a_dead_workers_slots_and_its_place_come_back_within_one_time_to_live() {
    let server = RedisServer::start();
    let (one, two) = (
        Worker::join(&server, "one").await,
        Worker::join(&server, "two").await,
    );
    let limits = limits("100/s", 1);
    let slot = one.open(&path("big"), &limits).await.unwrap();
    one.die();
    let died = Instant::now();
    two.open_soon(&path("big"), &limits).await;
    assert!(died.elapsed() < SLOT_TTL + Duration::from_secs(1));
    assert!(!slot.is_fresh(), "the dead worker must not use it any more");
}

#[tokio::test]
async fn a_worker_that_leaves_takes_its_slots_and_its_name_with_it() {
    let server = RedisServer::start();
    let (one, two) = (
        Worker::join(&server, "one").await,
        Worker::join(&server, "two").await,
    );
    assert_eq!(two.workers(), 2);
    let slot = one.open(&path("big"), &limits("100/s", 1)).await.unwrap();
    drop(slot);
    one.leave().await;
    assert_eq!(server.run::<u32>(SLOTS).await, 0);
    assert_eq!(server.run::<u32>("ZCARD {test}:workers").await, 1);
}

#[tokio::test]
async fn a_closed_path_gives_no_slot() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let wait = worker
        .open(&path("big"), &Limits::new(None, 0))
        .await
        .unwrap_err();
    assert_eq!(wait.reason, Reason::ConnectionsInUse);
}

#[tokio::test]
async fn a_question_that_nobody_waits_for_leaves_no_slot_behind() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let limits = limits("100/s", 1);
    {
        let (there, limits) = (path("big"), limits);
        tokio::select! {
            biased;
            _ = worker.open(&there, &limits) => panic!("answered before it could be abandoned"),
            () = std::future::ready(()) => {}
        }
    }
    worker.open_soon(&path("big"), &limits).await;
}

#[tokio::test]
async fn every_key_expires() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let _slot = worker
        .open(&path("big"), &limits("100/s", 1))
        .await
        .unwrap();
    // A new Redis may be one that was wiped: nobody is told of anybody.
    tokio::time::sleep(SLOT_TTL).await;
    worker.token(&path("big"), &limits("100/s", 1)).await;
    let keys: Vec<String> = server.run("KEYS *").await;
    assert_eq!(keys.len(), 6, "{keys:?}");
    for key in keys {
        assert!(
            server.run::<i64>(&format!("PTTL {key}")).await > 0,
            "{key} stays for ever"
        );
    }
}

#[tokio::test]
async fn a_worker_that_has_every_slot_gives_one_up_for_one_that_has_none() {
    let server = RedisServer::start();
    let (one, two) = (
        Worker::join(&server, "one").await,
        Worker::join(&server, "two").await,
    );
    for connections in [1, 3] {
        let (there, limits) = (
            path(&format!("takes-{connections}")),
            limits("1000/s", connections),
        );
        let mut held = Vec::new();
        for _ in 0..connections {
            held.push(one.open(&there, &limits).await.unwrap());
        }
        assert!(!held.iter().any(SlotGuard::is_wanted), "nobody waits");
        let end = Instant::now() + SLOT_TTL;
        let got = loop {
            assert!(Instant::now() < end, "nothing was given up");
            let wanted: Vec<usize> = (0..held.len())
                .filter(|index| held[*index].is_wanted())
                .collect();
            assert!(wanted.len() <= 1, "one is enough");
            if let Some(index) = wanted.first() {
                drop(held.remove(*index));
            }
            if held.len() < connections as usize {
                let slots = format!("ZCARD {{test}}:slots:takes-{connections}|mta-1");
                while server.run::<u32>(&slots).await == connections {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                assert!(
                    one.open(&there, &limits).await.is_err(),
                    "it is kept for whoever waits"
                );
            }
            match two.open(&there, &limits).await {
                Ok(slot) => break slot,
                Err(wait) => tokio::time::sleep(wait.retry_after).await,
            }
        };
        drop(got);
        one.open_soon(&there, &limits).await;
    }
}

#[tokio::test]
async fn a_slot_is_kept_for_nobody_who_has_gone_away() {
    let server = RedisServer::start();
    let (one, two) = (
        Worker::join(&server, "one").await,
        Worker::join(&server, "two").await,
    );
    let limits = limits("100/s", 1);
    let slot = one.open(&path("big"), &limits).await.unwrap();
    assert!(two.open(&path("big"), &limits).await.is_err());
    two.leave().await;
    drop(slot);
    one.open_soon(&path("big"), &limits).await;
}

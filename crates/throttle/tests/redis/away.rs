//! Redis away neither stops sending nor opens the throttle.

use std::time::Duration;

use throttle::{Limits, Mode, Reason, Settings};
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
    // An empty bucket at a fifth of 20/s, which is for whoever did not use the path: 8 tokens take 2 s.
    assert!(
        start.elapsed() > Duration::from_millis(1980),
        "{:?}",
        start.elapsed()
    );
    server.launch();
    one.reach(Mode::Shared).await;
    two.reach(Mode::Shared).await;
}

async fn two_that_know_of_each_other(server: &RedisServer) -> [Worker; 2] {
    let one = Worker::join(server, "one").await;
    // A new Redis may be one that was wiped, and tells nobody of anybody.
    tokio::time::sleep(SLOT_TTL).await;
    let two = Worker::join(server, "two").await;
    let end = Instant::now() + SLOT_TTL * 2;
    while [&one, &two].map(|worker| worker.workers()) != [2, 2] {
        assert!(Instant::now() < end, "they do not hear of each other");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    [one, two]
}

/// What of a rate of 100 a second two workers use, in parts of it, within two seconds after Redis was killed.
async fn used_without(
    server: &mut RedisServer,
    workers: [&Worker; 2],
    limits: &Limits,
) -> [f64; 2] {
    server.kill();
    let (start, time) = (Instant::now(), Duration::from_secs(2));
    let there = &path("big");
    let taken = workers.map(|worker| async move {
        let mut taken = 0;
        let end = tokio::time::sleep_until(start + time);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return f64::from(taken) / time.as_secs_f64() / 100.0,
                () = worker.token(there, limits) => taken += 1,
            }
        }
    });
    let [one, two] = taken;
    let (one, two) = tokio::join!(one, two);
    [one, two]
}

#[tokio::test]
async fn one_that_used_a_path_alone_keeps_most_of_its_rate_and_leaves_some_to_whoever_comes() {
    let mut server = RedisServer::start();
    let [one, two] = two_that_know_of_each_other(&server).await;
    let limits = limits("100/s", 1).with_burst(1);
    let _slot = one.open(&path("big"), &limits).await.unwrap();
    // It waits for a connection, and goes on without when nobody can be asked.
    two.open(&path("big"), &limits).await.unwrap_err();
    let used = used_without(&mut server, [&one, &two], &limits).await;
    assert!(used[0] > 0.6 && used[1] > 0.1, "{used:?}");
    assert!(used.iter().sum::<f64>() < 1.02, "{used:?}");
}

#[tokio::test]
async fn one_of_which_the_others_cannot_know_yet_has_what_is_left_for_newcomers() {
    let mut server = RedisServer::start();
    let [one, two] = two_that_know_of_each_other(&server).await;
    let limits = limits("100/s", 4).with_burst(1);
    let _slot = one.open(&path("big"), &limits).await.unwrap();
    let _later = two.open_soon(&path("big"), &limits).await;
    let used = used_without(&mut server, [&one, &two], &limits).await;
    assert!(used.iter().all(|used| *used > 0.1), "{used:?}");
    assert!(used.iter().sum::<f64>() < 1.02, "{used:?}");
}

#[tokio::test]
async fn one_that_has_not_used_a_path_for_a_while_leaves_it_to_those_who_do() {
    let mut server = RedisServer::start();
    let [one, two] = two_that_know_of_each_other(&server).await;
    let limits = limits("100/s", 4).with_burst(1);
    let _slot = one.open_soon(&path("big"), &limits).await;
    drop(two.open_soon(&path("big"), &limits).await);
    let start = Instant::now();
    while start.elapsed() < SLOT_TTL * 2 {
        one.token(&path("big"), &limits).await;
    }
    let used = used_without(&mut server, [&one, &two], &limits).await;
    assert!(used[0] > 0.6 && used[1] > 0.1, "{used:?}");
    assert!(used.iter().sum::<f64>() < 1.02, "{used:?}");
}

#[tokio::test]
async fn two_that_used_a_path_together_have_an_even_share_of_all_of_it() {
    let mut server = RedisServer::start();
    let [one, two] = two_that_know_of_each_other(&server).await;
    let limits = limits("100/s", 4).with_burst(1);
    let _slots = [
        one.open_soon(&path("big"), &limits).await,
        two.open_soon(&path("big"), &limits).await,
    ];
    // Each asks, hears of the other, and says that it has.
    let (there, end) = (path("big"), Instant::now() + SLOT_TTL * 3);
    let mut heard: Vec<u32> = Vec::new();
    while heard != [2, 2] {
        assert!(Instant::now() < end, "{heard:?}");
        tokio::join!(one.token(&there, &limits), two.token(&there, &limits));
        heard = server.run("HVALS {test}:slots:big|mta-1|told").await;
    }
    // And once more, for the one that said so first.
    tokio::time::sleep(Duration::from_millis(260)).await;
    tokio::join!(one.token(&there, &limits), two.token(&there, &limits));
    let used = used_without(&mut server, [&one, &two], &limits).await;
    assert!(used.iter().all(|used| *used > 0.4), "{used:?}");
    assert!(used.iter().sum::<f64>() < 1.02, "{used:?}");
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

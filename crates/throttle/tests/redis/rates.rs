//! Rates hold for all workers together, at the price of a question per lease.

use std::time::Duration;

use throttle::{Limits, Mode, Reason, Settings, Wait};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::server::RedisServer;
use crate::worker::{Worker, bulk, limits, path, settings};

/// What scheduling on a busy machine may add between a grant and the moment the test notes it.
const SLACK: Duration = Duration::from_millis(20);
/// For how long tokens are taken at once, where that matters.
const LEASE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);

/// When each token came, of `sessions` sessions at each of `workers`, that take all they get for `time`.
#[allow(clippy::disallowed_methods, reason = "a test runs its own tasks")]
async fn arrivals(
    workers: &[Worker],
    sessions: usize,
    limits: Limits,
    time: Duration,
) -> Vec<Instant> {
    let end = Instant::now() + time;
    let mut running = JoinSet::new();
    for worker in workers {
        for _ in 0..sessions {
            let throttle = (**worker).clone();
            running.spawn(async move {
                let mut arrivals = Vec::new();
                let (there, party) = (path("big"), bulk());
                let token = || throttle.token(&there, &limits, &party);
                while let Ok(()) = tokio::time::timeout_at(end, token()).await {
                    arrivals.push(Instant::now());
                }
                arrivals
            });
        }
    }
    let mut arrivals = running.join_all().await.concat();
    arrivals.sort();
    arrivals
}

/// The largest excess over `burst + rate * window`, over all windows.
fn excess(arrivals: &[Instant], burst: f64, rate: f64) -> f64 {
    let mut worst = f64::MIN;
    for (first, start) in arrivals.iter().enumerate() {
        for (last, end) in arrivals.iter().enumerate().skip(first) {
            let window = (*end - *start + SLACK).as_secs_f64();
            let count = f64::from(u32::try_from(last - first + 1).unwrap());
            worst = worst.max(count - (burst + rate * window));
        }
    }
    worst
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_any_window_all_workers_together_send_at_most_the_burst_and_the_rate() {
    let server = RedisServer::start();
    let mut workers = Vec::new();
    for name in ["one", "two", "three"] {
        workers.push(Worker::join(&server, name).await);
    }
    let limits = limits("300/s", 10).with_burst(60);
    let arrivals = arrivals(&workers, 10, limits, Duration::from_secs(2)).await;
    let excess = excess(&arrivals, 60.0, 300.0);
    assert!(excess <= 0.0, "{excess} too many");
    assert!(
        arrivals.len() > 400,
        "only {} of about 650 came",
        arrivals.len()
    );
}

#[tokio::test]
async fn tokens_kept_back_do_not_add_to_a_bucket_that_filled_up_meanwhile() {
    let server = RedisServer::start();
    let mut workers = Vec::new();
    for name in ["one", "two"] {
        let settings = Settings {
            lease: LEASE,
            ..settings(name)
        };
        workers.push(Worker::launch(&server, settings));
    }
    for worker in &workers {
        worker.reach(Mode::Shared).await;
    }
    // Of the burst of 60, 30 are in the bucket and 30 in the workers' hands, for half a second.
    let limits = limits("60/s", 10).with_burst(60);
    arrivals(&workers, 10, limits, Duration::from_secs(1)).await;
    full(&server).await;
    workers[0].token(&path("big"), &limits).await;
    // As late as what is in hand is good.
    tokio::time::sleep(LEASE * 4 / 5).await;
    let (start, mut count) = (Instant::now(), 0.0);
    for worker in &workers {
        while worker.take(&path("big"), &limits).await.is_ok() {
            count += 1.0;
        }
    }
    let refilled = 60.0 * (start.elapsed() + SLACK).as_secs_f64();
    assert!(count <= 60.0 + refilled, "{count} at once");
    assert!(count > 40.0, "only {count} at once: nothing was kept back");
}

#[tokio::test]
async fn a_small_burst_does_not_slow_the_rate_down() {
    let server = RedisServer::start();
    let workers = [Worker::join(&server, "one").await];
    let limits = limits("100/s", 10).with_burst(1);
    let arrivals = arrivals(&workers, 5, limits, Duration::from_secs(1)).await;
    assert!(
        (50..=101).contains(&arrivals.len()),
        "{} of about 100 came",
        arrivals.len()
    );
}

#[tokio::test]
async fn a_hundred_sessions_that_wait_ask_once_per_lease_and_not_once_per_message() {
    let server = RedisServer::start();
    let workers = [Worker::join(&server, "one").await];
    let limits = limits("2000/s", 10);
    let arrivals = arrivals(&workers, 100, limits, Duration::from_secs(1)).await;
    let questions = questions(&server).await;
    assert!(arrivals.len() > 1500, "only {} came", arrivals.len());
    assert!(
        questions < 40,
        "{questions} questions for {} messages",
        arrivals.len()
    );
}

/// Until the bucket is full again: then nothing is remembered of it.
async fn full(server: &RedisServer) {
    let filled = async {
        while server.run::<u32>("EXISTS {test}:rate:big|mta-1").await > 0 {
            tokio::time::sleep(SLACK).await;
        }
    };
    tokio::time::timeout(PATIENCE, filled)
        .await
        .expect("the bucket never filled up");
}

async fn questions(server: &RedisServer) -> u32 {
    let stats: String = server.run("INFO commandstats").await;
    let line = stats
        .lines()
        .find(|line| line.starts_with("cmdstat_evalsha:calls="))
        .unwrap();
    let calls = line
        .trim_start_matches("cmdstat_evalsha:calls=")
        .split(',')
        .next()
        .unwrap();
    calls.parse().unwrap()
}

#[tokio::test]
async fn a_wait_is_as_long_as_it_takes_and_no_longer() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let limits = limits("60/min", 1);
    assert_eq!(worker.take(&path("big"), &limits).await, Ok(()));
    let Err(Wait {
        reason,
        retry_after,
    }) = worker.take(&path("big"), &limits).await
    else {
        panic!("two tokens at once");
    };
    assert_eq!(reason, Reason::RateLimited);
    assert!((Duration::from_millis(800)..=Duration::from_secs(1)).contains(&retry_after));
    tokio::time::sleep(retry_after).await;
    assert_eq!(worker.take(&path("big"), &limits).await, Ok(()));
}

#[tokio::test]
async fn who_waits_is_served_in_turn() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let limits = limits("50/s", 1).with_burst(1);
    let served = std::sync::Mutex::new(Vec::new());
    let session = |name| {
        let (worker, served) = (&worker, &served);
        async move {
            worker.token(&path("big"), &limits).await;
            served.lock().unwrap().push(name);
        }
    };
    tokio::join!(session(1), session(2), session(3), session(4));
    assert_eq!(served.into_inner().unwrap(), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_new_rate_changes_the_bucket_and_not_its_key() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let hourly = limits("1/h", 1);
    assert_eq!(worker.take(&path("big"), &hourly).await, Ok(()));
    let wait = worker.take(&path("big"), &hourly).await.unwrap_err();
    assert!(wait.retry_after > Duration::from_secs(3500));
    let wait = worker
        .take(&path("big"), &limits("10/s", 1).with_burst(1))
        .await
        .unwrap_err();
    assert!(
        wait.retry_after <= Duration::from_millis(100),
        "the old debt holds: {wait:?}"
    );
    let keys: Vec<String> = server.run("KEYS {test}:rate:*").await;
    assert_eq!(keys, ["{test}:rate:big|mta-1"]);
}

#[tokio::test]
async fn a_path_without_a_rate_asks_nobody_for_tokens() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let unlimited = Limits::new(None, 1);
    worker.token(&path("big"), &unlimited).await;
    assert_eq!(worker.take(&path("big"), &unlimited).await, Ok(()));
    assert!(worker.open(&path("big"), &unlimited).await.is_ok());
    assert_eq!(server.run::<u32>("EXISTS {test}:rate:big|mta-1").await, 0);
}

#[tokio::test]
async fn who_waits_under_an_old_rate_is_served_under_the_new_one() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let there = path("big");
    let (hourly, faster) = (limits("1/h", 1), limits("10/s", 1));
    worker.token(&there, &hourly).await;
    let start = Instant::now();
    tokio::join!(worker.token(&there, &hourly), worker.token(&there, &faster));
    assert!(start.elapsed() < Duration::from_secs(5));
}

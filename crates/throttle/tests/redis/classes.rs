//! Transactional mail has its tokens before bulk, within a worker and among workers, and nothing is wasted by that.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use throttle::{Limits, Mode, Party, Settings};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::server::RedisServer;
use crate::worker::{Worker, bulk, limits, path, settings, urgent};

/// What scheduling on a busy machine may add.
const SLACK: Duration = Duration::from_millis(250);

/// `sessions` of `worker`, all of one party, that take tokens until what is answered is dropped. Each is counted in `count`.
#[allow(clippy::disallowed_methods, reason = "a test runs its own tasks")]
fn load(
    worker: &Worker,
    sessions: usize,
    party: &Arc<dyn Party>,
    limits: Limits,
    count: &Arc<Mutex<usize>>,
) -> JoinSet<()> {
    let mut running = JoinSet::new();
    for _ in 0..sessions {
        let (throttle, party, count) = (
            worker.throttle().clone(),
            Arc::clone(party),
            Arc::clone(count),
        );
        running.spawn(async move {
            loop {
                throttle.token(&path("big"), &limits, &party).await;
                *count.lock().unwrap() += 1;
            }
        });
    }
    running
}

fn taken(count: &Mutex<usize>) -> usize {
    *count.lock().unwrap()
}

/// How long each of `count` tokens for transactional mail took, with a pause of `gap` before each.
async fn waits(worker: &Worker, limits: Limits, count: usize, gap: Duration) -> Vec<Duration> {
    let (there, party) = (path("big"), urgent());
    let mut waits = Vec::new();
    for _ in 0..count {
        tokio::time::sleep(gap).await;
        let asked = Instant::now();
        worker.throttle().token(&there, &limits, &party).await;
        waits.push(asked.elapsed());
    }
    waits
}

#[tokio::test]
async fn within_a_worker_urgent_mail_has_the_next_token() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let limits = limits("10/s", 100).with_burst(1);
    let count = Arc::default();
    let _running = load(&worker, 20, &bulk(), limits, &count);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let waits = waits(&worker, limits, 8, Duration::from_millis(250)).await;
    let worst = waits.iter().max().unwrap();
    assert!(*worst < Duration::from_millis(100) + SLACK, "{waits:?}");
    assert!(taken(&count) > 3, "bulk goes on");
}

#[tokio::test]
async fn a_party_whose_mail_turns_urgent_while_it_waits_is_served_as_such() {
    struct Turns(Instant);
    impl Party for Turns {
        fn next_class(&self) -> Option<model::Class> {
            match self.0.elapsed() < Duration::from_millis(250) {
                true => Some(model::Class::Bulk),
                false => Some(model::Class::Transactional),
            }
        }
    }
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let limits = limits("10/s", 100).with_burst(1);
    let count = Arc::default();
    let _running = load(&worker, 20, &bulk(), limits, &count);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let turns: Arc<dyn Party> = Arc::new(Turns(Instant::now()));
    let asked = Instant::now();
    worker.throttle().token(&path("big"), &limits, &turns).await;
    let took = asked.elapsed();
    assert!(took < Duration::from_millis(350) + SLACK, "{took:?}");
}

#[tokio::test]
async fn a_connection_for_urgent_mail_has_its_token_before_those_for_bulk() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let limits = limits("10/s", 100).with_burst(1);
    let (there, order) = (path("big"), Mutex::new(Vec::new()));
    worker.token(&there, &limits).await;
    let open = |name: &'static str, party: Arc<dyn Party>| {
        let (worker, there, order) = (&worker, &there, &order);
        async move {
            let slot = worker.slot(there, &limits, &party).await.unwrap();
            order.lock().unwrap().push(name);
            slot
        }
    };
    let held = tokio::join!(
        open("bulk", bulk()),
        open("bulk", bulk()),
        open("urgent", urgent())
    );
    drop(held);
    assert_eq!(order.into_inner().unwrap(), ["urgent", "bulk", "bulk"]);
}

#[tokio::test]
async fn a_connection_uses_a_token_that_is_in_hand_and_puts_it_back_if_it_is_refused() {
    let server = RedisServer::start();
    let lease = Duration::from_secs(1);
    let worker = Worker::launch(
        &server,
        Settings {
            lease,
            ..settings("one")
        },
    );
    worker.reach(Mode::Shared).await;
    // A lease is ten tokens, and five must be there before there is another.
    let limits = limits("10/s", 1).with_burst(20);
    let there = path("big");
    while worker.take(&there, &limits).await.is_ok() {}
    tokio::time::sleep(lease + SLACK).await;
    assert!(worker.take(&there, &limits).await.is_ok());
    let before: String = server.run("GET {test}:rate:big|mta-1").await;
    let slot = worker.open(&there, &limits).await.unwrap();
    let refused = worker.open(&there, &limits).await;
    assert!(refused.is_err(), "there is one connection");
    for _ in 0..8 {
        assert!(worker.take(&there, &limits).await.is_ok());
    }
    assert!(worker.take(&there, &limits).await.is_err());
    let after: String = server.run("GET {test}:rate:big|mta-1").await;
    assert_eq!(before, after, "nothing was taken from the bucket");
    drop(slot);
}

#[tokio::test]
async fn among_workers_urgent_mail_has_the_next_token_also_where_it_is_a_little_late() {
    let server = RedisServer::start();
    let (one, two) = (
        Worker::join(&server, "one").await,
        Worker::join(&server, "two").await,
    );
    let limits = limits("4/s", 100).with_burst(1);
    let count = Arc::default();
    let _running = load(&one, 5, &bulk(), limits, &count);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (there, urgent) = (path("big"), urgent());
    let mut waits = Vec::new();
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let asked = Instant::now();
        while let Err(wait) = two.throttle().take(&there, &limits, &urgent).await {
            tokio::time::sleep(wait.retry_after + Duration::from_millis(80)).await;
            assert!(asked.elapsed() < Duration::from_secs(5), "it never comes");
        }
        waits.push(asked.elapsed());
    }
    let worst = waits.iter().max().unwrap();
    let interval = limits.rate().unwrap().interval();
    assert!(*worst < interval * 2 + SLACK, "{waits:?}");
    assert!(taken(&count) > 3, "bulk goes on");
}

#[tokio::test]
async fn urgent_mail_is_heard_of_although_bulk_of_its_worker_was_refused_before() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let (there, limits) = (path("big"), limits("1/h", 1));
    while worker.take(&there, &limits).await.is_ok() {}
    assert_eq!(
        server
            .run::<u32>("EXISTS {test}:rate:big|mta-1|urgent")
            .await,
        0
    );
    let refused = worker.throttle().take(&there, &limits, &urgent()).await;
    assert!(refused.is_err(), "there is none for anybody");
    assert_eq!(
        server
            .run::<u32>("EXISTS {test}:rate:big|mta-1|urgent")
            .await,
        1
    );
}

/// What one worker gets that takes all it can, and asks again `late` after the time it was told.
async fn greedy(worker: &Worker, party: Arc<dyn Party>, limits: Limits, late: Duration) -> usize {
    let (there, end) = (path("big"), Instant::now() + Duration::from_secs(5));
    let mut taken = 0;
    while Instant::now() < end {
        match worker.throttle().take(&there, &limits, &party).await {
            Ok(()) => taken += 1,
            Err(wait) => tokio::time::sleep(wait.retry_after + late).await,
        }
    }
    taken
}

#[tokio::test]
async fn bulk_that_is_always_too_late_has_its_tokens_all_the_same() {
    let server = RedisServer::start();
    let (one, two) = (
        Worker::join(&server, "one").await,
        Worker::join(&server, "two").await,
    );
    let limits = limits("10/s", 100).with_burst(4);
    while one.take(&path("big"), &limits).await.is_ok() {}
    let (bulk, urgent) = tokio::join!(
        greedy(&one, bulk(), limits, Duration::from_millis(50)),
        greedy(&two, urgent(), limits, Duration::ZERO),
    );
    println!("{bulk} for bulk, {urgent} for urgent mail");
    assert!(
        (4..10).contains(&bulk),
        "bulk has {bulk}, urgent mail {urgent}"
    );
    assert!(bulk + urgent > 40, "{} of 50 were used", bulk + urgent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn among_workers_bulk_has_one_token_in_nine_of_what_urgent_mail_leaves_nothing_of() {
    let server = RedisServer::start();
    let (one, two) = (
        Worker::join(&server, "one").await,
        Worker::join(&server, "two").await,
    );
    let limits = limits("100/s", 100).with_burst(20);
    let (many, much) = (Arc::default(), Arc::default());
    let _bulk = load(&one, 5, &bulk(), limits, &many);
    let _urgent = load(&two, 5, &urgent(), limits, &much);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (bulk_before, urgent_before) = (taken(&many), taken(&much));
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (bulk, urgent) = (taken(&many) - bulk_before, taken(&much) - urgent_before);
    println!("{bulk} for bulk, {urgent} for urgent mail");
    assert!(bulk * 20 > urgent, "bulk has {bulk}, urgent mail {urgent}");
    assert!(bulk * 5 < urgent, "bulk has {bulk}, urgent mail {urgent}");
    assert!(bulk + urgent > 340, "{} of 400 were used", bulk + urgent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_some_urgent_mail_bulk_uses_what_is_left_of_the_rate() {
    let server = RedisServer::start();
    let (one, two) = (
        Worker::join(&server, "one").await,
        Worker::join(&server, "two").await,
    );
    // Without a burst whatever comes late is lost, on a busy machine more than here.
    for (rate, burst, at_least) in [(50, 50, 0.85), (10, 1, 0.65)] {
        server.run::<()>("FLUSHDB").await;
        let limits = limits(&format!("{rate}/s"), 100).with_burst(burst);
        let count = Arc::default();
        let running = load(&one, 5, &bulk(), limits, &count);
        // A wiped bucket is empty, and rates are kept by shares for a time to live.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let (before, began) = (taken(&count), Instant::now());
        let gap = Duration::from_secs(3) / rate;
        let urgent = waits(&two, limits, rate as usize, gap).await;
        let took = began.elapsed().as_secs_f64();
        let used = (taken(&count) - before + urgent.len()) as f64;
        println!("{used} in {took:.1} s at {rate}/s");
        assert!(
            used > at_least * took * f64::from(rate),
            "{used} in {took} s"
        );
        drop(running);
    }
}

#[tokio::test]
async fn bulk_waits_for_no_worker_that_has_gone_away_and_every_note_expires() {
    let server = RedisServer::start();
    let (one, two) = (
        Worker::join(&server, "one").await,
        Worker::join(&server, "two").await,
    );
    let (there, limits) = (path("big"), limits("2/s", 100).with_burst(1));
    one.token(&there, &limits).await;
    let refused = two.throttle().take(&there, &limits, &urgent()).await;
    assert!(refused.is_err(), "the token is gone");
    two.leave().await;
    let asked = Instant::now();
    let waiting = one.token(&there, &limits);
    let looking = async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        let keys: Vec<String> = server.run("KEYS *").await;
        for note in ["urgent", "yielded"] {
            let key = format!("{{test}}:rate:big|mta-1|{note}");
            assert!(keys.contains(&key), "{keys:?}");
        }
        for key in keys {
            let left = server.run::<i64>(&format!("PTTL {key}")).await;
            assert!(left > 0, "{key} stays for ever");
        }
    };
    tokio::join!(waiting, looking);
    let took = asked.elapsed();
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

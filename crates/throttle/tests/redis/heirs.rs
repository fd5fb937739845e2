//! A party without a connection has the next that its worker gives up.

use std::sync::Arc;
use std::time::Duration;

use throttle::{Limits, Party, Reason};
use tokio::time::{Instant, timeout};

use crate::server::RedisServer;
use crate::worker::{Worker, bulk, limits, path, urgent};

/// What scheduling on a busy machine may add.
const SLACK: Duration = Duration::from_millis(100);
/// How long a party keeps its connection from another one's bulk, at least.
const KEPT: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(10);

/// A party whose slot of the only one there is has sent a message, and one that waits for it: how long it waited.
async fn waited(worker: &Worker, holder: Arc<dyn Party>, heir: Arc<dyn Party>) -> Duration {
    let (there, limits) = (path("big"), limits("1000/s", 1));
    let slot = worker.slot(&there, &limits, &holder).await.unwrap();
    slot.token(&limits).await;
    let asked = Instant::now();
    let waiting = worker.slot(&there, &limits, &heir);
    let yielding = async {
        slot.wanted().await;
        assert!(slot.is_wanted());
        drop(slot);
    };
    let (inherited, ()) = timeout(PATIENCE, async { tokio::join!(waiting, yielding) })
        .await
        .expect("nothing was given up");
    let inherited = inherited.unwrap();
    assert!(inherited.is_fresh());
    inherited.token(&limits).await;
    asked.elapsed()
}

#[tokio::test]
async fn bulk_gives_its_connection_up_for_urgent_mail_at_once() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let took = waited(&worker, bulk(), urgent()).await;
    assert!(took < SLACK, "{took:?}");
}

#[tokio::test]
async fn to_its_like_a_party_gives_its_connection_up_after_a_while() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    for (holder, heir) in [(bulk(), bulk()), (urgent(), urgent()), (urgent(), bulk())] {
        let took = waited(&worker, holder, heir).await;
        let soon = KEPT + Duration::from_secs(1) + SLACK;
        assert!((KEPT - SLACK..soon).contains(&took), "{took:?}");
    }
}

#[tokio::test]
async fn a_connection_is_given_up_only_once_it_was_of_use() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let (there, limits) = (path("big"), limits("1000/s", 1));
    let slot = worker.slot(&there, &limits, &bulk()).await.unwrap();
    let urgent = urgent();
    let waiting = worker.slot(&there, &limits, &urgent);
    let using = async {
        assert!(timeout(SLACK, slot.wanted()).await.is_err());
        assert!(slot.take(&limits).await.is_ok());
        assert!(slot.is_wanted());
        drop(slot);
    };
    let (inherited, ()) = tokio::join!(waiting, using);
    assert!(inherited.is_ok());
}

#[tokio::test]
async fn who_has_a_connection_leaves_the_next_to_who_has_none() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let (there, limits) = (path("big"), Limits::new(None, 2));
    let (many, none) = (bulk(), bulk());
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(worker.slot(&there, &limits, &many).await.unwrap());
    }
    let snatching = async {
        // Refused at once: it has others.
        let wait = worker.slot(&there, &limits, &many).await.unwrap_err();
        assert_eq!(wait.reason, Reason::ConnectionsInUse);
        held.pop();
        let freed = Instant::now();
        let wait = worker.open(&there, &limits).await.unwrap_err();
        assert_eq!(
            wait.reason,
            Reason::ConnectionsInUse,
            "Redis never saw it free"
        );
        freed
    };
    let waiting = worker.slot(&there, &limits, &none);
    // It waits before anything comes free.
    let (inherited, freed) = tokio::join!(biased; waiting, snatching);
    let took = freed.elapsed();
    assert!(inherited.is_ok() && took < SLACK, "{took:?}");
}

#[tokio::test]
async fn what_other_workers_give_back_is_left_to_who_has_none_as_well() {
    let server = RedisServer::start();
    let (one, two) = (
        Worker::join(&server, "one").await,
        Worker::join(&server, "two").await,
    );
    let (there, limits) = (path("big"), Limits::new(None, 2));
    let (many, none) = (bulk(), bulk());
    let _held = one.slot(&there, &limits, &many).await.unwrap();
    let others = two.open(&there, &limits).await.unwrap();
    let waiting = one.slot(&there, &limits, &none);
    let snatching = async {
        // Refused at once: it has others.
        assert!(one.slot(&there, &limits, &many).await.is_err());
        drop(others);
        while server.run::<u32>("ZCARD {test}:slots:big|mta-1").await > 1 {}
        assert!(one.slot(&there, &limits, &many).await.is_err());
    };
    let (got, ()) = tokio::join!(biased; waiting, snatching);
    assert!(got.is_ok());
}

#[tokio::test]
async fn who_stops_waiting_leaves_no_slot_behind() {
    let server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    let (there, limits) = (path("big"), Limits::new(None, 1));
    let slot = worker.open(&there, &limits).await.unwrap();
    {
        let heir = bulk();
        let waiting = worker.slot(&there, &limits, &heir);
        tokio::pin!(waiting);
        assert!(timeout(SLACK, &mut waiting).await.is_err(), "it is in use");
        drop(slot);
    }
    worker.open_soon(&there, &limits).await;
}

#[tokio::test]
async fn without_redis_a_connection_is_given_up_as_well() {
    let mut server = RedisServer::start();
    let worker = Worker::join(&server, "one").await;
    server.kill();
    worker.reach(throttle::Mode::Local).await;
    let took = waited(&worker, bulk(), urgent()).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

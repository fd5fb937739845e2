//! Redis away costs callers next to nothing.

use std::time::Duration;

use history::{History, HistoryError, Settings};
use model::JobId;
use tokio::time::Instant;

use crate::server::RedisServer;

const PAUSE: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);

fn history(server: &RedisServer) -> History {
    let settings = Settings {
        pause: PAUSE,
        ..Settings::for_cell("test")
    };
    History::connect(&server.url(), settings).unwrap()
}

/// Until it answers again: with the first call behind the pause.
async fn back(history: &History) {
    let answers = async {
        while let Err(error) = history.done(JobId::fresh()).await {
            assert!(error.is_passing(), "{error}");
            tokio::time::sleep(PAUSE / 10).await;
        }
    };
    tokio::time::timeout(PATIENCE, answers)
        .await
        .expect("it never came back");
}

#[tokio::test]
async fn a_history_without_redis_fails_at_once_and_works_once_it_is_there() {
    let mut server = RedisServer::absent();
    let history = history(&server);
    let start = Instant::now();
    for _ in 0..100 {
        assert!(history.done(JobId::fresh()).await.unwrap_err().is_passing());
    }
    assert!(
        start.elapsed() < Duration::from_millis(200),
        "{:?}",
        start.elapsed()
    );
    server.launch();
    back(&history).await;
}

#[tokio::test]
async fn a_killed_redis_is_found_again_when_it_returns() {
    let mut server = RedisServer::start();
    let history = history(&server);
    back(&history).await;
    server.kill();
    assert!(history.done(JobId::fresh()).await.is_err());
    assert!(matches!(
        history.done(JobId::fresh()).await,
        Err(HistoryError::Away)
    ));
    server.launch();
    back(&history).await;
}

#[tokio::test]
async fn a_frozen_redis_costs_one_call_its_deadline_and_the_next_ones_nothing() {
    let server = RedisServer::start();
    let history = history(&server);
    back(&history).await;
    server.freeze();
    assert!(matches!(
        history.done(JobId::fresh()).await,
        Err(HistoryError::Late)
    ));
    let start = Instant::now();
    for _ in 0..100 {
        assert!(matches!(
            history.done(JobId::fresh()).await,
            Err(HistoryError::Away)
        ));
    }
    assert!(
        start.elapsed() < Duration::from_millis(200),
        "{:?}",
        start.elapsed()
    );
    server.thaw();
    back(&history).await;
}

#[tokio::test]
async fn callers_that_come_before_the_first_connection_share_it() {
    let server = RedisServer::start();
    let history = history(&server);
    let (first, second) = tokio::join!(history.done(JobId::fresh()), history.done(JobId::fresh()));
    assert!(first.is_ok() && second.is_ok());
}

#[test]
fn what_is_no_address_is_refused_at_once() {
    let refused = History::connect("not an address", Settings::default());
    assert!(matches!(refused, Err(HistoryError::Address(_))));
}

//! Notes of intent.

use model::JobId;

use crate::entries::history;
use crate::server::RedisServer;

#[tokio::test]
async fn attempts_that_did_not_end_are_counted_and_one_that_does_clears_the_job() {
    let server = RedisServer::start();
    let history = history(&server);
    let (job, other) = (JobId::fresh(), JobId::fresh());
    assert_eq!(history.begin_attempt(job).await.unwrap(), 0);
    assert_eq!(history.begin_attempt(job).await.unwrap(), 1);
    assert_eq!(history.begin_attempt(job).await.unwrap(), 2);
    assert_eq!(history.begin_attempt(other).await.unwrap(), 0);
    history.end_attempt(job).await.unwrap();
    assert_eq!(history.begin_attempt(job).await.unwrap(), 0);
}

#[tokio::test]
async fn an_attempt_that_did_not_begin_is_not_counted() {
    let server = RedisServer::start();
    let history = history(&server);
    let job = JobId::fresh();
    history.begin_attempt(job).await.unwrap();
    history.begin_attempt(job).await.unwrap();
    history.withdraw_attempt(job).await.unwrap();
    assert_eq!(history.begin_attempt(job).await.unwrap(), 1);
    let left: i64 = server.run(&format!("PTTL {{test}}:intent:{job}")).await;
    assert!(left > 0, "{left}");
}

//! Reservations: of several processes one sends a job.

use std::time::Duration;

use model::JobId;

use crate::entries::history;
use crate::server::RedisServer;

const TTL: Duration = Duration::from_secs(30);

#[tokio::test]
async fn one_process_reserves_a_job_and_no_other_does() {
    let server = RedisServer::start();
    let (one, another) = (history(&server), history(&server));
    let (job, other) = (JobId::fresh(), JobId::fresh());
    assert!(one.reserve(job, TTL).await.unwrap());
    assert!(!another.reserve(job, TTL).await.unwrap());
    assert!(another.reserve(other, TTL).await.unwrap());
    server
        .run::<i64>(&format!("PEXPIRE {{test}}:reserved:{job} 1000"))
        .await;
    assert!(one.reserve(job, TTL).await.unwrap(), "it has it already");
    let left: i64 = server.run(&format!("PTTL {{test}}:reserved:{job}")).await;
    assert!((20_000..=30_000).contains(&left), "prolonged: {left}");
    one.release(job).await.unwrap();
    assert!(another.reserve(job, TTL).await.unwrap());
}

#[tokio::test]
async fn a_job_that_has_ended_is_reserved_for_nobody() {
    let server = RedisServer::start();
    let (one, another) = (history(&server), history(&server));
    let job = JobId::fresh();
    one.mark_done(job, b"delivered", Duration::from_secs(60))
        .await
        .unwrap();
    assert!(!one.reserve(job, TTL).await.unwrap());
    assert!(!another.reserve(job, TTL).await.unwrap());
}

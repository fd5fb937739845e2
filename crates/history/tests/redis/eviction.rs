//! A Redis that drops what it was told to keep.

use crate::entries::history;
use crate::server::RedisServer;

#[tokio::test]
async fn a_redis_with_a_bound_and_a_policy_to_evict_is_found_out() {
    let server = RedisServer::start();
    let history = history(&server);
    assert_eq!(history.eviction().await.unwrap(), None);
    let () = server.run("CONFIG SET maxmemory-policy volatile-lru").await;
    assert_eq!(history.eviction().await.unwrap(), None, "without a bound");
    let () = server.run("CONFIG SET maxmemory 100mb").await;
    let policy = history.eviction().await.unwrap();
    assert_eq!(policy.as_deref(), Some("volatile-lru"));
    let () = server.run("CONFIG SET maxmemory-policy noeviction").await;
    assert_eq!(history.eviction().await.unwrap(), None);
}

#[tokio::test]
async fn a_redis_that_is_away_is_not_found_out() {
    let history = history(&RedisServer::absent());
    assert!(history.eviction().await.is_err());
}

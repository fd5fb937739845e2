//! A Redis that may drop markers and limits when its memory is full: nothing starts with it.

use postrider::local::Service;
use tests::{Setup, evict_above};

use super::PROGRAM;

#[tokio::test]
async fn a_redis_that_evicts_is_refused_with_the_remedy() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).allowing("error: the Redis at redis.url drops keys");
    let mut cluster = setup.start().await?;
    evict_above(&cluster.stack()?.redis().url, "100mb").await?;
    for (name, verb) in [("ingest-1", "ingest"), ("worker-1", "delivery")] {
        cluster.start_service(&Service::new(name, verb))?;
        assert_eq!(cluster.ends(name).await?, Some(1));
        let log = cluster.log(name)?;
        for part in ["redis.url", "allkeys-lru", "noeviction"] {
            assert!(log.contains(part), "{part:?} is missing in: {log}");
        }
    }
    cluster.finish().await
}

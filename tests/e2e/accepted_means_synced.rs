//! Nothing runs on a queue that acknowledges before it has synced, or would not come back to it, unless it is told to, and then
//! it says so.

use postrider::local::Service;
use tests::{Books, PATIENCE, Setup, letter};

use super::PROGRAM;

const SERVICES: [&str; 2] = ["ingest", "delivery"];

#[tokio::test]
async fn a_queue_that_syncs_when_it_likes_is_refused_with_the_remedy() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM)
        .syncing_lazily()
        .allowing("error: prepare the queue");
    let mut cluster = setup.start().await?;
    for verb in SERVICES {
        cluster.start_service(&Service::new(verb, verb))?;
        assert_eq!(cluster.ends(verb).await?, Some(1));
        let log = cluster.log(verb)?;
        for remedy in ["sync_interval: always", "nats.sync = \"allow-lazy\""] {
            assert!(log.contains(remedy), "{remedy:?} is missing in: {log}");
        }
    }
    cluster.finish().await
}

#[tokio::test]
async fn for_development_it_is_taken_and_warned_of() -> anyhow::Result<()> {
    let warning = "nats.sync is allow-lazy: a power cut can lose accepted mail";
    let setup = Setup::new(PROGRAM).syncing_lazily().allowing(warning);
    let mut cluster = setup.start().await?;
    for verb in SERVICES {
        let environment = &[("POSTRIDER__NATS__SYNC", "allow-lazy")];
        cluster.start_service(&Service {
            name: verb,
            verb,
            environment,
        })?;
    }
    cluster.logged("ingest", "ingest listening").await?;
    for verb in SERVICES {
        cluster.logged(verb, warning).await?;
    }
    let api = cluster.api(0)?;
    api.submit(letter("ann@gmail.example")).await?;
    Books::default()
        .read_until_ended(1, &mut api.events().await?, PATIENCE)
        .await?;
    cluster.finish().await
}

#[tokio::test]
async fn copies_on_disks_that_keep_no_order_are_refused_with_the_remedy() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).allowing("error: prepare the queue");
    let mut cluster = setup.start().await?;
    for verb in SERVICES {
        let environment = &[("POSTRIDER__NATS__REPLICAS", "3")];
        cluster.start_service(&Service {
            name: verb,
            verb,
            environment,
        })?;
        assert_eq!(cluster.ends(verb).await?, Some(1));
        let log = cluster.log(verb)?;
        for remedy in ["nodelalloc", "nats.ordered_disks = true", "2.14.6"] {
            assert!(log.contains(remedy), "{remedy:?} is missing in: {log}");
        }
    }
    cluster.finish().await
}

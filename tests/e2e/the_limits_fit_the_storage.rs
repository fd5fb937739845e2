//! What the streams may hold fits into half of every server's storage, or nothing starts.

use postrider::local::Service;
use tests::Setup;

use super::PROGRAM;

#[tokio::test]
async fn limits_above_half_of_the_storage_are_refused_with_the_keys_and_the_remedy()
-> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).allowing("error: prepare the queue");
    let mut cluster = setup.start().await?;
    for (name, verb, key) in [
        ("ingest-1", "ingest", "POSTRIDER__NATS__READY_BYTES"),
        ("worker-1", "delivery", "POSTRIDER__NATS__EVENT_BYTES"),
    ] {
        cluster.start_service(&Service {
            name,
            verb,
            environment: &[(key, "1024TiB")],
        })?;
        assert_eq!(cluster.ends(name).await?, Some(1));
        let log = cluster.log(name)?;
        for part in [
            "nats.ready_bytes",
            "nats.event_bytes",
            "max_file_store",
            "1024TiB",
        ] {
            assert!(log.contains(part), "{part:?} is missing in: {log}");
        }
    }
    cluster.finish().await
}

//! Wherever a domain's owner points his names, nothing inside is ever connected to.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use api::v1::EventKind;
use futures_util::StreamExt as _;
use mailsim::config::RawProvider;
use tests::{Cluster, Setup, letter, provider, submit_all};
use tokio::time::timeout;

use super::PROGRAM;

const PATIENCE: Duration = Duration::from_secs(60);
/// What stands for the Internet here.
const PUBLIC: &str = "127.0.1.0/24";
/// Inside, where somebody listens.
const INSIDE: &str = "127.9.9.9";

/// Names by what they answer. An alias, and all that loopback can be called, would reach who listens.
const ANSWERS: [&str; 38] = [
    INSIDE,
    "127.0.0.1",
    "127.255.255.254",
    "mx1.inside.example",
    "::ffff:127.9.9.9",
    "::127.9.9.9",
    "::ffff:0:127.9.9.9",
    "64:ff9b::7f09:909",
    "2002:7f09:909::1",
    "::1",
    "::",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::ffff:10.0.0.1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "fc00::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
];

#[tokio::test]
async fn addresses_inside_get_no_connection_by_whatever_name() -> anyhow::Result<()> {
    let (cluster, record) = world(ANSWERS.map(|answer| vec![answer])).await?;
    let deferred = deferrals(&cluster, ANSWERS.len()).await?;
    for (number, answer) in ANSWERS.into_iter().enumerate() {
        let detail = &deferred[&format!("ann@p{number}.example")];
        assert!(detail.contains("must not be dialled"), "{answer}: {detail}");
    }
    assert_nobody_was_reached(&record)?;
    cluster.finish().await
}

/// An address is judged when it is dialled: behind one that is public may stand one that is not.
#[tokio::test]
async fn an_address_inside_beside_a_public_one_gets_no_connection() -> anyhow::Result<()> {
    // Nobody listens at the public one.
    let both = [
        "127.0.1.50 127.9.9.9",
        "127.9.9.9 127.0.1.50",
        "127.0.1.50 ::ffff:127.9.9.9",
    ];
    let (cluster, record) = world(both.map(|answer| vec![answer])).await?;
    let deferred = deferrals(&cluster, both.len()).await?;
    assert_eq!(deferred.len(), both.len(), "{deferred:?}");
    assert_nobody_was_reached(&record)?;
    cluster.finish().await
}

/// The same for a name that changes its mind between two attempts (DNS rebinding).
#[tokio::test]
async fn an_address_that_moves_inside_gets_no_connection() -> anyhow::Result<()> {
    let (cluster, record) = world([vec!["127.0.1.50", INSIDE]]).await?;
    let first = &deferrals(&cluster, 1).await?["ann@p0.example"];
    assert!(first.starts_with("connect to mx1.p0.example"), "{first}");
    let mut events = cluster.api(0)?.events().await?;
    loop {
        let next = timeout(PATIENCE, events.next()).await;
        let event = next.context("nothing more happens")?;
        let event = event.context("the server ended the watch")??;
        if event.detail.contains("must not be dialled") {
            break;
        }
    }
    assert_nobody_was_reached(&record)?;
    cluster.finish().await
}

/// A cluster for which only [`PUBLIC`] is the Internet, and domains `p0`, `p1`, ... whose exchangers have these answers.
async fn world<const N: usize>(
    answers: [Vec<&str>; N],
) -> anyhow::Result<(Cluster, tempfile::TempDir)> {
    let record = tempfile::tempdir()?;
    let setup = Setup::new(PROGRAM).configured(|config| {
        config.delivery.dialable = vec![PUBLIC.into()];
        config.mailsim.dns_ttl = "1s".into();
        config.mailsim.record = Some(record.path().to_owned());
        config.mailsim.providers = vec![
            provider("outside"),
            RawProvider {
                address: Some(INSIDE.into()),
                ..provider("inside")
            },
        ];
        for (number, answers) in answers.into_iter().enumerate() {
            config.mailsim.providers.push(RawProvider {
                address: Some(format!("127.8.0.{number}")),
                elsewhere: true,
                answers: answers.into_iter().map(str::to_owned).collect(),
                ..provider(&format!("p{number}"))
            });
        }
    });
    let cluster = setup.start_with(1).await?;
    Ok((cluster, record))
}

/// What was said of each of `count` jobs when it was deferred; and that mail to the outside arrives.
async fn deferrals(cluster: &Cluster, count: usize) -> anyhow::Result<BTreeMap<String, String>> {
    let api = cluster.api(0)?;
    let inward = (0..count).map(|number| letter(&format!("ann@p{number}.example")));
    submit_all(&api, inward.chain([letter("ann@outside.example")]), |_| ()).await?;
    let mut events = api.events().await?;
    let mut deferred = BTreeMap::new();
    let mut is_delivered = false;
    while deferred.len() < count || !is_delivered {
        let next = timeout(PATIENCE, events.next()).await;
        let event = next.with_context(|| format!("deferred so far: {deferred:?}"))?;
        let event = event.context("the server ended the watch")??;
        match event.kind() {
            EventKind::Deferred => {
                deferred.entry(event.recipient).or_insert(event.detail);
            }
            EventKind::Delivered => {
                ensure!(
                    event.recipient == "ann@outside.example",
                    "reached: {event:?}"
                );
                is_delivered = true;
            }
            // Who listens inside takes no mail for these domains.
            EventKind::Bounced => bail!("reached: {event:?}"),
            _ => {}
        }
    }
    Ok(deferred)
}

/// Every connection leaves a file of its provider's name.
fn assert_nobody_was_reached(record: &tempfile::TempDir) -> anyhow::Result<()> {
    let mut names = Vec::new();
    for file in std::fs::read_dir(record.path())? {
        names.push(file?.file_name().to_string_lossy().into_owned());
    }
    assert!(
        names.iter().any(|name| name.starts_with("outside-")),
        "{names:?}"
    );
    assert!(
        names.iter().all(|name| name.starts_with("outside-")),
        "{names:?}"
    );
    Ok(())
}

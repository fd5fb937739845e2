//! Tenants do not see each other: not by id, not by watching.

use anyhow::Context as _;
use api::v1::CancelRequest;
use futures_util::StreamExt as _;
use tests::{PATIENCE, Setup, eventually, letter};
use tonic::Code;

use super::PROGRAM;

#[tokio::test]
async fn another_tenants_message_is_not_found() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).tenant("globex").start_with(1).await?;
    let (acme, globex) = (cluster.api(0)?, cluster.api(1)?);
    let sent = acme.submit(letter("ann@gmail.example")).await?;
    let ids = [&sent.message_id, &sent.recipients[0].job_id];
    for id in ids {
        eventually("its own tenant finds it", PATIENCE, async || {
            Ok(acme.get(id).await.ok())
        })
        .await?;
        let refused = globex.get(id).await.err().map(|status| status.code());
        assert_eq!(refused, Some(Code::NotFound), "get {id}");
        let cancel = globex
            .messages()
            .cancel(CancelRequest { id: id.clone() })
            .await;
        assert_eq!(
            cancel.err().map(|status| status.code()),
            Some(Code::NotFound),
            "cancel {id}"
        );
    }
    cluster.finish().await
}

#[tokio::test]
async fn a_watcher_sees_its_own_tenants_events_alone() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).tenant("globex").start_with(1).await?;
    let (acme, globex) = (cluster.api(0)?, cluster.api(1)?);
    // Acme's events are recorded first, so a watcher that saw them would see them first.
    acme.submit(letter("ann@gmail.example")).await?;
    let mut watched = acme.events().await?.take(2);
    while let Some(event) = tokio::time::timeout(PATIENCE, watched.next()).await? {
        assert_eq!(event?.tenant, "acme");
    }
    let own = globex.submit(letter("bob@gmail.example")).await?;
    let mut watched = globex.events().await?;
    for _ in ["accepted", "delivered"] {
        let event = tokio::time::timeout(PATIENCE, watched.next()).await?;
        let event = event.context("the watch ended")??;
        assert_eq!(
            (event.tenant.as_str(), event.message_id),
            ("globex", own.message_id.clone())
        );
    }
    cluster.finish().await
}

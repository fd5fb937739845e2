//! One tenant queues many times what is sent in a second before another tenant's few come, of the same class, to the same
//! lane and the same domain: the few do not wait for the many.

use std::time::Duration;

use tests::{Books, Setup, bulk, messages, submit_all};

use super::PROGRAM;
use super::drained::{drained, jobs};

const CAMPAIGN: usize = 8000;
const FEW: usize = 20;
/// The lane is long from 1,000 on, and as many come from the overflow lane meanwhile.
const IN_FRONT: usize = 3000;
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::test]
async fn a_campaign_stands_in_front_of_nobody() -> anyhow::Result<()> {
    let campaign = messages(CAMPAIGN);
    let setup = Setup::new(PROGRAM)
        .tenant("globex")
        .configured(|config| config.nats.lanes = 1);
    let mut cluster = setup.start_with(0).await?;
    let (acme, globex) = (cluster.api(0)?, cluster.api(1)?);
    let (mut many, mut few) = (Books::default(), Books::default());
    let letters = (0..campaign).map(|number| bulk(&format!("customer{number}@gmail.example")));
    submit_all(&acme, letters, |answer| many.accepted(answer)).await?;
    let letters = (0..FEW).map(|number| bulk(&format!("friend{number}@gmail.example")));
    submit_all(&globex, letters, |answer| few.accepted(answer)).await?;
    let waiting = jobs(cluster.nats_url()?).await?;
    println!("waiting: {waiting:?}");
    assert_eq!(waiting.values().sum::<u64>() as usize, campaign + FEW);
    assert!(waiting["B-default-h0"] as usize <= IN_FRONT, "{waiting:?}");

    cluster.stack()?.start_worker("worker-1")?;
    few.read_until_ended(FEW, &mut globex.events().await?, PATIENCE)
        .await?;
    many.read_until_ended(campaign, &mut acme.events().await?, PATIENCE)
        .await?;
    drained(cluster.nats_url()?).await?;
    let ledger = cluster.ledger()?;
    let last = ledger
        .iter()
        .rposition(|entry| entry.recipient.starts_with("friend"));
    println!("the last of the few came as number {last:?}");
    assert!(last.is_some_and(|last| last < IN_FRONT), "{last:?}");
    let (to_few, to_many) = ledger
        .into_iter()
        .partition(|entry| entry.recipient.starts_with("friend"));
    for reconciled in [few.reconcile(to_few), many.reconcile(to_many)] {
        assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
        assert_eq!(reconciled.duplicates.len(), 0);
    }
    cluster.finish().await
}

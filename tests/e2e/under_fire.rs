//! A run during which something strikes again and again: clients that do not give up, and books that balance in the end.

use std::time::Duration;

use tests::{
    Api, Books, Cluster, Duplicate, keyed, moments, patience, stream_stubbornly, submit_stubbornly,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::drained::drained;

/// How long the rest of a run may take, once everything is accepted; see [`patience`].
const PATIENCE: Duration = Duration::from_secs(600);

/// How the clients submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clients {
    /// One call for each message, many at once.
    Call,
    /// One stream for all of them.
    Stream,
}

/// What is left of a run: no fault, and every job delivered.
#[derive(Debug)]
pub(crate) struct Survived {
    /// Messages that took more than one call, or streams beyond the first.
    pub(crate) repeated: usize,
    /// What stands in a mailbox more than once.
    pub(crate) duplicates: Vec<Duplicate>,
}

/// Has `count` messages accepted and delivered, while `strike` is called `strikes` times, at random moments, with how often
/// it was called before. Fails where a job comes to another end than one delivery, or did not arrive.
pub(crate) async fn survive(
    cluster: &mut Cluster,
    clients: Clients,
    count: usize,
    strikes: usize,
    mut strike: impl AsyncFnMut(&mut Cluster, usize) -> anyhow::Result<()>,
) -> anyhow::Result<Survived> {
    let moments = moments(strikes, count);
    let api = cluster.api(0)?;
    let mut books = Books::default();
    let (answered, mut progress) = watch::channel(0);
    let submit = async {
        let repeated = submit(&api, clients, count, &mut books, &answered).await?;
        println!("{repeated} repetitions");
        anyhow::Ok(repeated)
    };
    let strike = async {
        for (number, moment) in moments.into_iter().enumerate() {
            progress.wait_for(|answered| *answered >= moment).await?;
            strike(cluster, number).await?;
        }
        anyhow::Ok(())
    };
    let (repeated, ()) = tokio::try_join!(submit, strike)?;

    read_stubbornly(&mut books, count, &api).await?;
    drained(cluster.nats_url()?).await?;
    let duplicates = balanced(&books, cluster, count)?;
    Ok(Survived {
        repeated,
        duplicates,
    })
}

/// Every one of `count` jobs was delivered and did arrive, or this is an error; answers what arrived more than once.
pub(crate) fn balanced(
    books: &Books,
    cluster: &Cluster,
    count: usize,
) -> anyhow::Result<Vec<Duplicate>> {
    let reconciled = books.reconcile(cluster.ledger()?);
    println!("{} duplicates", reconciled.duplicates.len());
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert_eq!(reconciled.endings, [("EVENT_KIND_DELIVERED", count)].into());
    Ok(reconciled.duplicates)
}

async fn submit(
    api: &Api,
    clients: Clients,
    count: usize,
    books: &mut Books,
    answered: &watch::Sender<usize>,
) -> anyhow::Result<usize> {
    let letters = (0..count).map(|number| {
        keyed(
            &format!("customer{number}@gmail.example"),
            &format!("letter/{number}"),
        )
    });
    let mut repeated = 0;
    let mut accepted = |response| {
        books.accepted(response);
        answered.send_modify(|count| *count += 1);
    };
    match clients {
        Clients::Call => {
            submit_stubbornly(api, letters, |answer| {
                repeated += usize::from(answer.calls > 1);
                accepted(answer.response);
            })
            .await?;
        }
        Clients::Stream => repeated = stream_stubbornly(api, letters, accepted).await? - 1,
    }
    Ok(repeated)
}

/// Reads events until `count` jobs have ended; a watch that ends while the servers find together is begun anew.
pub(crate) async fn read_stubbornly(
    books: &mut Books,
    count: usize,
    api: &Api,
) -> anyhow::Result<()> {
    let patience = patience(PATIENCE);
    let deadline = Instant::now() + patience;
    loop {
        let Ok(mut events) = api.events().await else {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        match books.read_until_ended(count, &mut events, patience).await {
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => {}
            Ok(()) => return Ok(()),
        }
    }
}

//! Waits until the queue holds no job: what is in the mailboxes then is all that will ever be there.

use std::collections::BTreeMap;

use tests::{PATIENCE, eventually};

use super::broker;

/// The streams of ready and of deferred jobs.
const JOBS: [&str; 4] = ["T-", "B-", "DT-", "DB-"];

/// How many of the subjects are shown under which something is left.
const SHOWN: usize = 20;

/// Waits until no job is left in the queue at `url`. Servers that are finding together answer later.
pub(crate) async fn drained(url: &str) -> anyhow::Result<()> {
    let mut left = Ok(BTreeMap::new());
    let drained = eventually("the queue is empty", PATIENCE, async || {
        left = jobs(url).await;
        let is_drained = left.as_ref().is_ok_and(BTreeMap::is_empty);
        Ok(is_drained.then_some(()))
    })
    .await;
    match drained {
        Ok(()) => Ok(()),
        Err(error) => {
            let subjects = broker::subjects(url).await?;
            let some: Vec<&String> = subjects.iter().take(SHOWN).collect();
            Err(error.context(format!("left in the queue: {left:?}, such as {some:?}")))
        }
    }
}

/// How many jobs each stream holds, if it holds any.
pub(crate) async fn jobs(url: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut occupied = broker::occupied(url).await?;
    occupied.retain(|stream, _| JOBS.iter().any(|kind| stream.starts_with(kind)));
    Ok(occupied)
}

//! Pulls one stream's jobs into the window.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use queue::{Puller, QueueError};
use runtime::Tasks;
use tokio::sync::Semaphore;

use crate::intake::Intake;

/// The pause after a pull that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The most jobs of one pull.
const BATCH: usize = 250;

/// Pulls until shutdown; never more than `places` jobs of this stream are in hand.
pub(crate) async fn run(puller: Puller, places: usize, intake: Arc<Intake>, tasks: Tasks) {
    let window = Arc::new(Semaphore::new(places));
    let shutdown = tasks.shutdown().clone();
    while !shutdown.is_requested() {
        tokio::select! {
            () = shutdown.requested() => return,
            pulled = pull(&puller, &window, &intake, &tasks) => if let Err(error) = pulled {
                tracing::warn!(stream = puller.stream(), %error, "pull failed, trying again");
                tokio::time::sleep(PAUSE).await;
            },
        }
    }
}

/// One batch, as large as there is room for.
async fn pull(
    puller: &Puller,
    window: &Arc<Semaphore>,
    intake: &Arc<Intake>,
    tasks: &Tasks,
) -> Result<(), QueueError> {
    let closed = |_| QueueError::Refused("the window has ended".to_owned());
    let first = Arc::clone(window).acquire_owned().await.map_err(closed)?;
    let room = window.available_permits().min(BATCH - 1);
    let rest = Arc::clone(window)
        .acquire_many_owned(u32::try_from(room).unwrap_or(0))
        .await
        .map_err(closed)?;
    let (mut first, mut rest) = (Some(first), rest);
    let mut batch = std::pin::pin!(puller.pull(room + 1).await?);
    while let Some(pulled) = batch.next().await {
        let pulled = pulled?;
        let Some(place) = first.take().or_else(|| rest.split(1)) else {
            break;
        };
        let intake = Arc::clone(intake);
        tasks.spawn("intake", async move { intake.take(pulled, place).await });
    }
    Ok(())
}

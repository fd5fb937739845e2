//! Pulls one stream's jobs into the window.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use queue::{Puller, QueueError};
use runtime::Tasks;

use crate::intake::Intake;
use crate::window::Window;

/// The pause after a pull that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The most jobs of one pull.
const BATCH: usize = 250;

/// Pulls until shutdown; never more of this stream is in hand than `window` has room for.
pub(crate) async fn run(puller: Puller, window: Window, intake: Arc<Intake>, tasks: Tasks) {
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
    window: &Window,
    intake: &Arc<Intake>,
    tasks: &Tasks,
) -> Result<(), QueueError> {
    let mut seats = window.seats(BATCH).await;
    let mut batch = std::pin::pin!(puller.pull(seats.count()).await?);
    while let Some(pulled) = batch.next().await {
        let pulled = pulled?;
        let Some(place) = seats.take(pulled.payload.len()).await else {
            break;
        };
        let intake = Arc::clone(intake);
        tasks.spawn("intake", async move { intake.take(pulled, place).await });
    }
    Ok(())
}

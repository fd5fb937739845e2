//! Pulls one stream's jobs into its window.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use queue::{Puller, QueueError, Taken};
use runtime::{Shutdown, Tasks};

use crate::intake::Intake;
use crate::window::{Seats, Window};

/// The pause after a pull that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The most jobs of one pull.
const BATCH: usize = 250;

/// Pulls until `end`; never more of this stream is in hand than `window` has room for.
pub(crate) async fn run(
    puller: Puller,
    window: Window,
    intake: Arc<Intake>,
    tasks: Tasks,
    end: Shutdown,
) -> anyhow::Result<()> {
    loop {
        let seats = tokio::select! {
            biased;
            () = end.requested() => return Ok(()),
            seats = window.seats(BATCH) => seats,
        };
        // A pull that has begun is read to its end, also then: what the broker has handed out is given back at
        // once and not after `ack_wait`.
        if let Err(error) = pull(&puller, seats, &intake, &tasks).await {
            tracing::warn!(stream = puller.stream(), %error, "pull failed, trying again");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// One batch, as large as there is room for.
async fn pull(
    puller: &Puller,
    mut seats: Seats,
    intake: &Arc<Intake>,
    tasks: &Tasks,
) -> Result<(), QueueError> {
    let mut batch = std::pin::pin!(puller.pull(seats.count()).await?);
    let mut taken = 0;
    while let Some(pulled) = batch.next().await {
        let pulled = match pulled {
            Ok(pulled) => pulled,
            // A batch that is full by octets ends in an error, too.
            Err(_) if taken > 0 => break,
            Err(error) => return Err(error),
        };
        let Some(place) = seats.take(pulled.octets()).await else {
            break;
        };
        taken += 1;
        let intake = Arc::clone(intake);
        match pulled {
            Taken::Job(pulled) => {
                tasks.spawn("intake", async move { intake.take(pulled, place).await });
            }
            Taken::Bundle(bundle) => {
                tasks.spawn("unpack", async move { intake.unpack(bundle, place).await });
            }
        }
    }
    Ok(())
}

//! What every session of a worker works with.

use std::sync::Arc;
use std::time::Duration;

use model::{Clock, Source};
use queue::{Blobs, Tombstones};
use runtime::{Shutdown, Tasks};
use throttle::Throttle;
use tokio::sync::oneshot;

use crate::connect::Connector;
use crate::judge::{Judge, Judgement};
use crate::letter::Hook;
use crate::reservations::Reservations;
use crate::settle::{InHand, Marked, Settler};
use crate::suspects::Suspects;

/// The means to send; one for the whole worker.
pub(crate) struct Sender {
    pub(crate) connector: Connector,
    pub(crate) throttle: Throttle,
    pub(crate) blobs: Blobs,
    pub(crate) tombstones: Tombstones,
    pub(crate) hook: Option<Arc<dyn Hook>>,
    pub(crate) reservations: Reservations,
    pub(crate) suspects: Suspects,
    pub(crate) judge: Arc<Judge>,
    pub(crate) settler: Arc<Settler>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) idle: Duration,
    pub(crate) tasks: Tasks,
}

impl Sender {
    /// Where this worker sends from.
    pub(crate) fn source(&self) -> &Source {
        &self.connector.source
    }

    pub(crate) fn shutdown(&self) -> &Shutdown {
        self.tasks.shutdown()
    }

    /// Settles in the background. What is answered ends as soon as a marker says how the job ended, or none is going to:
    /// until then the connection must not complete another message, or its death would cost two duplicates.
    pub(crate) fn settle(&self, held: InHand, judgement: Judgement) -> oneshot::Receiver<()> {
        let settler = Arc::clone(&self.settler);
        let (marked, told) = oneshot::channel();
        self.tasks.spawn("settle", async move {
            settler
                .settle_telling(held, judgement, Marked::telling(marked))
                .await;
        });
        told
    }
}

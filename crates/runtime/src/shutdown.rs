//! The order to end: given once, seen by everybody.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Tells a service to stop accepting, finish what is in hand, hand back the rest and return.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Gives the order. Later calls change nothing.
    pub fn request(&self) {
        self.0.cancel();
    }

    /// Resolves once the order is given.
    pub fn requested(&self) -> WaitForCancellationFuture<'_> {
        self.0.cancelled()
    }

    /// Whether the order is given.
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// An order that this one implies, but that can also be given alone.
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// The underlying token, for libraries that take one.
    pub fn token(&self) -> CancellationToken {
        self.0.clone()
    }
}

/// Gives the order on SIGTERM or SIGINT; a second signal ends the process at once with code 130.
pub async fn on_signal(shutdown: Shutdown) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for turn in 0.. {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if turn > 0 {
            tracing::warn!("second signal, leaving work unfinished");
            std::process::exit(130);
        }
        tracing::info!("signal received, draining");
        shutdown.request();
    }
    Ok(())
}

//! Waiting for a condition, with a deadline.

use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// How long anything may take that should take a moment: generous, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// What `probe` finds, once it finds something.
pub async fn eventually<T>(
    what: &str,
    patience: Duration,
    mut probe: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = probe().await? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s in vain: {what}", patience.as_secs());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

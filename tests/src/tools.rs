//! Makes sure that nats-server and redis-server are there, once for all tests of a binary.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use tokio::sync::OnceCell;

static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// Runs `deploy/tools.sh`, which does nothing where both servers are there.
pub(crate) async fn install() -> anyhow::Result<()> {
    INSTALLED
        .get_or_try_init(|| async { run_script() })
        .await
        .copied()
}

fn run_script() -> anyhow::Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/tools.sh");
    let ran = Command::new(&script).output();
    let ran = ran.with_context(|| format!("run {}", script.display()))?;
    if !ran.status.success() {
        bail!(
            "{} failed: {}",
            script.display(),
            String::from_utf8_lossy(&ran.stderr)
        );
    }
    Ok(())
}

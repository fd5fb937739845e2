//! `all --embedded`: the servers a single node needs, as children of this process.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use model::Tenant;

use super::{NatsServer, RedisServer, disk};
use crate::config::Config;

/// A running nats-server and redis-server.
pub struct Embedded {
    nats: NatsServer,
    redis: RedisServer,
}

impl Embedded {
    /// Starts both with their data in `dir`, and points `config` at them. Without an API key in the configuration one
    /// is made and kept in `dir`.
    pub async fn start(dir: &Path, config: &mut Config) -> anyhow::Result<Self> {
        let nats = NatsServer::start(&dir.join("nats")).await?;
        let redis = RedisServer::start(&dir.join("redis")).await?;
        config.nats.point_at(&nats.url, &nats.monitor);
        config
            .nats
            .fit(|ready, events| disk::fit(ready, events, nats.max_file()));
        config.redis.url = redis.url.clone();
        if config.ingest.api_keys.is_empty() {
            let file = dir.join("api-key");
            let key = api_key(&file)?;
            let tenant: Tenant = "default".parse().context("name the tenant")?;
            config.ingest.allow(&key, tenant);
            eprintln!(
                "API key of tenant \"default\": {}\n  export POSTRIDER_API_KEY=$(cat {})",
                file.display(),
                file.display()
            );
        }
        Ok(Self { nats, redis })
    }

    /// Ends both in order.
    pub async fn stop(self) {
        self.nats.stop().await;
        self.redis.stop().await;
    }
}

/// The key in `file`; a new one, for its owner alone to read, where there is none.
fn api_key(file: &Path) -> anyhow::Result<String> {
    use std::io::Write as _;

    if let Ok(key) = std::fs::read_to_string(file) {
        return Ok(key.trim().to_owned());
    }
    let key = random_key();
    let created = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    let mut created = created.with_context(|| format!("create {}", file.display()))?;
    writeln!(created, "{key}").with_context(|| format!("write {}", file.display()))?;
    Ok(key)
}

/// 256 random bits as text.
pub(crate) fn random_key() -> String {
    let bytes: [u8; 32] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

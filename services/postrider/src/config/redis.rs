//! The section `[redis]`.

use std::time::Duration;

use model::parse_duration;
use runtime::{ConfigError, Faults};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The section as it is written.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawRedis {
    /// The server: redis://host:port, rediss:// for TLS, redis+unix:///path for a socket.
    pub url: String,
    /// The name of this installation, which all its keys begin with.
    pub cell: String,
    /// How long timelines are remembered.
    pub retention: String,
}

impl Default for RawRedis {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".into(),
            cell: "postrider".into(),
            retention: "3d".into(),
        }
    }
}

/// Shared limits, markers and timelines.
#[derive(Debug, Clone)]
pub struct Redis {
    /// The server.
    pub url: String,
    /// The name of this installation.
    pub cell: String,
    /// How long timelines are remembered.
    pub retention: Duration,
}

impl TryFrom<RawRedis> for Redis {
    type Error = ConfigError;

    fn try_from(raw: RawRedis) -> Result<Self, ConfigError> {
        let mut faults = Faults::new("redis");
        let retention = faults.check("retention", parse_duration(&raw.retention));
        let schemes = ["redis://", "rediss://", "redis+unix://", "unix://"];
        if !schemes.iter().any(|scheme| raw.url.starts_with(scheme)) {
            faults.add(
                "url",
                format!(
                    "{:?} must begin with one of {}",
                    raw.url,
                    schemes.join(", ")
                ),
            );
        }
        let name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if raw.cell.is_empty() || !raw.cell.chars().all(name) {
            faults.add("cell", "must be made of a-z, 0-9 and '-'");
        }
        faults.finish(retention.map(|retention| Self {
            url: raw.url,
            cell: raw.cell,
            retention,
        }))
    }
}

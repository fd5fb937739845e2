//! The configuration file: a section for each service and each thing they share.

mod log;
mod nats;
mod own_lanes;
mod redis;
mod reference;

use runtime::ConfigError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::log::{Log, RawLog};
pub use self::nats::{Nats, RawNats};
pub use self::own_lanes::RawOwnLanes;
pub use self::redis::{RawRedis, Redis};
pub use self::reference::reference;

/// The whole file as it is written. Every section and every key may be left out.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawConfig {
    /// What is logged, and how.
    pub log: RawLog,
    /// The queue.
    pub nats: RawNats,
    /// Shared limits, markers and timelines.
    pub redis: RawRedis,
    /// The service that accepts messages.
    pub ingest: ingest::config::RawConfig,
    /// The service that sends messages.
    pub delivery: delivery::config::RawConfig,
    /// The simulator.
    pub mailsim: mailsim::config::RawConfig,
}

/// A configuration that every service can run with.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is logged, and how.
    pub log: Log,
    /// The queue.
    pub nats: Nats,
    /// Shared limits, markers and timelines.
    pub redis: Redis,
    /// The service that accepts messages.
    pub ingest: ingest::config::Config,
    /// The service that sends messages.
    pub delivery: delivery::config::Config,
    /// The simulator.
    pub mailsim: mailsim::config::Config,
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    /// Reports the faults of all sections together.
    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        let mut faults = None;
        let log = keep(&mut faults, Log::try_from(raw.log));
        let nats = keep(&mut faults, Nats::try_from(raw.nats));
        let redis = keep(&mut faults, Redis::try_from(raw.redis));
        let ingest = keep(&mut faults, raw.ingest.try_into());
        let delivery = keep(&mut faults, raw.delivery.try_into());
        let mailsim = keep(&mut faults, raw.mailsim.try_into());
        let config = || {
            Some(Self {
                log: log?,
                nats: nats?,
                redis: redis?,
                ingest: ingest?,
                delivery: delivery?,
                mailsim: mailsim?,
            })
        };
        match (config(), faults) {
            (_, Some(faults)) => Err(faults),
            (Some(config), None) => Ok(config),
            (None, None) => Err(ConfigError::Invalid(Vec::new())),
        }
    }
}

/// The section, or its faults joined to those found before.
fn keep<T>(faults: &mut Option<ConfigError>, section: Result<T, ConfigError>) -> Option<T> {
    match section {
        Ok(section) => Some(section),
        Err(error) => {
            *faults = Some(match faults.take() {
                Some(earlier) => earlier.and(error),
                None => error,
            });
            None
        }
    }
}

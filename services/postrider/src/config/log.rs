//! The section `[log]`.

use runtime::{ConfigError, Faults};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use telemetry::LogFormat;

/// The section as it is written.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawLog {
    /// "json" for machines, "text" for people.
    pub format: String,
    /// Which lines: a level ("info"), or levels by module ("info,delivery=debug").
    pub filter: String,
}

impl Default for RawLog {
    fn default() -> Self {
        Self {
            format: "json".into(),
            filter: "info,hickory_server=warn".into(),
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// Which lines.
    pub filter: String,
}

impl TryFrom<RawLog> for Log {
    type Error = ConfigError;

    fn try_from(raw: RawLog) -> Result<Self, ConfigError> {
        let mut faults = Faults::new("log");
        let format = match raw.format.as_str() {
            "json" => Some(LogFormat::Json),
            "text" => Some(LogFormat::Text),
            other => {
                faults.add(
                    "format",
                    format!("{other:?} is neither \"json\" nor \"text\""),
                );
                None
            }
        };
        faults.finish(format.map(|format| Self {
            format,
            filter: raw.filter,
        }))
    }
}

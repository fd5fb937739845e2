//! Loads a service's configuration: a TOML file, then the environment on top.

use std::path::Path;

use config::{Config, Environment, File, FileFormat};
use serde::de::DeserializeOwned;

use crate::Fault;

/// Why there is no configuration to run with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read, is not TOML, has an unknown key or a value of the wrong type.
    #[error("{0}")]
    Unreadable(#[from] config::ConfigError),
    /// Values that are not right, each with its key and what would be.
    #[error("{}", list(.0))]
    Invalid(Vec<Fault>),
}

fn list(faults: &[Fault]) -> String {
    faults
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

impl ConfigError {
    /// Joins the faults of several sections, so that they are reported together.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Invalid(mut faults), Self::Invalid(more)) => {
                faults.extend(more);
                Self::Invalid(faults)
            }
            (first @ Self::Unreadable(_), _) | (_, first @ Self::Unreadable(_)) => first,
        }
    }
}

/// Reads `file`, where there is one, and then variables such as `POSTRIDER__INGEST__LISTEN`.
pub fn load_config<T: DeserializeOwned>(file: Option<&Path>) -> Result<T, ConfigError> {
    let mut builder = Config::builder();
    if let Some(path) = file {
        builder = builder.add_source(File::from(path).format(FileFormat::Toml));
    }
    let environment = Environment::with_prefix("POSTRIDER")
        .prefix_separator("__")
        .separator("__")
        .try_parsing(true);
    Ok(builder.add_source(environment).build()?.try_deserialize()?)
}

/// The environment variable `name`, if it is set and is text.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::Faults;

    #[derive(Debug, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Raw {
        listen: String,
        limit: u32,
    }

    impl Default for Raw {
        fn default() -> Self {
            Self {
                listen: "127.0.0.1:1".into(),
                limit: 10,
            }
        }
    }

    fn load(text: &str) -> Result<Raw, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postrider.toml");
        std::fs::write(&path, text).unwrap();
        load_config(Some(&path))
    }

    #[test]
    fn what_the_file_leaves_out_has_its_default() {
        let raw = load("limit = 3").unwrap();
        assert_eq!((raw.listen.as_str(), raw.limit), ("127.0.0.1:1", 3));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        assert!(
            load("lisen = \"x\"")
                .unwrap_err()
                .to_string()
                .contains("lisen")
        );
    }

    #[test]
    fn all_faults_are_reported_together() {
        let mut faults = Faults::new("ingest");
        let listen: Option<std::net::SocketAddr> = faults.parse("listen", "nowhere");
        let _: Option<model::Rate> = faults.parse("rate", "fast");
        let text = faults.finish(listen).unwrap_err().to_string();
        assert!(
            text.contains("ingest.listen: ") && text.contains("ingest.rate: "),
            "{text}"
        );
    }
}

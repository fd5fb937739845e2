//! What ingest has to be told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use model::{ByteSize, Tenant, parse_duration};
use runtime::{ConfigError, Faults};
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The section `[ingest]` as it is written.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawConfig {
    /// Address and port the gRPC API listens on; port 0 takes a free one.
    pub listen: String,
    /// Who may submit. Without a key nobody can.
    pub api_keys: Vec<RawApiKey>,
    /// The largest message accepted, as it will be sent: with attachments encoded.
    pub max_message_size: String,
    /// The most recipients of one call.
    pub max_recipients: usize,
    /// How long a message is tried where its sender does not say.
    pub default_lifetime: String,
    /// The longest a sender may ask for.
    pub max_lifetime: String,
    /// How far ahead a sender may ask for a message to be sent.
    pub max_send_ahead: String,
    /// How long calls in hand may take to end at shutdown.
    pub drain_deadline: String,
}

/// One API key.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawApiKey {
    /// The tenant that the key's messages belong to: a-z, 0-9 and '-'.
    pub tenant: String,
    /// The key itself, 16 characters or more. Give either this or `key_sha256`.
    #[serde(default, skip_serializing)]
    #[schemars(with = "Option<String>")]
    pub key: Option<SecretString>,
    /// The SHA-256 of the key, 64 hexadecimal digits, so that the file need not hold the key.
    #[serde(default)]
    pub key_sha256: Option<String>,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:50051".into(),
            api_keys: Vec::new(),
            max_message_size: "25MiB".into(),
            max_recipients: 1000,
            default_lifetime: "3d".into(),
            max_lifetime: "5d".into(),
            max_send_ahead: "30d".into(),
            drain_deadline: "30s".into(),
        }
    }
}

/// API keys by their SHA-256, so that looking one up takes no time that depends on the key.
pub type ApiKeys = HashMap<[u8; 32], Tenant>;

/// A configuration that ingest can run with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Who may submit.
    pub api_keys: ApiKeys,
    /// The largest message accepted.
    pub max_message_size: ByteSize,
    /// The most recipients of one call.
    pub max_recipients: usize,
    /// How long a message is tried by default.
    pub default_lifetime: Duration,
    /// The longest a sender may ask for.
    pub max_lifetime: Duration,
    /// How far ahead a message may be sent.
    pub max_send_ahead: Duration,
    /// How long calls in hand may take to end at shutdown.
    pub drain_deadline: Duration,
}

impl Config {
    /// The longest a message may be in the queue.
    pub fn longest_stay(&self) -> Duration {
        self.max_lifetime + self.max_send_ahead
    }

    /// Lets whoever has `key` submit for `tenant`.
    pub fn allow(&mut self, key: &str, tenant: Tenant) {
        self.api_keys.insert(digest(key), tenant);
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        let mut faults = Faults::new("ingest");
        let listen = faults.parse("listen", &raw.listen);
        let max_message_size = faults.parse("max_message_size", &raw.max_message_size);
        let default_lifetime =
            faults.check("default_lifetime", parse_duration(&raw.default_lifetime));
        let max_lifetime = faults.check("max_lifetime", parse_duration(&raw.max_lifetime));
        let max_send_ahead = faults.check("max_send_ahead", parse_duration(&raw.max_send_ahead));
        let drain_deadline = faults.check("drain_deadline", parse_duration(&raw.drain_deadline));
        let api_keys = api_keys(&raw.api_keys, &mut faults);
        if !(1..=10_000).contains(&raw.max_recipients) {
            faults.add("max_recipients", "must be from 1 to 10000");
        }
        if default_lifetime > max_lifetime {
            faults.add(
                "default_lifetime",
                "must not be longer than ingest.max_lifetime",
            );
        }
        let config = || {
            Some(Self {
                listen: listen?,
                api_keys,
                max_message_size: max_message_size?,
                max_recipients: raw.max_recipients,
                default_lifetime: default_lifetime?,
                max_lifetime: max_lifetime?,
                max_send_ahead: max_send_ahead?,
                drain_deadline: drain_deadline?,
            })
        };
        faults.finish(config())
    }
}

fn api_keys(raw: &[RawApiKey], faults: &mut Faults) -> ApiKeys {
    let mut keys = ApiKeys::new();
    for (index, entry) in raw.iter().enumerate() {
        let tenant = faults.parse(&format!("api_keys[{index}].tenant"), &entry.tenant);
        let digest = faults.check(&format!("api_keys[{index}]"), key_digest(entry));
        if let (Some(tenant), Some(digest)) = (tenant, digest)
            && keys.insert(digest, tenant).is_some()
        {
            faults.add(
                &format!("api_keys[{index}]"),
                "is the same key as an earlier entry's; give each its own",
            );
        }
    }
    keys
}

fn key_digest(entry: &RawApiKey) -> Result<[u8; 32], &'static str> {
    match (&entry.key, &entry.key_sha256) {
        (Some(key), None) if key.expose_secret().len() >= 16 => Ok(digest(key.expose_secret())),
        (Some(_), None) => Err("key must have 16 characters or more"),
        (None, Some(hex)) => from_hex(hex).ok_or("key_sha256 must be 64 hexadecimal digits"),
        (Some(_), Some(_)) | (None, None) => Err("needs either key or key_sha256"),
    }
}

/// The text of `key_sha256` for an API key.
pub fn key_sha256(key: &str) -> String {
    digest(key)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The SHA-256 of an API key.
pub(crate) fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

fn from_hex(hex: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect();
    if digits.len() == 64 {
        bytes.try_into().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert!(Config::try_from(RawConfig::default()).is_ok());
    }

    #[test]
    fn every_fault_is_named_with_its_key() {
        let raw = RawConfig {
            listen: "here".into(),
            max_message_size: "big".into(),
            api_keys: vec![RawApiKey {
                tenant: "A!".into(),
                key: Some("short".to_owned().into()),
                key_sha256: None,
            }],
            ..RawConfig::default()
        };
        let text = Config::try_from(raw).unwrap_err().to_string();
        for key in [
            "ingest.listen",
            "ingest.max_message_size",
            "ingest.api_keys[0].tenant",
            "16 characters",
        ] {
            assert!(text.contains(key), "{key} is missing in: {text}");
        }
    }

    #[test]
    fn a_key_may_be_given_by_its_digest() {
        let hex = key_sha256("a key long enough");
        let raw = RawConfig {
            api_keys: vec![RawApiKey {
                tenant: "acme".into(),
                key: None,
                key_sha256: Some(hex),
            }],
            ..RawConfig::default()
        };
        let keys = Config::try_from(raw).unwrap().api_keys;
        assert_eq!(keys[&digest("a key long enough")].as_str(), "acme");
    }
}

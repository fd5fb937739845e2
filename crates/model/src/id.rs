//! Names for messages and jobs.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Not the text of an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id; ids look like 0193e0d5-8c4a-7b6e-9f3d-2a1b5c7d9e0f")]
pub struct IdError(String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh id: UUIDv7 (RFC 9562), so ids sort by the time they were made.
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id that belongs to `parts`, the same on every call: UUIDv8 (RFC 9562) over their SHA-256.
            pub fn derived(parts: &[&[u8]]) -> Self {
                let mut hash = Sha256::new();
                for part in parts {
                    // With its length in front, no part can pass for the end of another.
                    hash.update((part.len() as u64).to_be_bytes());
                    hash.update(part);
                }
                let digest: [u8; 32] = hash.finalize().into();
                let mut bytes = [0; 16];
                bytes.copy_from_slice(&digest[..16]);
                Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
            }

            /// The id these 16 bytes stand for, on the wire and in the queue.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes of the id (RFC 9562, network order).
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| IdError(text.chars().take(64).collect()))
            }
        }
    };
}

id! {
    /// Names one submitted message, with all its recipients.
    MessageId
}
id! {
    /// Names one job: one message to one recipient.
    JobId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_and_its_bytes() {
        let id = JobId::fresh();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(JobId::from_bytes(*id.as_bytes()), id);
    }

    #[test]
    fn a_derived_id_depends_on_every_part_and_where_it_ends() {
        let id = JobId::derived(&[b"acme", b"key"]);
        assert_eq!(id, JobId::derived(&[b"acme", b"key"]));
        assert_ne!(id, JobId::derived(&[b"acmek", b"ey"]));
        assert_eq!(id.to_string().as_bytes()[14], b'8', "UUID version");
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        assert!("".parse::<JobId>().is_err());
        assert!("*.>".parse::<MessageId>().is_err());
    }
}

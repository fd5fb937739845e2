//! Names for messages and jobs.

use std::fmt;
use std::str::FromStr;

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
    fn what_is_not_an_id_is_refused() {
        assert!("".parse::<JobId>().is_err());
        assert!("*.>".parse::<MessageId>().is_err());
    }
}

//! Who a message belongs to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Not a name that can stand in subjects, keys and labels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name of 1 to 63 of a-z, 0-9 and '-' that begins with a letter or digit")]
pub struct NameError(String);

/// Whether `text` can stand in a NATS subject token, a Redis key and a metric label as it is.
pub(crate) fn check_name(text: &str) -> Result<(), NameError> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let fits = (1..=63).contains(&text.len());
    if fits && text.bytes().all(allowed) && !text.starts_with('-') {
        return Ok(());
    }
    Err(NameError(text.chars().take(80).collect()))
}

/// A customer of this installation. Everything that is stored or counted is scoped by one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tenant {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_name(text)?;
        Ok(Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_break_a_subject_or_a_key_is_refused() {
        for bad in [
            "",
            "-x",
            "a.b",
            "a*",
            "a b",
            "Acme",
            "a\r\n",
            &"x".repeat(64),
        ] {
            assert!(bad.parse::<Tenant>().is_err(), "{bad:?}");
        }
        assert_eq!("acme-2".parse::<Tenant>().unwrap().as_str(), "acme-2");
    }
}

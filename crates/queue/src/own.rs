//! Lanes that a big provider has for itself (ADR 26).

use std::fmt;
use std::str::FromStr;

use model::Domain;

/// The longest name: a stream's name holds more than this one.
const LONGEST: usize = 32;

/// A provider with lanes of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnLanes {
    /// What its lanes are called.
    pub name: LaneName,
    /// The domains whose mail goes through them. The first stands for the provider.
    pub domains: Vec<Domain>,
    /// How many lanes share that mail.
    pub lanes: u32,
}

/// What the lanes of a provider are called: lower-case letters and digits, the first a letter. It stands in the names of
/// streams and in subjects, and in front of a '-'.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LaneName(String);

/// Not a name for lanes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneNameError {
    /// It holds what a stream's name or a subject must not.
    #[error(
        "{0:?} must be 1 to {LONGEST} of a-z and 0-9, the first of them a letter: it stands in the names of streams"
    )]
    Characters(String),
    /// It reads like the key of a lane that every installation has.
    #[error("{0:?} reads like a hashed lane (h0) or an overflow lane (o0); take another name")]
    Taken(String),
}

impl fmt::Display for LaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LaneName {
    type Err = LaneNameError;

    fn from_str(text: &str) -> Result<Self, LaneNameError> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let begins_well = text.starts_with(|c: char| c.is_ascii_lowercase());
        if !begins_well || text.len() > LONGEST || !text.chars().all(is_plain) {
            let shown = text.chars().take(2 * LONGEST).collect();
            return Err(LaneNameError::Characters(shown));
        }
        let number = text.strip_prefix(['h', 'o']).unwrap_or_default();
        if !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()) {
            return Err(LaneNameError::Taken(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_letters_and_digits_and_begins_with_a_letter() {
        for good in ["gmail", "microsoft365", "hotmail", "o2online", "h"] {
            assert_eq!(good.parse::<LaneName>().unwrap().to_string(), good);
        }
        let long = "x".repeat(LONGEST + 1);
        for bad in [
            "", "Gmail", "1and1", "g-mail", "g.mail", "*", ">", "gmäil", "g mail", &long,
        ] {
            let refused = bad.parse::<LaneName>();
            assert!(
                matches!(refused, Err(LaneNameError::Characters(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn no_name_reads_like_a_lane_that_there_is_anyway() {
        for bad in ["h0", "o12"] {
            let refused = bad.parse::<LaneName>();
            assert_eq!(refused, Err(LaneNameError::Taken(bad.to_owned())));
        }
    }
}

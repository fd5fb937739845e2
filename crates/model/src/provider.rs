//! Who runs a mailbox, where we send from, and the pair of both that limits hold for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::tenant::{NameError, check_name};

/// Who runs the mailboxes of a domain: a reviewed name ("google"), or the name of its MX host set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Provider(Arc<str>);

impl Provider {
    /// A provider by its reviewed name or by a host name: lower-case letters, digits, dots and hyphens.
    ///
    /// Anything else in `name` becomes a hyphen, so that the result can stand in a key.
    pub fn new(name: &str) -> Self {
        let safe = |c: char| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '.' | '-') => c,
            _ => '-',
        };
        Self(name.chars().take(253).map(safe).collect::<String>().into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address we send from, by the name it has in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(Arc<str>);

impl Source {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Source {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_name(text)?;
        Ok(Self(text.into()))
    }
}

/// What limits hold for: one provider as seen from one source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path {
    /// Who receives.
    pub provider: Provider,
    /// Where we send from.
    pub source: Source,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}", self.provider, self.source)
    }
}

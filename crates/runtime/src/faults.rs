//! What is wrong with a configuration, all of it at once.

use std::fmt;
use std::str::FromStr;

use crate::ConfigError;

/// One thing wrong: which key, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key as the file has it: "ingest.listen".
    pub key: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// Collects faults while a raw configuration is turned into a valid one.
#[derive(Debug)]
pub struct Faults {
    section: &'static str,
    found: Vec<Fault>,
}

impl Faults {
    /// No faults yet in the section named `section`.
    pub fn new(section: &'static str) -> Self {
        Self {
            section,
            found: Vec::new(),
        }
    }

    /// Notes that `key` of this section is wrong.
    pub fn add(&mut self, key: &str, problem: impl fmt::Display) {
        self.found.push(Fault {
            key: format!("{}.{key}", self.section),
            problem: problem.to_string(),
        });
    }

    /// The value `text` stands for; notes a fault where it stands for none.
    pub fn parse<T: FromStr<Err: fmt::Display>>(&mut self, key: &str, text: &str) -> Option<T> {
        self.check(key, text.parse())
    }

    /// The value of `result`; notes a fault where it is an error.
    pub fn check<T, E: fmt::Display>(&mut self, key: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|problem| self.add(key, problem)).ok()
    }

    /// The values `texts` stand for; each that stands for none is a fault of `key[index]`.
    pub fn parse_all<T: FromStr<Err: fmt::Display>>(
        &mut self,
        key: &str,
        texts: &[String],
    ) -> Vec<T> {
        let parse = |(index, text): (usize, &String)| self.parse(&format!("{key}[{index}]"), text);
        texts.iter().enumerate().filter_map(parse).collect()
    }

    /// `value`, if it is there and no fault was noted in the whole section.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, ConfigError> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            Some(_) | None => Err(ConfigError::Invalid(self.found)),
        }
    }
}

//! Answers that refuse: each with a canonical code, a stable reason, and where a field is wrong its name and the remedy.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The `domain` of every `google.rpc.ErrorInfo`.
const DOMAIN: &str = "postrider";

/// Violations that an answer names; it travels in headers, which clients limit.
const SHOWN: usize = 20;

/// Everything wrong with one request.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    found: Vec<(String, String)>,
    /// Found beyond [`SHOWN`].
    more: usize,
}

impl Violations {
    /// Notes that `field` is wrong; `problem` says how and what would be right.
    pub(crate) fn add(&mut self, field: impl Into<String>, problem: impl std::fmt::Display) {
        if self.found.len() < SHOWN {
            self.found.push((field.into(), problem.to_string()));
        } else {
            self.more += 1;
        }
    }

    /// The value of `result`; notes a violation of `field` where it is an error.
    pub(crate) fn check<T, E: std::fmt::Display>(
        &mut self,
        field: impl Into<String>,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|problem| self.add(field, problem)).ok()
    }

    /// `value`, if it is there and nothing was found wrong; otherwise the answer that names all of it.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Status> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            Some(_) | None => Err(self.into_status()),
        }
    }

    fn into_status(self) -> Status {
        let lines: Vec<String> = self
            .found
            .iter()
            .map(|(field, problem)| format!("{field}: {problem}"))
            .collect();
        let more = if self.more > 0 {
            format!("; and {} more", self.more)
        } else {
            String::new()
        };
        let mut details = ErrorDetails::new();
        details.set_error_info("INVALID_FIELD", DOMAIN, HashMap::new());
        for (field, problem) in self.found {
            details.add_bad_request_violation(field, problem);
        }
        Status::with_error_details(Code::InvalidArgument, lines.join("; ") + &more, details)
    }
}

/// An answer with a reason in UPPER_SNAKE.
pub(crate) fn status(code: Code, reason: &str, problem: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, problem, details)
}

/// The same, with a hint when to try again.
pub(crate) fn status_with_retry(
    code: Code,
    reason: &str,
    problem: &str,
    after: Duration,
) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, HashMap::new());
    details.set_retry_info(Some(after));
    Status::with_error_details(code, problem, details)
}

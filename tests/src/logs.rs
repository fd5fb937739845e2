//! The services' logs: what must not stand in them, and their ends for whoever looks into a failure.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

/// Lines of each log that are shown when a test fails.
const TAIL: usize = 12;

/// What a slow machine makes a service say, which no test can announce: Redis has a quarter of a second to answer, the
/// broker five seconds.
const SLOW_MACHINE: [&str; 4] = [
    "events not stored yet, publishing again",
    "history is away, going on without",
    "queue not ready, trying again",
    "redis is away, throttling by local share",
];
/// How it says so.
const TOO_LATE: [&str; 2] = ["in time", "timed out"];

/// The logs in `dir`, in the order of their names.
pub(crate) fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.context("list the logs")?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Every line at WARN or ERROR whose message is not in `allowed`, and every line that is no JSON, such as a panic's,
/// and does not begin with one of them.
pub(crate) fn unexpected(file: &Path, allowed: &[&str]) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let lines = text.lines().filter(|line| is_unexpected(line, allowed));
    Ok(lines.map(|line| format!("{name}: {line}")).collect())
}

fn is_unexpected(line: &str, allowed: &[&str]) -> bool {
    let Ok(entry) = serde_json::from_str::<Value>(line) else {
        return !allowed.iter().any(|allowed| line.starts_with(allowed));
    };
    let is_loud = matches!(entry["level"].as_str(), Some("WARN" | "ERROR"));
    let message = entry["message"].as_str().unwrap_or_default();
    let is_slowness = SLOW_MACHINE.contains(&message)
        && entry["error"]
            .as_str()
            .is_some_and(|error| TOO_LATE.iter().any(|late| error.contains(late)));
    is_loud && !is_slowness && !allowed.contains(&message)
}

/// The last lines of every log in `dir`.
pub(crate) fn tails(dir: &Path) -> String {
    let mut out = format!("the logs are in {}\n", dir.display());
    for file in files(dir).unwrap_or_default() {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let _ = writeln!(out, "--- {}", file.display());
        for line in &lines[lines.len().saturating_sub(TAIL)..] {
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_test_announced_may_be_loud() {
        let warn = r#"{"level":"WARN","message":"redis is away"}"#;
        assert!(is_unexpected(warn, &[]));
        assert!(!is_unexpected(warn, &["redis is away"]));
        assert!(!is_unexpected(r#"{"level":"INFO","message":"up"}"#, &[]));
        assert!(is_unexpected(
            "thread 'main' panicked at",
            &["redis is away"]
        ));
    }
}

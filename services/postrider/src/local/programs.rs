//! Finds the servers' programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// Where `make tools` puts programs, in the directory of the checkout.
const TOOLS: &str = ".tools/bin";
/// The oldest nats-server that has all that is used, and was tried.
const NATS_AT_LEAST: (u32, u32) = (2, 14);

/// A nats-server new enough.
pub(crate) fn nats_server() -> anyhow::Result<PathBuf> {
    let candidates = candidates("nats-server", "POSTRIDER_NATS_SERVER");
    let mut found = Vec::new();
    for path in candidates {
        let version = nats_version(&path)?;
        if version >= NATS_AT_LEAST {
            return Ok(path);
        }
        found.push(format!("{} is {}.{}", path.display(), version.0, version.1));
    }
    let (major, minor) = NATS_AT_LEAST;
    bail!(
        "no nats-server {major}.{minor} or newer ({}); run `make tools`, or set POSTRIDER_NATS_SERVER to one",
        if found.is_empty() {
            "found none".to_owned()
        } else {
            found.join(", ")
        }
    )
}

/// A redis-server.
pub(crate) fn redis_server() -> anyhow::Result<PathBuf> {
    let found = candidates("redis-server", "POSTRIDER_REDIS_SERVER")
        .into_iter()
        .next();
    found.context("no redis-server found; run `make tools`, or set POSTRIDER_REDIS_SERVER to one")
}

/// Where a program may be: named by a variable, in the checkout's tools, or on the PATH.
fn candidates(name: &str, variable: &str) -> Vec<PathBuf> {
    let named = runtime::environment(variable).map(PathBuf::from);
    let here = std::env::current_dir().ok();
    let beside = std::env::current_exe().ok();
    let checkouts = [here, beside].into_iter().flatten();
    let tools = checkouts.flat_map(|from| {
        from.ancestors()
            .map(|folder| folder.join(TOOLS).join(name))
            .collect::<Vec<_>>()
    });
    let path = runtime::environment("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .collect();
    named
        .into_iter()
        .chain(tools)
        .chain(on_path)
        .filter(|path| path.is_file())
        .collect()
}

/// Major and minor version of a nats-server: it prints "nats-server: v2.15.1".
fn nats_version(path: &Path) -> anyhow::Result<(u32, u32)> {
    let printed = Command::new(path).arg("--version").output();
    let printed = printed.with_context(|| format!("run {} --version", path.display()))?;
    let text = String::from_utf8_lossy(&printed.stdout);
    let version = text.trim().rsplit('v').next().unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    Ok((numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)))
}

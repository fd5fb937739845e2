//! The workspace as cargo sees it.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// What a member is, by the folder it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In `services/`: runs.
    Service,
    /// In `crates/`: does not run by itself.
    Crate,
    /// The tests.
    Tests,
}

/// One package of the workspace.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Where it stands in the checkout: "crates/queue".
    pub(crate) folder: String,
    pub(crate) kind: Kind,
    /// What it is built from: dependencies for its tests alone do not count.
    pub(crate) dependencies: Vec<String>,
}

/// A file of the checkout.
pub(crate) fn checkout(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(path)
}

/// A text of the checkout.
pub(crate) fn read(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(checkout(path)).with_context(|| format!("read {path}"))
}

/// Every member.
pub(crate) fn members() -> anyhow::Result<Vec<Member>> {
    let metadata = MetadataCommand::new()
        .manifest_path(checkout("Cargo.toml"))
        .no_deps()
        .exec();
    let metadata = metadata.context("ask cargo for the workspace")?;
    metadata.packages.into_iter().map(member).collect()
}

fn member(package: Package) -> anyhow::Result<Member> {
    let root = checkout("").canonicalize().context("find the checkout")?;
    let manifest = package.manifest_path.as_std_path();
    let folder = manifest
        .parent()
        .and_then(|folder| folder.strip_prefix(&root).ok());
    let folder = folder.with_context(|| format!("{manifest:?} is not in the checkout"))?;
    let folder = folder.to_string_lossy().into_owned();
    let kind = match folder.split('/').next() {
        Some("services") => Kind::Service,
        Some("crates") => Kind::Crate,
        Some("tests") => Kind::Tests,
        Some(_) | None => bail!("{folder} is in no folder for its kind"),
    };
    let built_from = package
        .dependencies
        .into_iter()
        .filter(|dependency| dependency.kind != DependencyKind::Development);
    Ok(Member {
        name: package.name.to_string(),
        folder,
        kind,
        dependencies: built_from.map(|dependency| dependency.name).collect(),
    })
}

//! docs/architecture.md has a section for every member of the workspace, and for none that is gone.

use std::collections::BTreeSet;

use crate::workspace::{members, read};

#[test]
fn every_member_has_its_paragraph() -> anyhow::Result<()> {
    let text = read("docs/architecture.md")?;
    let members = members()?;
    let folders: BTreeSet<&str> = members
        .iter()
        .map(|member| member.folder.as_str())
        .collect();
    assert_eq!(
        sections(&text),
        folders,
        "sections of docs/architecture.md, and members"
    );
    Ok(())
}

/// The folders that headings of the third level name: "### `crates/queue`".
fn sections(text: &str) -> BTreeSet<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .collect()
}

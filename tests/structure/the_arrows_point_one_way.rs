//! Services depend on crates, crates on `model`, and the outside world is behind one crate each.

use std::collections::BTreeSet;

use crate::workspace::{Kind, Member, members};

/// Which members alone may be built from a library that speaks to a server (ADR 5 for Redis).
const GATES: [(&str, &[&str]); 4] = [
    ("async-nats", &["queue"]),
    ("redis", &["history", "throttle"]),
    ("hickory-resolver", &["routing"]),
    ("hickory-server", &["mailsim"]),
];

#[test]
fn crates_depend_on_model_alone() -> anyhow::Result<()> {
    let members = members()?;
    let ours = names(&members, |_| true);
    for member in members.iter().filter(|member| member.kind == Kind::Crate) {
        let used: Vec<&String> = member
            .dependencies
            .iter()
            .filter(|name| ours.contains(name.as_str()))
            .collect();
        assert!(
            used.iter().all(|name| *name == "model"),
            "{} depends on {used:?}",
            member.name
        );
    }
    Ok(())
}

#[test]
fn services_do_not_depend_on_services() -> anyhow::Result<()> {
    let members = members()?;
    let services = names(&members, |member| member.kind == Kind::Service);
    for member in members.iter().filter(|member| member.kind == Kind::Service) {
        if member.name == "postrider" {
            continue; // The one binary is made of them all.
        }
        let used: Vec<&String> = member
            .dependencies
            .iter()
            .filter(|name| services.contains(name.as_str()))
            .collect();
        assert!(used.is_empty(), "{} depends on {used:?}", member.name);
    }
    Ok(())
}

#[test]
fn each_server_is_spoken_to_by_its_crates_alone() -> anyhow::Result<()> {
    let members = members()?;
    for (library, allowed) in GATES {
        let users = names(&members, |member| {
            member.dependencies.iter().any(|name| name == library)
        });
        assert_eq!(
            users,
            allowed.iter().copied().collect(),
            "who is built from {library}"
        );
    }
    Ok(())
}

fn names(members: &[Member], wanted: impl Fn(&Member) -> bool) -> BTreeSet<&str> {
    let wanted = members.iter().filter(|member| wanted(member));
    wanted.map(|member| member.name.as_str()).collect()
}

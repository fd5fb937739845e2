//! Which domains wait in one line.

use anyhow::Context as _;
use model::{Domain, EgressGroup, JobId};
use queue::LaneMap;

/// The lanes that a configuration has which names none.
const LANES: u32 = 4;

/// `count` names `{stem}{number}` of providers whose domains are in one lane with that of the provider `other`, where there are
/// as many lanes as by default.
pub(crate) fn beside(other: &str, stem: &str, count: usize) -> anyhow::Result<Vec<String>> {
    let (lanes, job) = (
        LaneMap::new(&EgressGroup::default(), LANES, &[]),
        JobId::fresh(),
    );
    let lane_of = |name: &str| {
        let domain: Domain = format!("{name}.example").parse().context("no domain")?;
        anyhow::Ok(lanes.lane(&domain, job).clone())
    };
    let lane = lane_of(other)?;
    lane_of(stem)?;
    let names = (0..).map(|number| format!("{stem}{number}"));
    let beside = names.filter(|name| lane_of(name).is_ok_and(|own| own == lane));
    Ok(beside.take(count).collect())
}

//! Who pulls which lane: the same answer in every worker that knows the same workers (ADR 16).

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};

use crate::lane::weight;
use crate::{Lane, LaneMap};

impl LaneMap {
    /// The lanes that are `worker`'s to pull while `workers` are alive.
    ///
    /// As few workers as possible pull the same lane, none has more than one lane more than another, and none has
    /// nothing: where there are more workers than lanes, some share one. A worker that comes or goes moves few lanes.
    pub fn leased(&self, worker: &str, workers: &BTreeSet<String>) -> Vec<&Lane> {
        let (overflow, hashed): (Vec<&Lane>, Vec<&Lane>) =
            self.lanes().partition(|lane| lane.is_overflow());
        let mut leased = share_out(&hashed, worker, workers);
        leased.extend(share_out(&overflow, worker, workers));
        leased
    }
}

/// `worker`'s part of `lanes`: pairs of lane and worker are made by rendezvous weight, the heaviest first; in the first
/// round as many as everybody can have, in the second the rest.
fn share_out<'a>(lanes: &[&'a Lane], worker: &str, workers: &BTreeSet<String>) -> Vec<&'a Lane> {
    let mut pairs: Vec<(&'a Lane, &str)> = lanes
        .iter()
        .flat_map(|lane| workers.iter().map(|worker| (*lane, worker.as_str())))
        .collect();
    pairs.sort_by_cached_key(|(lane, worker)| Reverse(weight(worker, lane.key())));
    let (lanes, workers) = (lanes.len().max(1), workers.len().max(1));
    let rounds = [
        ((workers / lanes).max(1), (lanes / workers).max(1)),
        (workers.div_ceil(lanes), lanes.div_ceil(workers)),
    ];
    let mut pullers: HashMap<&str, usize> = HashMap::new();
    let mut has: HashMap<&str, usize> = HashMap::new();
    let mut made: HashSet<(&str, &str)> = HashSet::new();
    for (per_lane, per_worker) in rounds {
        for (lane, puller) in &pairs {
            let pulled_by = pullers.entry(lane.key()).or_default();
            let pulls = has.entry(puller).or_default();
            let is_new = !made.contains(&(lane.key(), *puller));
            if is_new && *pulled_by < per_lane && *pulls < per_worker {
                *pulled_by += 1;
                *pulls += 1;
                made.insert((lane.key(), puller));
            }
        }
    }
    let own = pairs
        .iter()
        .filter(|(lane, puller)| *puller == worker && made.contains(&(lane.key(), *puller)));
    own.map(|(lane, _)| *lane).collect()
}

#[cfg(test)]
mod tests {
    use model::EgressGroup;

    use super::*;

    fn workers(count: usize) -> BTreeSet<String> {
        (0..count).map(|number| format!("worker{number}")).collect()
    }

    /// Each worker's hashed lanes.
    fn leases(lanes: u32, workers: &BTreeSet<String>) -> Vec<Vec<String>> {
        let map = LaneMap::hashed(&EgressGroup::default(), lanes);
        let hashed = |worker: &String| {
            let leased = map.leased(worker, workers).into_iter();
            let hashed = leased.filter(|lane| !lane.is_overflow());
            hashed.map(|lane| lane.key().to_owned()).collect()
        };
        workers.iter().map(hashed).collect()
    }

    #[test]
    fn every_lane_has_a_worker_and_every_worker_a_lane() {
        for lanes in 1..=12 {
            for count in 1..=12 {
                let leases = leases(lanes, &workers(count));
                let lanes = lanes as usize;
                let all: BTreeSet<&String> = leases.iter().flatten().collect();
                assert_eq!(all.len(), lanes, "{lanes} lanes, {count} workers");
                assert!(leases.iter().all(|leased| !leased.is_empty()));
                let most = leases.iter().map(Vec::len).max().unwrap();
                let least = leases.iter().map(Vec::len).min().unwrap();
                assert!(most - least <= 1, "{leases:?}");
                if count <= lanes {
                    assert_eq!(leases.iter().flatten().count(), lanes, "one worker a lane");
                }
            }
        }
    }

    #[test]
    fn a_worker_that_leaves_moves_few_lanes_that_were_not_its_own() {
        let before = workers(4);
        let mut after = before.clone();
        after.remove("worker3");
        let (had, has) = (leases(8, &before), leases(8, &after));
        let kept = |(had, has): (&Vec<String>, &Vec<String>)| {
            had.iter().filter(|lane| has.contains(lane)).count()
        };
        let kept: usize = had.iter().zip(&has).map(kept).sum();
        assert!(kept >= 5, "{had:?} then {has:?}");
    }
}

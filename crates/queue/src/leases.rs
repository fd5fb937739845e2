//! Who pulls which lane: the same answer in every worker that knows the same workers (ADR 16).

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};

use crate::map::weight;
use crate::{Lane, LaneMap};

impl LaneMap {
    /// The lanes that are `worker`'s to pull while `workers` are alive.
    ///
    /// As few workers as possible pull the same lane, none has more than one lane more than another, and none has
    /// nothing: where there are more workers than lanes, some share one. A worker that comes or goes moves few lanes. A
    /// provider's own lanes have one worker each, and are with as many workers as they can be.
    pub fn leased(&self, worker: &str, workers: &BTreeSet<String>) -> Vec<&Lane> {
        let (own, shared): (Vec<&Lane>, Vec<&Lane>) =
            self.lanes().partition(|lane| lane.owner().is_some());
        let (overflow, hashed): (Vec<&Lane>, Vec<&Lane>) =
            shared.into_iter().partition(|lane| lane.is_overflow());
        let mut leased = share_out(&hashed, worker, workers);
        leased.extend(share_out(&overflow, worker, workers));
        leased.extend(spread(&own, worker, workers));
        leased
    }
}

/// `worker`'s part of `lanes`, which are the own ones of all providers. Each goes to one worker: one that has the fewest of the
/// same provider's, among those one that has the fewest of all, and among those the one that claims it most.
fn spread<'a>(lanes: &[&'a Lane], worker: &str, workers: &BTreeSet<String>) -> Vec<&'a Lane> {
    let mut given: Vec<(&'a Lane, &str)> = Vec::new();
    for lane in lanes {
        let has = |worker: &String| {
            let own = given.iter().filter(|(_, taker)| taker == worker);
            let same = own.clone().filter(|(own, _)| own.owner() == lane.owner());
            let claim = Reverse(weight(worker, lane.key()));
            (same.count(), own.count(), claim)
        };
        if let Some(taker) = workers.iter().min_by_key(|worker| has(worker)) {
            given.push((*lane, taker.as_str()));
        }
    }
    let own = given.into_iter().filter(|(_, taker)| *taker == worker);
    own.map(|(lane, _)| lane).collect()
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
    use crate::OwnLanes;

    fn workers(count: usize) -> BTreeSet<String> {
        (0..count).map(|number| format!("worker{number}")).collect()
    }

    /// Each worker's hashed lanes.
    fn leases(lanes: u32, workers: &BTreeSet<String>) -> Vec<Vec<String>> {
        let map = LaneMap::new(&EgressGroup::default(), lanes, &[]);
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

    /// Each worker's own lanes of three providers, which have one, two and three.
    fn own_leases(workers: &BTreeSet<String>) -> Vec<Vec<String>> {
        let provider = |lanes| OwnLanes {
            name: format!("p{lanes}").parse().unwrap(),
            domains: vec![format!("p{lanes}.example").parse().unwrap()],
            lanes,
        };
        let own = [1, 2, 3].map(provider);
        let map = LaneMap::new(&EgressGroup::default(), 4, &own);
        let own = |worker: &String| {
            let leased = map.leased(worker, workers).into_iter();
            let own = leased.filter(|lane| lane.owner().is_some());
            own.map(|lane| lane.key().to_owned()).collect()
        };
        workers.iter().map(own).collect()
    }

    #[test]
    fn a_providers_own_lanes_have_one_worker_each_and_are_with_as_many_as_can_be() {
        for count in 1..=12 {
            let leases = own_leases(&workers(count));
            let all: Vec<&String> = leases.iter().flatten().collect();
            let different: BTreeSet<&String> = all.iter().copied().collect();
            assert_eq!((all.len(), different.len()), (6, 6), "{leases:?}");
            for (provider, lanes) in [("p1-", 1), ("p2-", 2), ("p3-", 3)] {
                let of =
                    |leased: &&Vec<String>| leased.iter().any(|lane| lane.starts_with(provider));
                assert_eq!(
                    leases.iter().filter(of).count(),
                    lanes.min(count),
                    "{leases:?}"
                );
            }
            let most = leases.iter().map(Vec::len).max();
            assert!(most <= Some(6_usize.div_ceil(count) + 1), "{leases:?}");
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

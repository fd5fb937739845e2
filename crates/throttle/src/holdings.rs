//! The slots of one path that this worker holds, for whom, and which of its parties waits for one of them.
//!
//! Pure state; asks nobody but the parties what they would send next.
//!
//! A party that waits and has no slot is an heir: the next slot of this worker that comes free is its own, without a
//! question to Redis. Which slot is to be given up for it is decided when the one who has that slot asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Class, ClassTurns};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::party::Party;

/// A slot's number within this process; also its age.
pub(crate) type SlotId = u64;
/// An heir's number; also its age.
pub(crate) type HeirId = u64;

/// How long a party keeps a slot for which another of its class waits: for hundreds of small sites of one provider a
/// connection for every message would cost both sides more than the wait.
pub(crate) const KEPT: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Holdings {
    slots: BTreeMap<SlotId, Held>,
    heirs: BTreeMap<HeirId, Heir>,
    next_heir: HeirId,
    /// Whose turn it is to inherit.
    turns: ClassTurns,
    /// The slot that is to be given up, because a worker without any waits.
    wanted: Option<SlotId>,
    /// The most slots held at once of late, and since when.
    most: (usize, Instant),
}

#[derive(Debug)]
struct Held {
    party: Arc<dyn Party>,
    /// Since when that party has it.
    since: Instant,
    renewed: Instant,
}

#[derive(Debug)]
struct Heir {
    party: Arc<dyn Party>,
    /// The slot that is being given up for it.
    giver: Option<SlotId>,
    /// The slot that it was given.
    inherited: Option<SlotId>,
    called: Arc<Notify>,
}

impl Holdings {
    pub(crate) fn new() -> Self {
        Self {
            slots: BTreeMap::new(),
            heirs: BTreeMap::new(),
            next_heir: 0,
            turns: ClassTurns::default(),
            wanted: None,
            most: (0, Instant::now()),
        }
    }

    /// Notes a slot of `party` that was granted at `at`.
    pub(crate) fn hold(&mut self, id: SlotId, party: &Arc<dyn Party>, at: Instant) {
        let held = Held {
            party: Arc::clone(party),
            since: at,
            renewed: at,
        };
        self.slots.insert(id, held);
        if self.slots.len() >= self.most.0 {
            self.most = (self.slots.len(), at);
        }
    }

    /// Notes a renewal, unless the slot was released meanwhile.
    pub(crate) fn renewed(&mut self, id: SlotId, at: Instant) {
        if let Some(held) = self.slots.get_mut(&id) {
            held.renewed = at;
        }
    }

    /// Whether slot `id` was renewed within `time`.
    pub(crate) fn is_renewed(&self, id: SlotId, time: Duration) -> bool {
        let held = self.slots.get(&id);
        held.is_some_and(|held| held.renewed.elapsed() < time)
    }

    pub(crate) fn release(&mut self, id: SlotId) {
        self.slots.remove(&id);
        self.stop_giving(id);
    }

    pub(crate) fn ids(&self) -> Vec<SlotId> {
        self.slots.keys().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether slot `id` is one of the `count` oldest.
    pub(crate) fn is_among_oldest(&self, id: SlotId, count: u32) -> bool {
        self.slots.range(..id).count() < count as usize
    }

    /// Whether this worker held more slots within the last `time` than it holds now: another one then takes the place of
    /// one that was given back.
    pub(crate) fn has_given_back(&mut self, time: Duration) -> bool {
        if self.most.1.elapsed() > time {
            self.most = (self.slots.len(), Instant::now());
        }
        self.slots.len() < self.most.0
    }

    /// Notes whether another worker waits for one of this worker's slots. The oldest is to be given up, one at a time.
    pub(crate) fn want_one(&mut self, is_wanted: bool) {
        self.wanted = is_wanted
            .then(|| self.slots.keys().next().copied())
            .flatten();
    }

    /// Whether slot `id` is to be given up for another worker.
    pub(crate) fn is_wanted_elsewhere(&self, id: SlotId) -> bool {
        self.wanted == Some(id)
    }

    /// Whether slot `id` is to be given up for an heir, one slot for each: at once by a party that has nothing to send, or
    /// bulk where the heir has transactional mail; by others once they have had it for a while.
    pub(crate) fn is_wanted_here(&mut self, id: SlotId) -> bool {
        if self.heirs.is_empty() {
            return false;
        }
        if self.heirs.values().any(|heir| heir.giver == Some(id)) {
            return true;
        }
        let Some(held) = self.slots.get(&id) else {
            return false;
        };
        let (is_kept, holder) = (held.since.elapsed() < KEPT, held.party.next_class());
        let gives_way = |heir: &Heir| match (holder, heir.party.class()) {
            (None, _) | (Some(Class::Bulk), Class::Transactional) => true,
            (Some(Class::Transactional), _) | (Some(Class::Bulk), Class::Bulk) => !is_kept,
        };
        let is_in_need = |heir: &&mut Heir| heir.giver.is_none() && heir.inherited.is_none();
        let mut in_need = self.heirs.values_mut().filter(is_in_need);
        let heir = in_need.find(|heir| gives_way(heir));
        heir.map(|heir| heir.giver = Some(id)).is_some()
    }

    /// Whether a slot is to be left to an heir, because `party` has one already.
    pub(crate) fn is_left_by(&self, party: &Arc<dyn Party>) -> bool {
        !self.heirs.is_empty() && self.has_any(party)
    }

    /// Makes `party` an heir, unless it is one or has a slot; to be called when it inherits.
    pub(crate) fn expect(&mut self, party: &Arc<dyn Party>) -> Option<(HeirId, Arc<Notify>)> {
        let is_heir = |heir: &Heir| Arc::ptr_eq(&heir.party, party);
        if self.has_any(party) || self.heirs.values().any(is_heir) {
            return None;
        }
        self.next_heir += 1;
        let called = Arc::new(Notify::new());
        let heir = Heir {
            party: Arc::clone(party),
            giver: None,
            inherited: None,
            called: Arc::clone(&called),
        };
        self.heirs.insert(self.next_heir, heir);
        Some((self.next_heir, called))
    }

    /// Gives slot `id`, with which its party is done, to the heir whose turn it is: transactional before bulk, eight to one,
    /// and the one that has waited longest. Answers whether there was one. What another worker wants is not given on.
    pub(crate) fn bequeath(&mut self, id: SlotId) -> bool {
        if self.wanted == Some(id) {
            return false;
        }
        let Some(held) = self.slots.get_mut(&id) else {
            return false;
        };
        let mut in_need: Vec<_> = self.heirs.values_mut().collect();
        in_need.retain(|heir| heir.inherited.is_none());
        let classes: Vec<Class> = in_need.iter().map(|heir| heir.party.class()).collect();
        let Some(class) = self.turns.next(|class| classes.contains(&class)) else {
            return false;
        };
        let first = in_need.into_iter().zip(&classes);
        let mut first = first.filter(|(_, of)| **of == class);
        let Some((heir, _)) = first.next() else {
            return false;
        };
        held.party = Arc::clone(&heir.party);
        held.since = Instant::now();
        heir.inherited = Some(id);
        heir.giver = None;
        heir.called.notify_one();
        self.turns.had(class);
        self.stop_giving(id);
        true
    }

    /// The slot that heir `id` was given, once.
    pub(crate) fn inherited(&mut self, id: HeirId) -> Option<SlotId> {
        self.heirs.get_mut(&id)?.inherited.take()
    }

    /// Heir `id` waits no more. Answers the slot that it was given and has not taken.
    pub(crate) fn disown(&mut self, id: HeirId) -> Option<SlotId> {
        self.heirs.remove(&id)?.inherited
    }

    fn has_any(&self, party: &Arc<dyn Party>) -> bool {
        let mut held = self.slots.values();
        held.any(|held| Arc::ptr_eq(&held.party, party))
    }

    /// Slot `id` is nobody's to wait for any more.
    fn stop_giving(&mut self, id: SlotId) {
        for heir in self.heirs.values_mut() {
            heir.giver.take_if(|giver| *giver == id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::party::tests::Says;

    fn party(class: impl Into<Option<Class>>) -> Arc<dyn Party> {
        Says::new(class)
    }

    /// Slots 0, 1, ... of these classes, each of a party of its own, granted now.
    fn holding(classes: &[Class]) -> Holdings {
        let mut holdings = Holdings::new();
        for (id, class) in (0..).zip(classes) {
            holdings.hold(id, &party(*class), Instant::now());
        }
        holdings
    }

    #[tokio::test(start_paused = true)]
    async fn bulk_gives_way_to_transactional_at_once_and_to_its_like_after_a_while() {
        let mut holdings = holding(&[Class::Bulk, Class::Transactional]);
        assert!(!holdings.is_wanted_here(0), "nobody waits");
        let (bulk, _) = holdings.expect(&party(Class::Bulk)).unwrap();
        assert!(!holdings.is_wanted_here(0) && !holdings.is_wanted_here(1));
        let (urgent, _) = holdings.expect(&party(Class::Transactional)).unwrap();
        assert!(!holdings.is_wanted_here(1) && holdings.is_wanted_here(0));
        holdings.disown(urgent);
        holdings.disown(bulk);
        assert!(!holdings.is_wanted_here(0), "nobody waits any more");
        holdings.expect(&party(Class::Bulk)).unwrap();
        tokio::time::advance(KEPT).await;
        assert!(holdings.is_wanted_here(1));
    }

    #[tokio::test(start_paused = true)]
    async fn one_slot_is_given_up_for_each_that_waits_and_no_more() {
        let mut holdings = holding(&[Class::Bulk; 3]);
        let wanted =
            |holdings: &mut Holdings| (0..3).map(|id| holdings.is_wanted_here(id)).collect();
        holdings.expect(&party(Class::Transactional)).unwrap();
        let first: Vec<bool> = wanted(&mut holdings);
        assert_eq!(first, [true, false, false]);
        holdings.expect(&party(Class::Transactional)).unwrap();
        assert_eq!(wanted(&mut holdings), [true, true, false]);
        holdings.release(0);
        assert!(
            holdings.is_wanted_here(2),
            "the first one was lost to others"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_nothing_to_send_gives_way_at_once() {
        let mut holdings = Holdings::new();
        holdings.hold(0, &party(None), Instant::now());
        holdings.expect(&party(Class::Bulk)).unwrap();
        assert!(holdings.is_wanted_here(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_goes_to_transactional_mail_first_and_bulk_has_one_in_nine() {
        let mut holdings = holding(&[Class::Bulk]);
        let mut heirs = vec![("bulk", holdings.expect(&party(Class::Bulk)).unwrap().0)];
        for _ in 0..10 {
            let heir = holdings.expect(&party(Class::Transactional)).unwrap();
            heirs.push(("urgent", heir.0));
        }
        let mut order = Vec::new();
        while holdings.bequeath(0) {
            let heir = heirs
                .iter()
                .find(|(_, id)| holdings.inherited(*id) == Some(0));
            let (name, id) = *heir.unwrap();
            assert_eq!(holdings.disown(id), None, "it is taken once");
            order.push(name);
        }
        assert_eq!(order.iter().position(|name| *name == "bulk"), Some(8));
        assert_eq!(order.len(), 11);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_another_worker_wants_is_not_given_on() {
        let mut holdings = holding(&[Class::Bulk]);
        holdings.expect(&party(Class::Transactional)).unwrap();
        holdings.want_one(true);
        assert!(holdings.is_wanted_elsewhere(0) && !holdings.bequeath(0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_a_slot_or_waits_already_is_no_heir_and_leaves_slots_to_those_who_are() {
        let mut holdings = Holdings::new();
        let (holder, waits) = (party(Class::Bulk), party(Class::Bulk));
        holdings.hold(0, &holder, Instant::now());
        assert!(holdings.expect(&holder).is_none() && !holdings.is_left_by(&holder));
        assert!(holdings.expect(&waits).is_some() && holdings.expect(&waits).is_none());
        assert!(holdings.is_left_by(&holder) && !holdings.is_left_by(&waits));
    }
}

//! Who waits for a token of one path within this worker, and whose turn it is.
//!
//! One of those who wait has the turn: it alone asks for tokens, and rests until there may be one. Whenever it is about to
//! ask, the turn goes to whoever comes first by then: transactional before bulk, eight to one, and in the order in which they
//! came within a class. So what comes while all wait for the next token may have it.
//!
//! Invariant: where anybody waits somebody has the turn or has been called to take it. Whoever stops waiting, in whatever
//! way, passes the turn on. Nobody is woken but who has the turn.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{Class, ClassTurns};
use tokio::sync::Notify;

use crate::party::Party;

/// A place's number: also its age.
type PlaceId = u64;

#[derive(Debug, Default)]
pub(crate) struct Line(Mutex<Order>);

#[derive(Debug, Default)]
struct Order {
    waiting: BTreeMap<PlaceId, Waiting>,
    /// Who has the turn.
    turn: Option<PlaceId>,
    next: PlaceId,
    turns: ClassTurns,
}

#[derive(Debug)]
struct Waiting {
    party: Arc<dyn Party>,
    called: Arc<Notify>,
}

impl Line {
    /// A place behind all others of its class.
    pub(crate) fn join(&self, party: &Arc<dyn Party>) -> Place<'_> {
        let class = party.class();
        let called = Arc::new(Notify::new());
        let mut order = self.order();
        order.next += 1;
        let id = order.next;
        let waiting = Waiting {
            party: Arc::clone(party),
            called: Arc::clone(&called),
        };
        order.waiting.insert(id, waiting);
        // Whoever rests with the turn for bulk looks again who comes first.
        if class == Class::Transactional
            && let Some(resting) = order.turn.and_then(|turn| order.waiting.get(&turn))
            && resting.party.class() == Class::Bulk
        {
            resting.called.notify_one();
        }
        drop(order);
        Place {
            line: self,
            id,
            called,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order().waiting.is_empty()
    }

    /// Whether one of `class` that does not stand in line may take a token before all who do.
    pub(crate) fn lets_pass(&self, class: Class) -> bool {
        let order = self.order();
        order.waiting.is_empty() || order.next_class(Some(class)) == Some(class)
    }

    /// Counts a token that one of `class` took. While nobody waits there is no order to keep.
    pub(crate) fn served(&self, class: Class) {
        let mut order = self.order();
        if !order.waiting.is_empty() {
            order.turns.had(class);
        }
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    /// The class whose turn is next, with one more of class `besides`.
    fn next_class(&self, besides: Option<Class>) -> Option<Class> {
        let waits = |class| {
            let mut parties = self.waiting.values().map(|waiting| &waiting.party);
            besides == Some(class) || parties.any(|party| party.class() == class)
        };
        self.turns.next(waits)
    }

    /// Gives the turn to whoever comes first by now, and calls it, unless it has it already.
    fn pass_on(&mut self) {
        let class = self.next_class(None);
        let mut waiting = self.waiting.iter();
        // A party may have changed its mind since it was asked for its class.
        let first = waiting
            .find(|(_, waiting)| Some(waiting.party.class()) == class)
            .or_else(|| self.waiting.first_key_value());
        let Some((id, waiting)) = first else {
            self.turn = None;
            return;
        };
        if self.turn != Some(*id) {
            waiting.called.notify_one();
            self.turn = Some(*id);
        }
    }
}

/// A place in the line. Dropped, it is given up, and with it the turn.
#[derive(Debug)]
pub(crate) struct Place<'line> {
    line: &'line Line,
    id: PlaceId,
    called: Arc<Notify>,
}

impl Place<'_> {
    /// Waits until it has the turn, which it may have had: then others may go first by now.
    pub(crate) async fn turn(&self) {
        while !self.has_turn() {
            self.called.notified().await;
        }
    }

    /// Waits until there is a reason to look again who comes first.
    pub(crate) async fn called(&self) {
        self.called.notified().await;
    }

    /// Counts the token that it took.
    pub(crate) fn served(&self, class: Class) {
        self.line.served(class);
    }

    fn has_turn(&self) -> bool {
        let mut order = self.line.order();
        if order.turn.is_some_and(|turn| turn != self.id) {
            return false;
        }
        order.pass_on();
        order.turn == Some(self.id)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut order = self.line.order();
        order.waiting.remove(&self.id);
        if order.turn == Some(self.id) {
            order.turn = None;
            order.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::party::tests::Says;

    fn party(class: Class) -> Arc<dyn Party> {
        Says::new(class)
    }

    /// The names of those who wait in the order in which they are served.
    fn served(line: &Line, mut places: Vec<(&'static str, Class, Place<'_>)>) -> Vec<&'static str> {
        let mut served = Vec::new();
        while !places.is_empty() {
            for (_, _, place) in &places {
                place.has_turn();
            }
            let turn = line.order().turn;
            let index = places.iter().position(|(.., place)| Some(place.id) == turn);
            let (name, class, place) = places.remove(index.unwrap());
            place.served(class);
            served.push(name);
        }
        served
    }

    #[test]
    fn transactional_goes_before_bulk_and_each_in_the_order_in_which_they_came() {
        let line = Line::default();
        let places = [
            ("first bulk", Class::Bulk),
            ("second bulk", Class::Bulk),
            ("first urgent", Class::Transactional),
            ("second urgent", Class::Transactional),
        ];
        let places = places.map(|(name, class)| (name, class, line.join(&party(class))));
        let order = ["first urgent", "second urgent", "first bulk", "second bulk"];
        assert_eq!(served(&line, places.into()), order);
    }

    #[test]
    fn one_token_in_nine_is_bulks_while_both_wait() {
        let line = Line::default();
        let join = |name, class| (name, class, line.join(&party(class)));
        let mut places = vec![join("bulk", Class::Bulk), join("bulk", Class::Bulk)];
        places.extend((0..20).map(|_| join("urgent", Class::Transactional)));
        let served = served(&line, places);
        let bulk: Vec<usize> = (0..served.len())
            .filter(|turn| served[*turn] == "bulk")
            .collect();
        assert_eq!(bulk, [8, 17]);
    }

    #[test]
    fn whoever_has_the_turn_gives_it_up_to_what_came_meanwhile() {
        let line = Line::default();
        let resting = line.join(&party(Class::Bulk));
        assert!(resting.has_turn());
        let urgent = line.join(&party(Class::Transactional));
        assert!(!urgent.has_turn(), "who has it must pass it on");
        assert!(!resting.has_turn() && urgent.has_turn());
        drop(urgent);
        assert!(resting.has_turn());
    }

    #[test]
    fn a_party_whose_mail_turns_urgent_while_it_waits_goes_first() {
        let line = Line::default();
        let says = Says::new(Class::Bulk);
        let (first, second) = (
            line.join(&party(Class::Bulk)),
            line.join(&(Arc::clone(&says) as Arc<dyn Party>)),
        );
        assert!(first.has_turn());
        says.change(Class::Transactional);
        assert!(!first.has_turn() && second.has_turn());
    }

    #[tokio::test]
    async fn who_rests_with_the_turn_for_bulk_hears_of_urgent_mail() {
        let line = Line::default();
        let resting = line.join(&party(Class::Bulk));
        resting.turn().await;
        // What called it to its turn.
        resting.called().await;
        let urgent = line.join(&party(Class::Transactional));
        resting.called().await;
        let (waiting, passing) = (urgent.turn(), async { resting.has_turn() });
        assert!(!tokio::join!(passing, waiting).0);
    }

    #[tokio::test]
    async fn whoever_leaves_passes_the_turn_on() {
        let line = Line::default();
        let (first, second) = (
            line.join(&party(Class::Bulk)),
            line.join(&party(Class::Bulk)),
        );
        first.turn().await;
        let leaving = async { drop(first) };
        tokio::join!(second.turn(), leaving);
    }

    #[test]
    fn who_looks_ahead_passes_its_like_and_nobody_more_urgent() {
        let line = Line::default();
        assert!(line.lets_pass(Class::Bulk));
        let bulk = line.join(&party(Class::Bulk));
        assert!(line.lets_pass(Class::Bulk) && line.lets_pass(Class::Transactional));
        for _ in 0..ClassTurns::TRANSACTIONAL {
            line.served(Class::Transactional);
        }
        assert!(!line.lets_pass(Class::Transactional), "bulk is due");
        drop(bulk);
        let _urgent = line.join(&party(Class::Transactional));
        line.served(Class::Bulk);
        assert!(!line.lets_pass(Class::Bulk));
    }
}

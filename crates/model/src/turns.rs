//! Whose turn it is where both classes wait for the same thing.

use crate::Class;

/// Turns between the classes: transactional before bulk, eight to one, so that neither starves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassTurns {
    /// Transactional turns since the last bulk one.
    since_bulk: u32,
}

impl ClassTurns {
    /// Turns of the transactional class for each turn of bulk, while both wait.
    pub const TRANSACTIONAL: u32 = 8;

    /// The class that goes next of those that `waits` says are there; none where neither is.
    pub fn next(&self, waits: impl Fn(Class) -> bool) -> Option<Class> {
        let bulk_is_due = self.since_bulk >= Self::TRANSACTIONAL;
        let first = match bulk_is_due {
            true => [Class::Bulk, Class::Transactional],
            false => Class::ALL,
        };
        first.into_iter().find(|class| waits(*class))
    }

    /// Counts a turn that `class` had.
    pub fn had(&mut self, class: Class) {
        self.since_bulk = match class {
            Class::Transactional => self.since_bulk.saturating_add(1),
            Class::Bulk => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_both_wait_one_turn_in_nine_is_bulks() {
        let mut turns = ClassTurns::default();
        let mut had = Vec::new();
        for _ in 0..18 {
            let class = turns.next(|_| true).unwrap();
            turns.had(class);
            had.push(class);
        }
        let bulk = |had: &[Class]| had.iter().filter(|class| **class == Class::Bulk).count();
        assert_eq!((bulk(&had[..9]), bulk(&had[9..])), (1, 1));
        assert_eq!(had[0], Class::Transactional);
    }

    #[test]
    fn who_waits_alone_goes_at_once() {
        let mut turns = ClassTurns::default();
        for class in Class::ALL {
            assert_eq!(turns.next(|waiting| waiting == class), Some(class));
            turns.had(class);
        }
        assert_eq!(turns.next(|_| false), None);
    }
}

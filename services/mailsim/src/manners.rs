//! Which of a provider's habits shows now.

use std::sync::atomic::{AtomicU64, Ordering};

use smtp::server::{Manner, Stage};

use crate::config::{At, Habit, Often};

/// A provider's habits, and how often the occasion for each has come.
#[derive(Debug)]
pub(crate) struct Manners(Vec<(Habit, AtomicU64)>);

impl Manners {
    pub(crate) fn new(habits: &[Habit]) -> Self {
        let fresh = |habit: &Habit| (habit.clone(), AtomicU64::new(0));
        Self(habits.iter().map(fresh).collect())
    }

    /// What is done at `stage` this time: the first habit that is due.
    pub(crate) fn at(&self, stage: Stage) -> Option<Manner> {
        self.due(At::Stage(stage))
    }

    /// What is done with a connection before anything is said.
    pub(crate) fn at_connect(&self) -> Option<Manner> {
        self.due(At::Connect)
    }

    fn due(&self, at: At) -> Option<Manner> {
        let mut there = self.0.iter().filter(|(habit, _)| habit.at == at);
        let due = there.find(|(habit, occasions)| {
            let before = occasions.fetch_add(1, Ordering::Relaxed);
            match habit.often {
                Often::Always => true,
                Often::First(count) => before < count.get(),
                Often::Each(count) => before.is_multiple_of(count.get()),
            }
        });
        due.map(|(habit, _)| habit.manner.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_habit_shows_as_often_as_it_says_and_the_next_one_takes_its_place() {
        let habits = ["mail first 2: hang", "mail each 3: cut", "rcpt: hang"];
        let manners = Manners::new(&habits.map(|habit| habit.parse().unwrap()));
        let shown: Vec<Option<Manner>> = (0..7).map(|_| manners.at(Stage::Mail)).collect();
        let (hang, cut) = (Some(Manner::Hang), Some(Manner::Cut(0)));
        assert_eq!(
            shown,
            [
                hang.clone(),
                hang.clone(),
                cut.clone(),
                None,
                None,
                cut,
                None
            ]
        );
        assert_eq!(manners.at(Stage::Rcpt), hang);
        assert_eq!(manners.at_connect(), None);
    }
}

//! What a worker knows of those that use a path beside it, and the part of the rate that is its own while nobody can be asked.

/// Of so many parts of a rate those that use the path have all but one, which is for those that do not yet.
const PARTS: u32 = 5;

/// A worker's standing on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It does not use the path, or not all that do know of it.
    Newcomer,
    /// It is one of so many that use the path, at most, and all of these know of it.
    Among(u32),
}

impl Standing {
    /// What `told` says, the last answer of `admit.lua`.
    pub(crate) fn of(told: i32) -> Self {
        match u32::try_from(told) {
            Ok(sharers) if sharers > 0 => Self::Among(sharers),
            Ok(_) | Err(_) => Self::Newcomer,
        }
    }

    /// Its part of a rate, where `workers` are alive: so many parts of a whole. Together they are no more than the whole, as long as
    /// those that say [`Standing::Among`] are no more than each of them says, and all know of all that are alive. One that has just
    /// started, and of which the others hear with their next heartbeat, has a newcomer's part beside that.
    pub(crate) fn part(self, workers: u32) -> (u32, u32) {
        match self {
            Self::Among(sharers) if sharers >= workers => (1, workers.max(1)),
            Self::Among(sharers) => (PARTS - 1, sharers.max(1).saturating_mul(PARTS)),
            Self::Newcomer if workers <= 1 => (1, 1),
            Self::Newcomer => (1, (workers - 1).saturating_mul(PARTS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_each_knows_all_together_have_no_more_than_the_whole(
            workers in 1_u32..40, using in 0_u32..40, more in proptest::collection::vec(0_u32..40, 40),
        ) {
            let using = using.min(workers);
            // Each may still count others that have left.
            let known = more.iter().map(|more| Standing::Among((using + more).max(1)));
            let newcomers = std::iter::repeat_n(Standing::Newcomer, (workers - using) as usize);
            let standings = known.take(using as usize).chain(newcomers);
            let together: f64 = standings
                .map(|standing| standing.part(workers))
                .map(|(parts, whole)| f64::from(parts) / f64::from(whole))
                .sum();
            prop_assert!(together <= 1.0 + 1e-9, "{together}");
        }
    }

    #[test]
    fn who_uses_a_path_alone_keeps_most_of_its_rate_and_who_uses_it_with_all_an_even_share() {
        assert_eq!(Standing::Among(1).part(3), (4, 5));
        assert_eq!(Standing::Among(3).part(3), (1, 3));
        assert_eq!(Standing::Newcomer.part(3), (1, 10));
        assert_eq!(Standing::Newcomer.part(1), (1, 1));
    }
}

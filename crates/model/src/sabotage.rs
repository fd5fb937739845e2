//! Ways to break the product's promises on purpose, to see that its tests notice. Nothing of it is in a build without the
//! feature `sabotage`, which only tests turn on; `docs/sabotage.md` says which test catches what.

/// One promise broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Ingest answers before the queue has acknowledged.
    AnswerBeforeStored,
    /// The final dot is sent without a proven hold.
    NoFence,
    /// Without Redis nothing is throttled.
    OpenThrottle,
    /// No marker says that a job has ended.
    NoMarker,
    /// Schedules carry a message id.
    ScheduleWithId,
}

impl Sabotage {
    /// Whether this is the promise to break.
    #[cfg(not(feature = "sabotage"))]
    pub const fn is_on(self) -> bool {
        false
    }
}

#[cfg(feature = "sabotage")]
mod chosen {
    use std::sync::OnceLock;

    use super::Sabotage;

    static CHOSEN: OnceLock<Sabotage> = OnceLock::new();

    impl Sabotage {
        /// Every one.
        pub const ALL: [Self; 5] = [
            Self::AnswerBeforeStored,
            Self::NoFence,
            Self::OpenThrottle,
            Self::NoMarker,
            Self::ScheduleWithId,
        ];

        /// Whether this is the promise to break.
        pub fn is_on(self) -> bool {
            CHOSEN.get() == Some(&self)
        }

        /// Breaks this promise from now on, in this process. The first choice stands.
        pub fn choose(self) {
            let _ = CHOSEN.set(self);
        }
    }
}

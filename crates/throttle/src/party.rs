//! Who shares a path within one worker.

use model::Class;

/// One of those that open connections and take tokens on a path: in a worker, a site. It is known by its pointer.
///
/// What it would send next is asked at the moment at which something is given away, because it changes while a party waits.
/// It is asked under locks of this crate, so the answer must wait for nothing that waits for this crate.
pub trait Party: Send + Sync {
    /// The class of what it would send next; none where it has nothing to send.
    fn next_class(&self) -> Option<Class>;
}

impl dyn Party {
    /// The class it stands in line with: who has nothing to send is in no hurry.
    pub(crate) fn class(&self) -> Class {
        self.next_class().unwrap_or(Class::Bulk)
    }
}

impl std::fmt::Debug for dyn Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Party").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A party that says what it is told to say.
    #[derive(Debug)]
    pub(crate) struct Says(Mutex<Option<Class>>);

    impl Says {
        pub(crate) fn new(class: impl Into<Option<Class>>) -> Arc<Self> {
            Arc::new(Self(Mutex::new(class.into())))
        }

        pub(crate) fn change(&self, class: impl Into<Option<Class>>) {
            *self.0.lock().unwrap() = class.into();
        }
    }

    impl Party for Says {
        fn next_class(&self) -> Option<Class> {
            *self.0.lock().unwrap()
        }
    }
}

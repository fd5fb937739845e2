//! Those who want something stored in the same stream at the same time, and let one of them do it for all.
//!
//! Owns no task: the caller whose turn it is does the work, so callers must not be dropped or left unpolled while they
//! store: each is to run in a task of its own. Where one gives up all the same, the others hear that nothing is known.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::Class;
use tokio::sync::oneshot;

use crate::{Lane, LaneMap};

/// What became of one of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Committed {
    /// It is stored.
    Stored,
    /// Its caller has to store it alone.
    Alone,
    /// It may be stored or not: whoever stored it gave up half-way.
    Unknown,
}

/// What is stored together with others.
pub(crate) trait Item: Clone {
    /// What it adds to a batch.
    fn octets(&self) -> usize;
}

/// How much one batch takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) items: usize,
    /// Unless its one item is larger.
    pub(crate) octets: usize,
    /// How long the next batch gathers when the last one was of several.
    pub(crate) pause: Duration,
}

/// One group for every lane and class.
#[derive(Debug)]
pub(crate) struct Groups<T>(HashMap<(Lane, Class), Group<T>>);

impl<T: Item> Groups<T> {
    pub(crate) fn of(lanes: &LaneMap, most: Most) -> Self {
        let streams = lanes
            .lanes()
            .flat_map(|lane| Class::ALL.map(|class| (lane.clone(), class)));
        Self(streams.map(|stream| (stream, Group::new(most))).collect())
    }

    pub(crate) fn group(&self, lane: &Lane, class: Class) -> Option<&Group<T>> {
        self.0.get(&(lane.clone(), class))
    }
}

/// Those who wait for one stream.
#[derive(Debug)]
pub(crate) struct Group<T> {
    most: Most,
    /// Whose turn it is to store.
    turn: tokio::sync::Mutex<()>,
    waiting: Mutex<Vec<Waiting<T>>>,
    /// Whether the last batch was of several.
    is_busy: AtomicBool,
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    outcome: oneshot::Sender<Committed>,
}

impl<T: Item> Group<T> {
    pub(crate) fn new(most: Most) -> Self {
        Self {
            most,
            turn: tokio::sync::Mutex::default(),
            waiting: Mutex::default(),
            is_busy: AtomicBool::new(false),
        }
    }

    /// Has `item` stored by `store`, together with those that came while others were being stored; `store` answers for
    /// each of them, in order.
    pub(crate) async fn commit<Storing>(
        &self,
        item: T,
        store: impl Fn(Vec<T>) -> Storing,
    ) -> Committed
    where
        Storing: Future<Output = Vec<Committed>>,
    {
        let (outcome, mut told) = oneshot::channel();
        self.lock().push(Waiting { item, outcome });
        let _turn = tokio::select! {
            biased;
            outcome = &mut told => return outcome.unwrap_or(Committed::Unknown),
            turn = self.turn.lock() => turn,
        };
        loop {
            // Ours may have been taken along while we came to our turn.
            match told.try_recv() {
                Ok(outcome) => return outcome,
                Err(oneshot::error::TryRecvError::Closed) => return Committed::Unknown,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            if self.is_worth_a_pause() {
                tokio::time::sleep(self.most.pause).await;
            }
            let batch = self.take();
            self.is_busy.store(batch.len() > 1, Ordering::Relaxed);
            let (items, waiting): (Vec<T>, Vec<_>) = batch
                .into_iter()
                .map(|Waiting { item, outcome }| (item, outcome))
                .unzip();
            for (waiting, outcome) in waiting.into_iter().zip(store(items).await) {
                // Whoever gave up meanwhile hears nothing; it is stored all the same.
                let _ = waiting.send(outcome);
            }
        }
    }

    /// Whether more are likely to come, and there is room for them.
    fn is_worth_a_pause(&self) -> bool {
        !self.most.pause.is_zero()
            && self.is_busy.load(Ordering::Relaxed)
            && self.lock().len() < self.most.items
    }

    /// The next batch: what came first.
    fn take(&self) -> Vec<Waiting<T>> {
        let mut waiting = self.lock();
        // What its caller has given up may have been repeated elsewhere by now.
        waiting.retain(|next| !next.outcome.is_closed());
        let mut octets = 0;
        let fits = waiting.iter().take(self.most.items).take_while(|next| {
            octets += next.item.octets();
            octets <= self.most.octets
        });
        let count = fits.count().max(1).min(waiting.len());
        waiting.drain(..count).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waiting<T>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

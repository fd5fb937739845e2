//! A party's wait for the next slot that its worker gives up.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::gate::Gate;
use crate::holdings::HeirId;
use crate::party::Party;
use crate::slot::Claim;
use crate::throttle::Throttle;

/// Dropped, it waits no more, and what it was given and has not taken goes to others.
#[derive(Debug)]
pub(crate) struct Heir {
    throttle: Throttle,
    gate: Arc<Gate>,
    id: HeirId,
    called: Arc<Notify>,
}

impl Heir {
    /// None where `party` has a slot of the path, or waits already: one is enough.
    pub(crate) fn expect(
        throttle: &Throttle,
        gate: &Arc<Gate>,
        party: &Arc<dyn Party>,
    ) -> Option<Self> {
        let (id, called) = gate.holdings().expect(party)?;
        gate.stirred.notify_waiters();
        Some(Self {
            throttle: throttle.clone(),
            gate: Arc::clone(gate),
            id,
            called,
        })
    }

    /// Waits for a slot.
    pub(crate) async fn inherited(&self) -> Claim {
        loop {
            let inherited = self.gate.holdings().inherited(self.id);
            if let Some(id) = inherited {
                return Claim::of(&self.throttle, Arc::clone(&self.gate), id);
            }
            self.called.notified().await;
        }
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        let left = self.gate.holdings().disown(self.id);
        if let Some(id) = left {
            drop(Claim::of(&self.throttle, Arc::clone(&self.gate), id));
        }
    }
}

//! Whether messages may be accepted at this moment: only while the queue would keep them and has room.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use queue::{Condition, Queue, SetupError};
use runtime::Shutdown;
use tonic::{Code, Status};
use tonic_health::server::HealthReporter;

use crate::violations::status_with_retry;

/// How often the servers are asked; also at once when the connection was made anew.
const EVERY: Duration = Duration::from_secs(5);
/// The part of a server's storage beyond which nothing is accepted. After its disk is full a nats-server needs a
/// restart, and what is accepted already still needs room to be deferred.
const FULL: f64 = 0.8;

/// What a caller is told whose message finds no room on the nats-servers.
pub(crate) const STORAGE_FULL: &str = "the nats-server's file storage is full and nothing was queued; try again later, or \
     raise max_file_store in its jetstream block";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    NotDurable,
    Disconnected,
    Full,
    Unwritable,
}

/// Read by every call, written by [`watch`]; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Readiness(Arc<RwLock<State>>);

impl Readiness {
    /// Ready: the queue was checked when the process started.
    pub(crate) fn ready() -> Self {
        Self(Arc::new(RwLock::new(State::Ready)))
    }

    /// Refuses where a message could be accepted and lost.
    pub(crate) fn check(&self) -> Result<(), Status> {
        match self.get() {
            State::Ready => Ok(()),
            State::NotDurable => Err(status_with_retry(
                Code::Unavailable,
                "QUEUE_NOT_DURABLE",
                "the queue would not keep messages: a nats-server does not sync what it acknowledges, and nothing was queued; \
                 the log of ingest says which one and what to do",
                EVERY,
            )),
            State::Disconnected => Err(status_with_retry(
                Code::Unavailable,
                "QUEUE_UNAVAILABLE",
                "no nats-server is connected and nothing was queued; try again",
                EVERY,
            )),
            State::Full => Err(status_with_retry(
                Code::ResourceExhausted,
                "QUEUE_FULL",
                STORAGE_FULL,
                EVERY,
            )),
            State::Unwritable => Err(status_with_retry(
                Code::Unavailable,
                "QUEUE_NOT_WRITABLE",
                "the nats-server cannot write, its disk is full or broken, and nothing was queued; make room on it, \
                 restart the nats-server, and try again",
                EVERY,
            )),
        }
    }

    fn get(&self) -> State {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in that the connection is gone.
    fn disconnected(&self) {
        self.set(State::Disconnected);
    }

    /// Takes in what the servers said; servers that did not answer change nothing.
    fn update(&self, checked: &Result<Condition, SetupError>) {
        let state = match checked {
            Ok(Condition {
                write_error: Some(error),
                ..
            }) => {
                tracing::debug!(error, "no nats-server can write");
                State::Unwritable
            }
            Ok(condition) if condition.fullness >= FULL => State::Full,
            Ok(_) => State::Ready,
            Err(error) if error.is_not_durable() => {
                if self.get() != State::NotDurable {
                    tracing::error!(%error, "a nats-server would lose accepted mail, accepting nothing");
                }
                State::NotDurable
            }
            Err(error @ SetupError::CannotWrite { .. }) => {
                tracing::debug!(%error, "no nats-server that answered can write");
                State::Unwritable
            }
            Err(error) => return tracing::warn!(%error, "no nats-server could be asked how it is"),
        };
        self.set(state);
    }

    fn set(&self, state: State) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, state);
        if before == state {
            return;
        }
        match state {
            State::Ready => tracing::info!("accepting messages again"),
            // Logged with its cause.
            State::NotDurable => {}
            State::Disconnected => tracing::warn!("no nats-server is connected, accepting nothing"),
            State::Full => tracing::error!("queue storage nearly full, accepting nothing"),
            State::Unwritable => tracing::error!("no nats-server can write, accepting nothing"),
        }
    }
}

/// Asks the servers again and again, and tells the health service.
pub(crate) async fn watch(
    queue: Queue,
    readiness: Readiness,
    health: HealthReporter,
    shutdown: Shutdown,
) {
    let mut connections = queue.connections();
    connections.mark_unchanged();
    report(&health, readiness.get()).await;
    loop {
        tokio::select! {
            () = shutdown.requested() => break,
            changed = connections.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(EVERY) => {}
        }
        if queue.is_connected() {
            readiness.update(&queue.check().await);
        } else {
            readiness.disconnected();
        }
        report(&health, readiness.get()).await;
    }
    report(&health, State::Disconnected).await;
}

async fn report(health: &HealthReporter, state: State) {
    use tonic_health::ServingStatus::{NotServing, Serving};
    let serving = if state == State::Ready {
        Serving
    } else {
        NotServing
    };
    for service in ["", "postrider.v1.Submission", "postrider.v1.Messages"] {
        health.set_service_status(service, serving).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_after(checked: Result<Condition, SetupError>) -> Option<Code> {
        let readiness = Readiness::ready();
        readiness.update(&checked);
        readiness.check().err().map(|status| status.code())
    }

    fn unreachable() -> SetupError {
        SetupError::Monitor {
            monitor: "http://n3:8222".into(),
            problem: "refused".into(),
        }
    }

    #[test]
    fn a_server_that_is_down_stops_nothing() {
        let condition = Condition {
            fullness: 0.1,
            unasked: Some(unreachable()),
            ..Condition::default()
        };
        assert_eq!(code_after(Ok(condition)), None);
        assert_eq!(code_after(Err(unreachable())), None);
    }

    #[test]
    fn a_server_that_syncs_lazily_or_is_full_stops_everything() {
        let lazy = SetupError::LazySync {
            monitor: "http://n1:8222".into(),
        };
        assert_eq!(code_after(Err(lazy)), Some(Code::Unavailable));
        let unordered = SetupError::UnorderedDisks {
            monitor: "http://n1:8222".into(),
            version: "2.15.1".into(),
        };
        assert_eq!(code_after(Err(unordered)), Some(Code::Unavailable));
        let full = Condition {
            fullness: 0.81,
            ..Condition::default()
        };
        assert_eq!(code_after(Ok(full)), Some(Code::ResourceExhausted));
        let broken = Condition {
            write_error: Some("no space left on device".into()),
            ..Condition::default()
        };
        assert_eq!(code_after(Ok(broken)), Some(Code::Unavailable));
        let silent = SetupError::CannotWrite {
            monitor: "http://n1:8222".into(),
            problem: "no space left on device".into(),
        };
        assert_eq!(code_after(Err(silent)), Some(Code::Unavailable));
    }
}

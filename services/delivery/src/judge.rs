//! What the outcome of an attempt means for its job. Pure: no clock, no queue.

use classify::{Classifier, Stage};
use model::{
    BounceClass, Event, EventKind, Hop, Job, Permanence, Provider, Reply, Timestamp, Verdict,
};
use smtp::client::Party;

use crate::backoff::Backoff;

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The server took the message.
    Delivered {
        /// Its reply to the end of the message.
        reply: Reply,
    },
    /// The message was refused.
    Refused {
        /// By the server, or by us because of what it offers.
        by: Party,
        /// At what.
        stage: Stage,
        /// How.
        reply: Reply,
    },
    /// No connection came about. Says nothing about any recipient, and always passes.
    NotConnected {
        /// What that means, unless a server refused the session.
        class: BounceClass,
        /// What a server said, if it said something that can be shown.
        reply: Option<Reply>,
        /// What it refused with that reply, if it did.
        refused_at: Option<Stage>,
        /// What happened, in words.
        detail: String,
    },
    /// No server said anything about this job.
    Failed {
        /// What that means.
        verdict: Verdict,
        /// What happened, in words.
        detail: String,
    },
}

impl Outcome {
    /// A failure that may pass.
    pub(crate) fn soft(class: BounceClass, detail: impl std::fmt::Display) -> Self {
        let verdict = Verdict {
            class,
            permanence: Permanence::Soft,
        };
        Self::Failed {
            verdict,
            detail: detail.to_string(),
        }
    }
}

/// What is to be done with a job: the event to record, and where there will be another attempt, when.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) event: Event,
    pub(crate) next_attempt_at: Option<Timestamp>,
}

/// Judges outcomes.
#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) classifier: Classifier,
    pub(crate) backoff: Backoff,
}

impl Judge {
    /// What `outcome`, of the attempt that `job` was due for, means at `now`.
    pub(crate) fn judge(
        &self,
        job: &Job,
        provider: &Provider,
        outcome: Outcome,
        hop: Option<Hop>,
        now: Timestamp,
    ) -> Judgement {
        let attempt = job.next_attempt();
        let event = |kind| Event {
            hop: hop.clone(),
            ..Event::of(job, kind, attempt, now)
        };
        let soft = |class| Verdict {
            class,
            permanence: Permanence::Soft,
        };
        let (verdict, reply, detail) = match outcome {
            Outcome::Delivered { reply } => {
                let event = Event {
                    reply: Some(reply),
                    ..event(EventKind::Delivered)
                };
                return Judgement {
                    event,
                    next_attempt_at: None,
                };
            }
            Outcome::Refused { by, stage, reply } => {
                let verdict = self.classifier.judge(stage, &reply, provider);
                let clear = hop.as_ref().is_some_and(|hop| hop.tls.is_empty());
                let verdict = match (by, verdict.class) {
                    // It is the session that is not encrypted, and the next one may be.
                    (Party::Peer, BounceClass::Tls) if clear => soft(verdict.class),
                    _ => verdict,
                };
                (verdict, Some(reply), String::new())
            }
            Outcome::NotConnected {
                class,
                reply,
                refused_at,
                detail,
            } => {
                let class = match (refused_at, &reply) {
                    (Some(stage), Some(reply)) => {
                        self.classifier.judge(stage, reply, provider).class
                    }
                    (None, _) | (_, None) => class,
                };
                (soft(class), reply, detail)
            }
            Outcome::Failed { verdict, detail } => (verdict, None, detail),
        };
        let next = self.backoff.next(attempt, now);
        let (kind, next_attempt_at) = match verdict.permanence {
            Permanence::Hard => (EventKind::Bounced, None),
            Permanence::Soft if next >= job.expires_at => (EventKind::Expired, None),
            Permanence::Soft => (EventKind::Deferred, Some(next)),
        };
        let bounce_class = Some(verdict.class);
        Judgement {
            event: Event {
                reply,
                detail,
                bounce_class,
                next_attempt_at,
                ..event(kind)
            },
            next_attempt_at,
        }
    }

    /// The end of a job whose time was over before it could be tried again.
    pub(crate) fn expired(job: &Job, now: Timestamp) -> Judgement {
        let detail = "the lifetime ended before an attempt succeeded".to_owned();
        let event = Event {
            detail,
            ..Event::of(job, EventKind::Expired, job.attempt, now)
        };
        Judgement {
            event,
            next_attempt_at: None,
        }
    }

    /// The end of a job that its sender cancelled.
    pub(crate) fn cancelled(job: &Job, now: Timestamp) -> Judgement {
        let event = Event::of(job, EventKind::Cancelled, job.attempt, now);
        Judgement {
            event,
            next_attempt_at: None,
        }
    }

    /// The end of a job that cannot be trusted to be what was accepted.
    pub(crate) fn quarantined(job: &Job, detail: String, now: Timestamp) -> Judgement {
        let event = Event {
            detail,
            ..Event::of(job, EventKind::Quarantined, job.attempt, now)
        };
        Judgement {
            event,
            next_attempt_at: None,
        }
    }
}

//! The scripts that run inside Redis, and their questions and answers as types.

use std::time::Duration;

use model::{Class, ClassTurns};
use redis::{Script, ScriptInvocation};

use crate::lease::Terms;

/// Both scripts; redis-rs sends them by hash and loads them again where Redis forgot them.
#[derive(Debug)]
pub(crate) struct Scripts {
    admit: Script,
    beat: Script,
}

/// What every script is told about who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) epoch_key: &'a str,
    pub(crate) remembered_epoch: &'a str,
    pub(crate) proposed_epoch: &'a str,
    pub(crate) slot_ttl: Duration,
}

/// A question to `admit.lua`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) rate_key: &'a str,
    pub(crate) slots_key: &'a str,
    pub(crate) slot: Option<Slot<'a>>,
    pub(crate) tokens: Option<Tokens>,
    /// What the worker was told last of those that use the path; none where that was just now.
    pub(crate) told: Option<i32>,
}

/// A connection slot that is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot<'a> {
    pub(crate) member: &'a str,
    pub(crate) connections: u32,
    /// Whether it takes the place of one that this worker gave back of late.
    pub(crate) replaces: bool,
    /// Whether this worker has none of the path.
    pub(crate) is_first: bool,
}

/// Tokens that are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tokens {
    pub(crate) terms: Terms,
    pub(crate) wanted: u32,
    /// Of the mail that they are for.
    pub(crate) class: Class,
}

/// Whether a heartbeat is the first after an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Returning,
    Steady,
}

/// The verdict, the tokens granted, the wait in microseconds, the epoch, and how many workers use the path: negative where this one
/// does not count itself in yet, 0 where it is not told.
pub(crate) type AdmitReply = (u8, u32, u64, String, i32);

/// The number of live workers, the epoch, its state as in `beat.lua`, and for each slot whether one of its path is to be given up.
pub(crate) type BeatReply = (u32, String, u8, Vec<bool>);

/// What `admit.lua` decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Granted {
        tokens: u32,
    },
    RateLimited {
        wait: Duration,
    },
    ConnectionsInUse {
        wait: Duration,
    },
    /// For `time`, tokens are taken from this worker's own share; the slot, where one was asked for, is granted.
    OfShare {
        time: Duration,
    },
}

impl Decision {
    /// None where the reply is not one of `admit.lua`.
    pub(crate) fn read((verdict, tokens, wait, ..): &AdmitReply) -> Option<Self> {
        let wait = Duration::from_micros(*wait);
        match verdict {
            0 => Some(Self::Granted { tokens: *tokens }),
            1 => Some(Self::RateLimited { wait }),
            2 => Some(Self::ConnectionsInUse { wait }),
            3 => Some(Self::OfShare { time: wait }),
            _ => None,
        }
    }
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            admit: Script::new(concat!(
                include_str!("scripts/epoch.lua"),
                include_str!("scripts/admit.lua")
            )),
            beat: Script::new(concat!(
                include_str!("scripts/epoch.lua"),
                include_str!("scripts/beat.lua")
            )),
        }
    }

    pub(crate) fn admit(&self, asker: Asker<'_>, question: &Question<'_>) -> ScriptInvocation<'_> {
        let mut call = self.admit.key(asker.epoch_key);
        call.key(question.rate_key).key(question.slots_key);
        asker.introduce(&mut call);
        let slot = question.slot.unwrap_or(Slot {
            member: "",
            connections: 0,
            replaces: false,
            is_first: false,
        });
        call.arg(slot.member).arg(slot.connections);
        match question.tokens {
            Some(Tokens { terms, wanted, .. }) => call
                .arg(u64::try_from(terms.interval.as_nanos()).unwrap_or(u64::MAX))
                .arg(terms.capacity)
                .arg(wanted)
                .arg((wanted / 2).max(1)),
            None => call.arg(0).arg(0).arg(0).arg(0),
        };
        call.arg(u8::from(slot.replaces))
            .arg(u8::from(slot.is_first));
        let class = question.tokens.map(|tokens| tokens.class);
        call.arg(class.map_or("", Class::as_str))
            .arg(ClassTurns::TRANSACTIONAL)
            .arg(question.told.map_or(String::new(), |told| told.to_string()));
        call
    }

    /// A heartbeat of `worker`, which holds `slots`: each its key and its member. `presence` says whether it comes back
    /// from an outage.
    pub(crate) fn beat<'s>(
        &self,
        asker: Asker<'_>,
        workers_key: &str,
        worker: &str,
        presence: Presence,
        slots: impl Iterator<Item = (&'s str, &'s str)>,
    ) -> ScriptInvocation<'_> {
        let mut call = self.beat.key(asker.epoch_key);
        call.key(workers_key);
        asker.introduce(&mut call);
        call.arg(worker).arg(match presence {
            Presence::Returning => 1,
            Presence::Steady => 0,
        });
        for (key, member) in slots {
            call.key(key).arg(member);
        }
        call
    }
}

impl Asker<'_> {
    fn introduce(&self, call: &mut ScriptInvocation<'_>) {
        let slot_ttl = u64::try_from(self.slot_ttl.as_micros()).unwrap_or(u64::MAX);
        call.arg(self.remembered_epoch)
            .arg(self.proposed_epoch)
            .arg(slot_ttl);
    }
}

//! Plays the world's mailbox providers on loopback, for demos, tests and benchmarks.
//!
//! Decides what a provider would answer; owns the DNS of that world and the ledger of what was decided. Knows nothing
//! of the sender's side: it is reached by DNS and SMTP only, as real providers are.
//!
//! A provider is a set of domains, an address and habits ([`config::RawProvider`]): latency, greylisting, a hidden rate
//! limit, a limit on connections, times in which it is down. Its recipients have habits too, by their name, with or
//! without a `+label`:
//!
//! | recipient | at RCPT | at the end of the message |
//! |---|---|---|
//! | `bounce@` | 550 5.1.1 | |
//! | `full@` | 452 4.2.2 | |
//! | `defer@` | 451 4.3.0, always | |
//! | `greylist@` | 451 4.7.1 until `greylist` has passed since its sender's first attempt | accepted |
//! | `mxdown@` | 421 4.3.2, and the connection is closed | |
//! | `spam@` | ok | 554 5.7.1 |
//! | `slow@` | ok, `slow` later | accepted, `slow` later |
//! | `drop@` | ok | the connection is closed without a reply, once per Message-ID; then accepted |
//! | `hang@` | ok | no reply, ever |
//! | `success@` and any other | ok | accepted |
//!
//! `<state>-<what>[-<number>]@` misbehaves at a state behind RCPT: `dot-cut@`, `content-cut-1000@`, `rcpt-451@`,
//! `dot-drip-20@`, `data-hang@`, `dot-wait-500@` (see [`config::RawProvider::manners`] for a provider's own manners, and
//! [`config::Habit`] for how they are written).
//!
//! SMTP answers a message once for all its recipients, so one `hang@` hangs, one `drop@` drops and one `spam@` rejects
//! the message for all. A provider's own policy, where it is to reject or to defer, goes before its recipients' habits.
//!
//! Invariant: an accepted recipient is in the ledger before the client is told (see [`ledger`]).

mod behaviour;
pub mod config;
mod counters;
mod distance;
mod dns;
mod exchanger;
pub mod ledger;
mod listener;
mod manners;
mod memory;
mod recorder;
mod session;
mod sim;
mod tls;
mod visitors;
mod world;

pub use config::{Config, RawConfig};
pub use counters::Counts;
pub use sim::{Mailsim, Tally, run};

//! Delivery: pulls jobs, decides when and where they go, sends them over SMTP and settles them.
//!
//! A job's way through this crate: [`leases`] say whose lane it stands in, [`lane`] pulls it, [`intake`] screens it and
//! finds its route, a [`site`] queues it, a [`letter`] is made of it, a [`session`] sends that over a connection, [`judge`]
//! says what the outcome means, and [`settle`] makes that durable before the queue forgets the job.
//!
//! Invariants: a job is settled only after its outcome, or its next schedule, is stored; no final dot is sent without
//! a proven hold; every job that was pulled is settled, given back, or left to the broker's redelivery.

mod attempt;
mod backoff;
mod closure;
pub mod config;
mod connect;
mod copies;
mod dial;
mod fair_queue;
mod intake;
mod judge;
mod lane;
mod leases;
mod letter;
mod open;
mod parking;
mod reservations;
mod sender;
mod session;
mod settle;
mod site;
mod sites;
mod suspects;
mod window;
mod worker;

pub use letter::Hook;
pub use worker::{Delivery, Deps};

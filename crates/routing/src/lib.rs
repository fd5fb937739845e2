//! Decides which hosts may receive mail for a domain and in what order, who runs them, and which addresses are
//! never dialled.
//!
//! Owns the DNS client and the caches of its answers. Never opens a connection to a mail server, never sees a
//! queue, and never guesses: what DNS did not say is an error that [`RouteError::permanence`] calls soft.
//!
//! Invariants:
//! - a [`Route`] is never empty; a null MX (RFC 7505) is an error, not a route;
//! - an answer that ends a job for good was given by DNS, never inferred from its silence;
//! - every name and address that a domain's owner may choose is bounded in number and goes through [`Dialable`].

mod settings;

mod routing;

mod route;

mod error;

mod provider;

mod dialable;
mod special;

mod cache;
mod dns;
mod host;

pub use dialable::{Dialable, NotDialable};
pub use error::RouteError;
pub use provider::{ProviderError, ProviderRule, Providers};
pub use route::{Exchanger, Route, Site};
pub use routing::{Routing, StartError};
pub use settings::Settings;

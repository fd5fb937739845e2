//! Answers "may this path send now?" for all workers of a cell together.
//!
//! Owns the keys `{cell}:rate:*`, `{cell}:slots:*`, `{cell}:workers` and `{cell}:epoch` in Redis. Decides nothing about
//! what the limits are, and never sees a message.
//!
//! Promises, and who keeps them:
//! - a connection slot and its first message are granted together or not at all, with one reason when not, by the
//!   server's clock ([`Throttle::open`]; `scripts/admit.lua`);
//! - over any window `w` a path sends at most `burst + rate * w`, whatever the number of workers, although Redis is asked
//!   per lease and not per message ([`Throttle::take`]; `lease.rs` has the arithmetic);
//! - a worker that dies gives back its slots within one time to live; one that lives renews all of them with one
//!   heartbeat ([`SlotGuard`]; `heartbeat.rs`);
//! - transactional mail has its token before bulk, eight to one, among the sites of one worker ([`Party`]; `line.rs`) and among
//!   workers (`scripts/admit.lua`);
//! - a worker without any slot of a path has one within a heartbeat and the time of one message, also where others hold all;
//!   a site without any has the next that its worker gives up, at once where its mail is transactional and another's is
//!   not ([`SlotGuard::is_wanted`]; `holdings.rs`);
//! - Redis away, slow or wiped neither stops sending nor opens the throttle: a worker falls back to its share of the
//!   limits ([`Mode::Local`]; `gate.rs`, `standing.rs`), and a wiped Redis is told from an idle one (`scripts/epoch.lua`). What was
//!   sent meanwhile is not made up for, so a return may cost a path one burst more.
//!
//! Redis must not evict (`maxmemory-policy noeviction`): a bucket it forgets is a full one.

mod asking;
mod bucket;
mod gate;
mod heartbeat;
mod heir;
mod holdings;
mod lease;
mod limits;
mod line;
mod link;
mod party;
mod scripts;
mod settings;
mod slot;
mod standing;
mod throttle;
mod wait;
mod waiting;

pub use limits::Limits;
pub use link::Mode;
pub use party::Party;
pub use settings::Settings;
pub use slot::SlotGuard;
pub use throttle::{AddressError, Throttle};
pub use wait::{Reason, Wait};

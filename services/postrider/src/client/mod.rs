//! The verbs that speak to the API: `send`, `status`, `cancel`, `events`.

mod api_client;
mod args;
pub mod cancel;
pub mod events;
mod json;
pub mod send;
pub mod status;
mod text;

pub use api_client::ApiClient;
pub(crate) use api_client::report;
pub use args::{Output, ServerArgs};
pub use json::event_to_json;
pub use text::{event_kind, event_line};

//! The wire: bindings generated from `proto/`, and the only conversions between them and the model.
//!
//! Never decides anything and does no I/O. Invariant: what [`decode_job`] and [`decode_event`] return is as valid as
//! if the model's own constructors had made it, whoever wrote the bytes.

#![allow(
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "only the crate can say so for the generated code"
)]

mod convert;
mod event;
mod job;

pub use convert::{class_from_wire, class_to_wire, timestamp_from_wire, timestamp_to_wire};
pub use event::{
    decode_batch, decode_event, encode_batch, encode_event, event_from_wire, event_to_wire,
    kind_from_wire,
};
pub use job::{DecodeError, JOB_VERSION, decode_job, encode_job};

/// The generated bindings of package `postrider.v1`.
#[allow(
    missing_docs,
    clippy::all,
    reason = "generated; the .proto files are the documentation"
)]
pub mod v1 {
    tonic::include_proto!("postrider.v1");
}

/// The compiled `.proto` files, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/postrider.bin"));

//! The promises of Postrider, one file each, kept against real servers.

mod a_message_reaches_its_mailbox;

/// Built by cargo before these tests run.
const PROGRAM: &str = env!("CARGO_BIN_EXE_postrider-under-test");

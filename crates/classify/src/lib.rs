//! Decides what a refusal means: about whom it speaks, and whether trying again can help.
//!
//! Pure. Reads a reply and nothing else: no clock, no store, no history. Decides nothing about suppression, back-off
//! or suspension; whoever does finds the class here and takes care of the rest.
//!
//! The standard codes come first (`codes`); where they say little, or say something about the address that the
//! text contradicts, the text decides, by reviewed rules (`rules.toml`).
//!
//! Invariants:
//! - permanence follows from the code and the stage alone, never from the text (RFC 5321 section 4.2);
//! - before RCPT TO a server knows no recipient, so no verdict of these stages speaks of the address;
//! - a code that blames the address is not believed against a text that blames somebody else.

mod classifier;

mod stage;

mod codes;

mod rules;

pub use classifier::Classifier;
pub use rules::RulesError;
pub use stage::Stage;

//! What a handler wants done about a command.

use std::time::Duration;

use model::Reply;

/// What becomes of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Say this and go on.
    Say(Reply),
    /// Say this, then close; what the peer still sends is not read as commands.
    SayAndClose(Reply),
    /// Close without a word.
    Close,
    /// Say nothing and do nothing until the peer gives up.
    Hang,
}

impl Act {
    /// What is said, if anything.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Say(reply) | Self::SayAndClose(reply) => Some(reply),
            Self::Close | Self::Hang => None,
        }
    }
}

/// An act, and how long to wait before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What becomes of the connection.
    pub act: Act,
    /// How long to wait first. Replies that are due already are sent before the wait.
    pub delay: Duration,
}

impl Answer {
    /// Says `reply` and goes on.
    pub fn say(reply: Reply) -> Self {
        Act::Say(reply).into()
    }

    /// Says `reply` and closes.
    pub fn say_and_close(reply: Reply) -> Self {
        Act::SayAndClose(reply).into()
    }

    /// The same, `delay` later.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay += delay;
        self
    }
}

impl From<Act> for Answer {
    fn from(act: Act) -> Self {
        Self {
            act,
            delay: Duration::ZERO,
        }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::say(reply)
    }
}

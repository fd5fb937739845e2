//! The session as its owner sees it, and the state it is in between two transactions.

use std::collections::HashSet;
use std::mem;

use model::Domain;

use super::wire::Wire;
use super::{EightBit, Envelope, Extensions, Framing, HostName, TlsDetails, Verb};

/// Asked immediately before the octets that complete a message are written: whether the caller still holds the
/// message for sure. Asked again before each further attempt if the peer takes them piecemeal.
pub type Fence<'a> = &'a (dyn Fn() -> bool + Send + Sync);

/// One open session with one server, in the clear or under TLS.
///
/// Dropping it closes the connection, which is always safe: what was not answered was not accepted.
pub struct Session {
    pub(super) wire: Wire,
    pub(super) peer: HostName,
    pub(super) extensions: Extensions,
    pub(super) tls: Option<TlsDetails>,
    pub(super) framing: Framing,
    pub(super) eight_bit: EightBit,
    pub(super) state: State,
    /// MAIL commands so far.
    pub(super) mails: u32,
    /// Recipients' domains so far, where the peer limits them.
    pub(super) domains: HashSet<Domain>,
    /// A transaction came that the peer's limits do not allow.
    pub(super) full: bool,
}

/// What the peer takes the session to be in, once every reply but those of an envelope ahead is read.
#[derive(Debug)]
pub(super) enum State {
    /// No transaction is open.
    Ready,
    /// A transaction was opened and refused; RSET comes first.
    Spoiled,
    /// MAIL, RCPT and DATA of this envelope are on their way, their replies unread.
    Ahead(Box<Envelope>),
    /// Closed, or in a state that is not known.
    Over,
}

impl Session {
    /// Whom the session is with.
    pub fn peer(&self) -> &HostName {
        &self.peer
    }

    /// What the peer offers.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// How the session is encrypted; `None` in the clear.
    pub fn tls(&self) -> Option<&TlsDetails> {
        self.tls.as_ref()
    }

    /// Whether another transaction may begin.
    pub fn is_reusable(&self) -> bool {
        match self.state {
            State::Ready | State::Spoiled => !self.full && self.has_transactions_left(),
            State::Ahead(_) => true,
            State::Over => false,
        }
    }

    /// Whether the envelope given as `next` was opened ahead, so that only its transaction, or
    /// [`withdraw`](Self::withdraw), may follow.
    pub fn is_ahead(&self) -> bool {
        matches!(self.state, State::Ahead(_))
    }

    /// Whether the peer has ended the idle session, or broken its silence. Does not wait; a pool asks before it lends.
    pub fn has_hung_up(&mut self) -> bool {
        !self.is_ahead() && self.wire.has_heard()
    }

    /// Backs out of the envelope that was opened ahead, because its transaction is not going to come.
    ///
    /// If the peer has accepted the envelope, the session is over: its DATA can only be answered with a message, and
    /// an empty one would be delivered. Otherwise the session stays usable.
    pub async fn withdraw(&mut self) {
        match mem::replace(&mut self.state, State::Over) {
            State::Ahead(_) => self.decline().await,
            state @ (State::Ready | State::Spoiled | State::Over) => self.state = state,
        }
    }

    /// Ends the session: QUIT where the peer waits for a command, and a short wait for its answer.
    pub async fn quit(mut self) {
        match self.state {
            State::Ready | State::Spoiled => {
                let _ = self.wire.ask(Verb::Quit, "QUIT\r\n").await;
            }
            State::Ahead(_) | State::Over => {}
        }
        self.wire.shut_down().await;
    }

    /// Whether the peer's limit allows another MAIL (RFC 9422, MAILMAX).
    fn has_transactions_left(&self) -> bool {
        self.extensions
            .mail_limit
            .is_none_or(|limit| self.mails < limit)
    }

    /// Whether the peer's limits allow `envelope` in this session. RCPTMAX does in any case: it is one at least, and a
    /// transaction has one recipient.
    pub(super) fn has_room_for(&self, envelope: &Envelope) -> bool {
        let domain = envelope.recipient.domain();
        let limit = self.extensions.recipient_domain_limit;
        self.has_transactions_left()
            && limit.is_none_or(|limit| {
                self.domains.contains(domain) || self.domains.len() < limit as usize
            })
    }

    /// Counts `envelope`, which is about to be sent.
    pub(super) fn count(&mut self, envelope: &Envelope) {
        self.mails += 1;
        let domain = envelope.recipient.domain();
        let is_limited = self.extensions.recipient_domain_limit.is_some();
        if is_limited && !self.domains.contains(domain) {
            self.domains.insert(domain.clone());
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer)
            .field("tls", &self.tls)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

//! The one who decides what a session answers.

use std::future::{Future, ready};

use model::Reply;

use super::{Answer, Envelope, Hello, Manner, Message, Recipient, Sender, Stage};

/// What TLS came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// The protocol version: "TLSv1_3".
    pub version: String,
    /// The cipher suite: "TLS13_AES_256_GCM_SHA384".
    pub cipher: String,
}

/// Decides the answers of one session. A new one is made for every connection.
///
/// A method is called only where the command is well-formed, in sequence and within the [`Settings`](super::Settings);
/// everything else is refused without asking.
pub trait Handler: Send {
    /// A client connected. The text of a 220 follows our hostname. While the answer's delay passes, a client that
    /// talks is refused (RFC 5321 section 3.1: it must wait for the greeting).
    fn greet(&mut self) -> impl Future<Output = Answer> + Send;

    /// The client named itself. The text of a 250 follows our hostname.
    fn hello(&mut self, hello: &Hello) -> impl Future<Output = Answer> + Send {
        let _ = hello;
        ready(Reply::new(250, None, "").into())
    }

    /// The session is encrypted from here on; the client will name itself again.
    fn secured(&mut self, tls: &TlsFacts) {
        let _ = tls;
    }

    /// A message begins. A 2xx opens the transaction.
    fn mail(&mut self, sender: &Sender) -> impl Future<Output = Answer> + Send;

    /// A recipient is named. A 2xx puts it into the envelope.
    fn rcpt(
        &mut self,
        sender: &Sender,
        recipient: &Recipient,
    ) -> impl Future<Output = Answer> + Send;

    /// A message is complete. A 2xx takes responsibility for it (RFC 5321 section 6.1), for every recipient.
    fn message(&mut self, message: Message) -> impl Future<Output = Answer> + Send;

    /// How to misbehave at `stage`, if at all; asked when what is to be answered there is known.
    fn manner(&mut self, stage: Stage) -> Option<Manner> {
        let _ = stage;
        None
    }

    /// A message was refused without asking, with `reply`, because of its size or its form.
    fn refused(&mut self, envelope: &Envelope, reply: &Reply) {
        let _ = (envelope, reply);
    }
}

//! Which command may follow which (RFC 5321 section 4.1.4).

use model::{EnhancedCode, Reply};

use super::content::Content;
use super::envelope::{Envelope, Hello, Recipient, Sender};

/// What the session knows of its client and of the message at hand.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    hello: Option<Hello>,
    envelope: Option<Envelope>,
    chunks: Option<Content>,
}

fn out_of_sequence(text: &str) -> Reply {
    Reply::new(503, Some(EnhancedCode(5, 5, 1)), text)
}

impl Transaction {
    /// The client named itself: everything before is forgotten.
    pub(super) fn begin(&mut self, hello: Hello) {
        *self = Self {
            hello: Some(hello),
            ..Self::default()
        };
    }

    /// The message at hand is forgotten, the client's name is not.
    pub(super) fn reset(&mut self) {
        self.envelope = None;
        self.chunks = None;
    }

    pub(super) fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    pub(super) fn is_open(&self) -> bool {
        self.envelope.is_some()
    }

    pub(super) fn has_smtp_utf8(&self) -> bool {
        self.envelope
            .as_ref()
            .is_some_and(|envelope| envelope.sender.smtp_utf8)
    }

    /// Whether MAIL may come now.
    pub(super) fn check_mail(&self) -> Result<(), Reply> {
        match (&self.hello, &self.envelope) {
            (None, _) => Err(out_of_sequence("send EHLO first")),
            (Some(_), Some(_)) => Err(out_of_sequence("a message is already begun")),
            (Some(_), None) => Ok(()),
        }
    }

    pub(super) fn open(&mut self, sender: Sender) {
        self.envelope = Some(Envelope {
            sender,
            recipients: Vec::new(),
        });
    }

    /// The message's sender, if RCPT may come now and the message has fewer than `most` recipients.
    pub(super) fn check_rcpt(&self, most: usize) -> Result<&Sender, Reply> {
        match (&self.envelope, &self.chunks) {
            (None, _) => Err(out_of_sequence("send MAIL first")),
            (Some(_), Some(_)) => Err(out_of_sequence("content has already begun")),
            (Some(envelope), None) if envelope.recipients.len() >= most => Err(Reply::new(
                452,
                Some(EnhancedCode(4, 5, 3)),
                "too many recipients",
            )),
            (Some(envelope), None) => Ok(&envelope.sender),
        }
    }

    pub(super) fn add(&mut self, recipient: Recipient) {
        if let Some(envelope) = &mut self.envelope {
            envelope.recipients.push(recipient);
        }
    }

    /// Whether DATA may come now.
    pub(super) fn check_data(&self) -> Result<(), Reply> {
        match (&self.envelope, &self.chunks) {
            (None, _) => Err(out_of_sequence("send MAIL first")),
            (Some(_), Some(_)) => Err(out_of_sequence("the message began with BDAT")),
            (Some(envelope), None) => check_recipients(envelope),
        }
    }

    /// Whether BDAT may come now.
    pub(super) fn check_bdat(&self) -> Result<(), Reply> {
        match &self.envelope {
            None => Err(out_of_sequence("send MAIL first")),
            Some(envelope) => check_recipients(envelope),
        }
    }

    /// What BDAT brought so far, to be put back with [`keep_chunks`](Self::keep_chunks).
    pub(super) fn take_chunks(&mut self) -> Option<Content> {
        self.chunks.take()
    }

    pub(super) fn keep_chunks(&mut self, content: Content) {
        self.chunks = Some(content);
    }

    /// Ends the message and hands out its envelope.
    pub(super) fn close(&mut self) -> Option<Envelope> {
        self.chunks = None;
        self.envelope.take()
    }
}

fn check_recipients(envelope: &Envelope) -> Result<(), Reply> {
    if envelope.recipients.is_empty() {
        return Err(Reply::new(
            554,
            Some(EnhancedCode(5, 5, 1)),
            "no valid recipients",
        ));
    }
    Ok(())
}

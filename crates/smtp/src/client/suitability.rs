//! Refuses what the peer cannot take before it is asked, or makes it what the peer can take.

use model::{EnhancedCode, Reply};

use super::{EightBit, Envelope, Party, Refusal, Session, Transaction, Verb};
use crate::mime;

impl Session {
    /// The refusal that sending `envelope` in this session would have to end in, if it would.
    pub(super) fn unsuitable(&self, envelope: &Envelope) -> Option<Refusal> {
        let offered = &self.extensions;
        let facts = envelope.content;
        if envelope.has_utf8_address() && !offered.smtputf8 {
            let text = "the address is not ASCII and the peer does not offer SMTPUTF8";
            return Some(refusal(553, EnhancedCode(5, 6, 7), text));
        }
        if facts.utf8_header && !offered.smtputf8 {
            let text = "the header has raw UTF-8 and the peer does not offer SMTPUTF8; encode it (RFC 2047)";
            return Some(refusal(554, EnhancedCode(5, 6, 9), text));
        }
        if envelope.require_tls && !self.is_verified() {
            let text = "REQUIRETLS: the session is not encrypted for a verified peer";
            return Some(refusal(550, EnhancedCode(5, 7, 10), text));
        }
        if envelope.require_tls && !offered.require_tls {
            let text = "REQUIRETLS: the peer does not offer it";
            return Some(refusal(550, EnhancedCode(5, 7, 30), text));
        }
        if facts.eight_bit && !offered.eight_bit_mime && self.eight_bit == EightBit::Refuse {
            let text = "the content has 8-bit octets and the peer does not offer 8BITMIME";
            return Some(refusal(554, EnhancedCode(5, 6, 3), text));
        }
        let limit = offered.size_limit.filter(|limit| facts.size > *limit)?;
        let text = format!(
            "{} octets are more than the {limit} the peer takes",
            facts.size
        );
        Some(refusal(552, EnhancedCode(5, 3, 4), &text))
    }

    /// Whether the content of `envelope` has to be made 7-bit for this peer.
    pub(super) fn must_reencode(&self, envelope: &Envelope) -> bool {
        let facts = envelope.content;
        self.eight_bit == EightBit::Reencode && facts.eight_bit && !self.extensions.eight_bit_mime
    }

    /// The content of `transaction` in 7 bits, or the refusal that sending it has to end in.
    pub(super) fn reencode(transaction: &Transaction<'_>) -> Result<Vec<u8>, Refusal> {
        let whole = transaction.content.chunks().concat();
        let reencoded = mime::to_seven_bit(&whole).map_err(|obstacle| {
            let text = format!("the peer does not offer 8BITMIME, and {obstacle}");
            refusal(554, EnhancedCode(5, 6, 3), &text)
        })?;
        Ok(reencoded.into_owned())
    }

    fn is_verified(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| tls.verification.is_ok())
    }
}

fn refusal(code: u16, enhanced: EnhancedCode, text: &str) -> Refusal {
    Refusal {
        verb: Verb::Mail,
        reply: Reply::new(code, Some(enhanced), text),
        by: Party::Us,
    }
}

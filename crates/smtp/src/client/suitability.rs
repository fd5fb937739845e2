//! Refuses what the peer cannot take before it is asked.

use model::{EnhancedCode, Reply};

use super::{EightBit, Envelope, Party, Refusal, Session, Verb};

impl Session {
    /// The refusal that sending `envelope` in this session would have to end in, if it would.
    pub(super) fn unsuitable(&self, envelope: &Envelope) -> Option<Refusal> {
        let offered = &self.extensions;
        let facts = envelope.content;
        if envelope.needs_smtputf8() && !offered.smtputf8 {
            let text = "the address is not ASCII and the peer does not offer SMTPUTF8";
            return Some(refusal(553, EnhancedCode(5, 6, 7), text));
        }
        if envelope.require_tls && !(offered.require_tls && self.is_verified()) {
            let text = "REQUIRETLS: the peer does not promise it over verified TLS";
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

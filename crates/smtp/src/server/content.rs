//! The content of a message while it comes in: checked, counted, and held up to a limit.

use memchr::memchr3_iter;
use model::{ByteSize, EnhancedCode, Reply};

/// How much more than the limit is read and thrown away before patience ends, as a multiple of the limit.
const PATIENCE: u64 = 2;

/// Why content is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ContentFault {
    /// A CR without LF.
    #[error("bare CR")]
    BareCr,
    /// An LF without CR.
    #[error("bare LF")]
    BareLf,
    /// An octet 0.
    #[error("NUL")]
    Nul,
    /// More octets than are taken.
    #[error("too large")]
    TooLarge,
}

impl ContentFault {
    /// What to tell the client.
    pub(super) fn reply(self) -> Reply {
        let malformed = |what| Reply::new(550, Some(EnhancedCode(5, 6, 0)), what);
        match self {
            Self::BareCr => malformed("message contains a bare CR"),
            Self::BareLf => malformed("message contains a bare LF"),
            Self::Nul => malformed("message contains a NUL"),
            Self::TooLarge => Reply::new(552, Some(EnhancedCode(5, 3, 4)), "message too large"),
        }
    }

    /// Whether peer and server may disagree on where the message ends, so that nothing behind it can be trusted.
    pub(super) fn is_disputed_end(self) -> bool {
        match self {
            Self::BareCr | Self::BareLf | Self::Nul => true,
            Self::TooLarge => false,
        }
    }
}

/// Content so far. Holds nothing once it is known that nothing will be taken.
#[derive(Debug)]
pub(super) struct Content {
    held: Vec<u8>,
    seen: u64,
    limit: u64,
    last: u8,
    malformed: Option<ContentFault>,
}

impl Content {
    pub(super) fn new(limit: ByteSize) -> Self {
        Self {
            held: Vec::new(),
            seen: 0,
            limit: limit.0,
            last: b'\n',
            malformed: None,
        }
    }

    /// Takes the next octets.
    pub(super) fn push(&mut self, octets: &[u8]) {
        self.malformed = self.malformed.or_else(|| self.inspect(octets));
        self.seen += octets.len() as u64;
        self.last = octets.last().copied().unwrap_or(self.last);
        if self.fault().is_some() {
            self.held = Vec::new();
        } else {
            self.held.extend_from_slice(octets);
        }
    }

    /// What is wrong with the content so far. That it is malformed weighs more than that it is large.
    pub(super) fn fault(&self) -> Option<ContentFault> {
        let too_large = (self.seen > self.limit).then_some(ContentFault::TooLarge);
        self.malformed.or(too_large)
    }

    /// Whether the peer sends on and on.
    pub(super) fn is_beyond_patience(&self) -> bool {
        self.seen > self.limit.saturating_mul(PATIENCE)
    }

    /// The whole content.
    pub(super) fn finish(self) -> Result<Vec<u8>, ContentFault> {
        match self.fault() {
            Some(fault) => Err(fault),
            None if self.last == b'\r' => Err(ContentFault::BareCr),
            None => Ok(self.held),
        }
    }

    fn inspect(&self, octets: &[u8]) -> Option<ContentFault> {
        if self.last == b'\r' && octets.first().is_some_and(|first| *first != b'\n') {
            return Some(ContentFault::BareCr);
        }
        let before = |at: usize| at.checked_sub(1).map_or(self.last, |at| octets[at]);
        memchr3_iter(b'\r', b'\n', 0, octets).find_map(|at| match octets[at] {
            b'\n' => (before(at) != b'\r').then_some(ContentFault::BareLf),
            b'\r' => octets
                .get(at + 1)
                .is_some_and(|next| *next != b'\n')
                .then_some(ContentFault::BareCr),
            _ => Some(ContentFault::Nul),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pieces: &[&[u8]]) -> Result<Vec<u8>, ContentFault> {
        let mut content = Content::new(ByteSize(20));
        pieces.iter().for_each(|piece| content.push(piece));
        content.finish()
    }

    #[test]
    fn lines_that_end_in_crlf_are_taken_however_they_arrive() {
        assert_eq!(take(&[b"a\r", b"\nb\r\n"]), Ok(b"a\r\nb\r\n".to_vec()));
        assert_eq!(take(&[b"", b"no end"]), Ok(b"no end".to_vec()));
    }

    #[test]
    fn bare_line_ends_and_nul_are_found_however_they_arrive() {
        for cr in [
            &[&b"a\rb"[..]][..],
            &[b"a\r", b"b"],
            &[b"a\r", b"\r\n"],
            &[b"a\r"],
        ] {
            assert_eq!(take(cr), Err(ContentFault::BareCr), "{cr:?}");
        }
        for lf in [
            &[&b"a\nb"[..]][..],
            &[b"a", b"\nb"],
            &[b"\n"],
            &[b"\r\n", b"\n"],
        ] {
            assert_eq!(take(lf), Err(ContentFault::BareLf), "{lf:?}");
        }
        assert_eq!(take(&[b"a\0"]), Err(ContentFault::Nul));
    }

    #[test]
    fn nothing_is_held_beyond_the_limit() {
        let mut content = Content::new(ByteSize(4));
        content.push(b"12345");
        assert_eq!(content.held.capacity(), 0);
        assert!(!content.is_beyond_patience());
        content.push(b"6789");
        assert!(content.is_beyond_patience());
        assert_eq!(content.finish(), Err(ContentFault::TooLarge));
    }
}

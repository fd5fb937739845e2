//! What is sent as the message: chunks that together are canonical.

/// The content is not what may be put on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content holds a bare CR, a bare LF or a NUL at octet {at}")]
pub struct NotCanonical {
    /// Where the first such octet stands.
    pub at: u64,
}

/// What the envelope must know of the content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContentFacts {
    /// Octets on the wire, without dots and framing (RFC 1870 section 5).
    pub size: u64,
    /// Whether there are octets above 127.
    pub eight_bit: bool,
    /// Whether there are such octets in the header section, which only SMTPUTF8 allows (RFC 6532).
    pub utf8_header: bool,
}

/// One message: chunks that follow each other without a gap, in which CR and LF occur only as a pair and NUL not at
/// all (RFC 5321 section 2.3.8).
///
/// That is checked here, in one pass, so that no receiver can see an end of data where we wrote none ("SMTP
/// smuggling"). Content that does not end in CRLF is sent with one.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    chunks: &'a [&'a [u8]],
    facts: ContentFacts,
    closed: bool,
}

impl<'a> Content<'a> {
    /// The content in `chunks`, which need not end where lines do.
    pub fn new(chunks: &'a [&'a [u8]]) -> Result<Self, NotCanonical> {
        let mut scan = Scan::default();
        for chunk in chunks {
            scan.chunk(chunk)?;
        }
        scan.finish()?;
        let closed = scan.closed || scan.seen == 0;
        Ok(Self {
            chunks,
            facts: ContentFacts {
                size: if closed { scan.seen } else { scan.seen + 2 },
                eight_bit: scan.eight_bit,
                utf8_header: scan.eight_bit && !has_ascii_header(chunks),
            },
            closed,
        })
    }

    /// What the envelope must know of it.
    pub fn facts(&self) -> ContentFacts {
        self.facts
    }

    /// The chunks as they were given.
    pub(crate) fn chunks(&self) -> &'a [&'a [u8]] {
        self.chunks
    }

    /// What must be added so that it ends in CRLF: nothing, or CRLF.
    pub(crate) fn closing(&self) -> &'static [u8] {
        if self.closed { b"" } else { b"\r\n" }
    }
}

/// Whether the lines before the first empty one are ASCII.
fn has_ascii_header(chunks: &[&[u8]]) -> bool {
    let mut line = 0;
    for octet in chunks.iter().copied().flatten() {
        match octet {
            b'\r' => {}
            b'\n' if line == 0 => return true,
            b'\n' => line = 0,
            0..=127 => line += 1,
            128.. => return false,
        }
    }
    true
}

/// One pass over the chunks; a CR waits for its LF across their borders.
#[derive(Default)]
struct Scan {
    seen: u64,
    eight_bit: bool,
    after_cr: bool,
    closed: bool,
}

impl Scan {
    fn chunk(&mut self, chunk: &[u8]) -> Result<(), NotCanonical> {
        let mut at = 0;
        if self.after_cr && !chunk.is_empty() {
            if chunk[0] != b'\n' {
                return Err(NotCanonical { at: self.seen - 1 });
            }
            at = 1;
            self.after_cr = false;
        }
        let rest = &chunk[at..];
        if !pairs_up(rest) {
            let here = at + fault(rest);
            let at = self.seen + here as u64;
            return Err(NotCanonical { at });
        }
        self.after_cr |= rest.ends_with(b"\r");
        if let Some(last) = chunk.last() {
            self.closed = *last == b'\n';
        }
        self.seen += chunk.len() as u64;
        self.eight_bit |= !chunk.is_ascii();
        Ok(())
    }

    fn finish(&self) -> Result<(), NotCanonical> {
        if self.after_cr {
            return Err(NotCanonical { at: self.seen - 1 });
        }
        Ok(())
    }
}

/// Whether CR and LF occur in `octets` only as pairs, but for a CR at the end, and NUL not at all. No octet decides what is
/// done with the next, so that compilers look at many at once: every message is read here.
fn pairs_up(octets: &[u8]) -> bool {
    let (Some(first), Some(last)) = (octets.first(), octets.last()) else {
        return true;
    };
    let neighbours = octets.iter().zip(&octets[1..]);
    let spoilt = neighbours.fold(false, |spoilt, (one, next)| {
        spoilt | ((*one == b'\r') != (*next == b'\n')) | (*one == 0)
    });
    !spoilt && *first != b'\n' && *last != 0
}

/// Where the first octet stands that does not [pair up](pairs_up).
fn fault(octets: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr::memchr3(b'\r', b'\n', 0, &octets[at..]) {
        at += found;
        if !octets[at..].starts_with(b"\r\n") {
            return at;
        }
        at += 2;
    }
    octets.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_content_tells_its_size_and_whether_it_has_eight_bits() {
        let content =
            Content::new(&[b"a: b\r", b"\n\r\n", b"", "grüße".as_bytes()]).map(|c| c.facts());
        let expected = ContentFacts {
            size: 8 + 7 + 2,
            eight_bit: true,
            utf8_header: false,
        };
        assert_eq!(content, Ok(expected));
    }

    #[test]
    fn only_what_stands_before_the_first_empty_line_is_header() {
        for (chunks, expected) in [
            (&["a: ü\r\n\r\nb".as_bytes()][..], true),
            (&[b"a: b\r\n", " ü\r\n\r\n".as_bytes()], true),
            (&[b"a: b\r\n\r", "\nü\r\n".as_bytes()], false),
            (&["\r\nü".as_bytes()], false),
            (&["ü".as_bytes()], true),
        ] {
            let facts = Content::new(chunks).unwrap().facts();
            assert_eq!(facts.utf8_header, expected, "{chunks:?}");
        }
    }

    #[test]
    fn empty_content_is_content() {
        assert_eq!(
            Content::new(&[]).map(|c| c.facts()),
            Ok(ContentFacts::default())
        );
        assert_eq!(Content::new(&[b""]).map(|c| c.closing()), Ok(&b""[..]));
    }

    #[test]
    fn what_a_receiver_could_take_for_a_line_end_is_refused() {
        for (chunks, at) in [
            (&[&b"a\nb"[..]][..], 1),
            (&[b"a\rb"], 1),
            (&[b"a\r\r\n"], 1),
            (&[b"a\r\n\n"], 3),
            (&[b"a\0b"], 1),
            (&[b"a\r", b"b"], 1),
            (&[b"a\r", b"\r\n"], 1),
            (&[b"a\r\n", b"\n"], 3),
            (&[b"a\r"], 1),
            (&[b"a\r", b""], 1),
        ] {
            assert_eq!(
                Content::new(chunks).map(|c| c.facts()),
                Err(NotCanonical { at }),
                "{chunks:?}"
            );
        }
    }
}

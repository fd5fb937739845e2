//! Transparency: a line that begins with a dot is sent with two (RFC 5321 section 4.5.2).

use std::slice::Iter;

use memchr::memmem;

use super::Content;

/// The content as runs to be written one behind the other. Each borrows from the content; nothing is copied.
pub(crate) struct Stuffed<'a> {
    chunks: Iter<'a, &'a [u8]>,
    rest: &'a [u8],
    at_line_start: bool,
    needle: memmem::Finder<'static>,
}

impl<'a> Stuffed<'a> {
    /// The runs of `content`, which leaves the closing CRLF and the final dot to the writer.
    pub(crate) fn new(content: &Content<'a>) -> Self {
        Self {
            chunks: content.chunks().iter(),
            rest: b"",
            at_line_start: true,
            needle: memmem::Finder::new(b"\n."),
        }
    }
}

impl<'a> Iterator for Stuffed<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while self.rest.is_empty() {
            self.rest = self.chunks.next()?;
        }
        if self.at_line_start && self.rest[0] == b'.' {
            self.at_line_start = false;
            return Some(b".");
        }
        let end = match self.needle.find(self.rest) {
            Some(newline) => newline + 1,
            None => self.rest.len(),
        };
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.at_line_start = run.ends_with(b"\n");
        Some(run)
    }
}

/// All that is written for `content` behind DATA.
#[cfg(any(test, fuzzing))]
pub(crate) fn on_the_wire(content: &Content<'_>) -> Vec<u8> {
    let mut wire = Stuffed::new(content).collect::<Vec<_>>().concat();
    wire.extend_from_slice(content.closing());
    wire.extend_from_slice(b".\r\n");
    wire
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stuffed(chunks: &[&[u8]]) -> Vec<u8> {
        let content = Content::new(chunks).unwrap();
        Stuffed::new(&content).collect::<Vec<_>>().concat()
    }

    /// RFC 5321 section 4.5.2, word for word.
    fn by_the_book(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in text.split_inclusive(|octet| *octet == b'\n') {
            if line.starts_with(b".") {
                out.push(b'.');
            }
            out.extend_from_slice(line);
        }
        out
    }

    #[test]
    fn a_leading_dot_is_doubled_wherever_chunks_meet() {
        assert_eq!(
            stuffed(&[b".", b".a\r", b"\n", b".\r\n"]),
            b"...a\r\n..\r\n"
        );
        assert_eq!(stuffed(&[b"a\r\n", b".b"]), b"a\r\n..b");
        assert_eq!(stuffed(&[b"a", b".b\r\n..\r\n"]), b"a.b\r\n...\r\n");
    }

    proptest! {
        #[test]
        fn chunks_are_stuffed_as_the_whole_would_be(
            lines in proptest::collection::vec("[.a]{0,4}", 0..12),
            cuts in proptest::collection::vec(0usize..64, 0..6),
        ) {
            let whole = lines.join("\r\n").into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &whole[pair[0]..pair[1]]).collect();
            prop_assert_eq!(stuffed(&chunks), by_the_book(&whole));
        }
    }
}

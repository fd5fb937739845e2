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

    /// Every string over CR, LF and dot up to nine octets, between two letters: 29,524 attempts at smuggling.
    ///
    /// A receiver may take any of CR, LF and CRLF for the end of a line; each sees one message.
    #[test]
    fn no_receiver_however_lenient_sees_an_end_where_none_was_written() {
        let alphabet = b"\r\n.";
        let mut sent = 0;
        for length in 0..=9_u32 {
            for number in 0..3_usize.pow(length) {
                let middle = (0..length).map(|place| alphabet[number / 3_usize.pow(place) % 3]);
                let text: Vec<u8> = [b'a'].into_iter().chain(middle).chain([b'b']).collect();
                let chunks = [&text[..text.len() / 2], &text[text.len() / 2..]];
                let Ok(content) = Content::new(&chunks) else {
                    continue;
                };
                sent += 1;
                let wire = on_the_wire(&content);
                let ends_line = |octet: u8| octet == b'\r' || octet == b'\n';
                let ends = wire
                    .windows(3)
                    .filter(|three| ends_line(three[0]) && three[1] == b'.' && ends_line(three[2]));
                assert_eq!(ends.count(), 1, "{}", text.escape_ascii());
                assert!(wire.ends_with(b"\r\n.\r\n"));
            }
        }
        // Dots and whole CRLFs, in any order: a(n) = a(n - 1) + a(n - 2).
        assert_eq!(sent, 1 + 1 + 2 + 3 + 5 + 8 + 13 + 21 + 34 + 55);
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

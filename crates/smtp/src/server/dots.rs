//! Finds the end of DATA and takes the stuffed dots out (RFC 5321 section 4.5.2).
//!
//! Invariant: the end is CR LF `.` CR LF and nothing else, where the CR LF of the DATA command counts as the first.

use memchr::memchr;

use super::content::Content;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    LineStart,
    Text,
    Cr,
    Dot,
    DotCr,
}

/// Where in its lines the content stands.
#[derive(Debug)]
pub(super) struct Dots(At);

impl Dots {
    pub(super) fn new() -> Self {
        Self(At::LineStart)
    }

    /// Passes on to `content` what of `input` belongs to it.
    ///
    /// Answers how many octets of `input` were used, if the end is among them; `None` if all were and it is not.
    pub(super) fn feed(&mut self, input: &[u8], content: &mut Content) -> Option<usize> {
        if self.0 == At::DotCr && input.first().is_some_and(|first| *first != b'\n') {
            content.push(b"\r");
        }
        let mut kept_from = 0;
        let mut at = 0;
        while let Some(&octet) = input.get(at) {
            (self.0, at) = match (self.0, octet) {
                (At::LineStart, b'.') => {
                    content.push(&input[kept_from..at]);
                    kept_from = at + 1;
                    (At::Dot, at + 1)
                }
                (At::Dot, b'\r') => (At::DotCr, at + 1),
                (At::DotCr, b'\n') => return Some(at + 1),
                (At::Cr, b'\n') => (At::LineStart, at + 1),
                (At::Cr | At::DotCr, b'\r') => (At::Cr, at + 1),
                (At::LineStart | At::Text | At::Cr | At::Dot | At::DotCr, _) => {
                    match memchr(b'\r', &input[at..]) {
                        Some(distance) => (At::Cr, at + distance + 1),
                        None => (At::Text, input.len()),
                    }
                }
            };
        }
        let withheld = usize::from(self.0 == At::DotCr && kept_from < input.len());
        content.push(&input[kept_from..input.len() - withheld]);
        None
    }
}

#[cfg(test)]
mod tests {
    use model::ByteSize;

    use super::super::content::ContentFault;
    use super::*;

    type Taken = Result<Vec<u8>, ContentFault>;

    /// The content of `input` and what follows its end, when it comes in pieces of `piece` octets.
    fn split(input: &[u8], piece: usize) -> Option<(Taken, Vec<u8>)> {
        let mut content = Content::new(ByteSize(1000));
        let mut dots = Dots::new();
        for (index, part) in input.chunks(piece).enumerate() {
            if let Some(used) = dots.feed(part, &mut content) {
                return Some((content.finish(), input[index * piece + used..].to_vec()));
            }
        }
        None
    }

    #[test]
    fn stuffed_dots_are_taken_out_wherever_the_input_is_cut() {
        let input = b"..a\r\n.b\r\n..\r\nc.\r\n.\r\nQUIT\r\n";
        for piece in 1..=input.len() {
            let expected = (Ok(b".a\r\nb\r\n.\r\nc.\r\n".to_vec()), b"QUIT\r\n".to_vec());
            assert_eq!(split(input, piece), Some(expected), "{piece}");
        }
    }

    #[test]
    fn a_dot_alone_is_an_empty_message() {
        assert_eq!(split(b".\r\n", 1), Some((Ok(vec![]), vec![])));
    }

    /// Every string over CR, LF, dot and a letter up to six octets, between two lines of text.
    #[test]
    fn only_crlf_dot_crlf_ends_a_message() {
        let alphabet = b"\r\n.x";
        for length in 0..=6_u32 {
            for number in 0..4_usize.pow(length) {
                let middle: Vec<u8> = (0..length)
                    .map(|place| alphabet[number / 4_usize.pow(place) % 4])
                    .collect();
                let input = [b"a", &middle[..], b"b\r\n.\r\n"].concat();
                let end = memchr::memmem::find(&input, b"\r\n.\r\n").map(|at| at + 5);
                for piece in [1, 2, 3, input.len()] {
                    let rest = split(&input, piece).map(|(_, rest)| input.len() - rest.len());
                    assert_eq!(rest, end, "{middle:?} in pieces of {piece}");
                }
            }
        }
    }
}

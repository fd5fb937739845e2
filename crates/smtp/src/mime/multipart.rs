//! The parts between boundaries (RFC 2046 section 5.1.1).

use memchr::memmem;

use super::Obstacle;

/// Writes `body` with every part passed through `part`. Delimiters stay as they are; what stands before the first or
/// behind the last is for nobody to read, and is left out where it is not ASCII.
pub(super) fn rewrite(
    body: &[u8],
    boundary: &str,
    out: &mut Vec<u8>,
    mut part: impl FnMut(&[u8], &mut Vec<u8>) -> Result<(), Obstacle>,
) -> Result<(), Obstacle> {
    let mut delimiters = Delimiters::new(body, boundary);
    let first = delimiters.next().ok_or(Obstacle::Boundary)?;
    write_ascii(&body[..first.start], out);
    out.extend_from_slice(&body[first.start..first.end]);
    let mut current = first;
    while !current.closes {
        let Some(next) = delimiters.next() else {
            // Never closed: the last part goes on to the end.
            return part(&body[current.end..], out);
        };
        // Two delimiters in a row share a CRLF, and nothing is between them.
        let start = next.start.max(current.end);
        part(&body[current.end..start], out)?;
        out.extend_from_slice(&body[start..next.end]);
        current = next;
    }
    write_ascii(&body[current.end..], out);
    Ok(())
}

fn write_ascii(octets: &[u8], out: &mut Vec<u8>) {
    if octets.is_ascii() {
        out.extend_from_slice(octets);
    }
}

/// One delimiter line: the CRLF in front of it belongs to it, and so does its own.
struct Delimiter {
    start: usize,
    end: usize,
    closes: bool,
}

/// The delimiters of one boundary, in order, up to the one that closes.
struct Delimiters<'a> {
    body: &'a [u8],
    needle: Vec<u8>,
    at: usize,
}

impl<'a> Delimiters<'a> {
    fn new(body: &'a [u8], boundary: &str) -> Self {
        Self {
            body,
            needle: format!("--{boundary}").into_bytes(),
            at: 0,
        }
    }
}

impl Iterator for Delimiters<'_> {
    type Item = Delimiter;

    fn next(&mut self) -> Option<Delimiter> {
        while let Some(found) = memmem::find(&self.body[self.at..], &self.needle) {
            let start = self.at + found;
            let behind = start + self.needle.len();
            self.at = behind;
            let starts_line = start == 0 || self.body[..start].ends_with(b"\r\n");
            let Some((length, closes)) = rest_of_delimiter(&self.body[behind..]) else {
                continue;
            };
            if starts_line {
                self.at = behind + length;
                return Some(Delimiter {
                    start: start.saturating_sub(2),
                    end: behind + length,
                    closes,
                });
            }
        }
        None
    }
}

/// How long the rest of a delimiter line is, and whether it closes; `None` if `text` goes on with something else, so
/// that this is the delimiter of another boundary, or text.
fn rest_of_delimiter(text: &[u8]) -> Option<(usize, bool)> {
    let closes = text.starts_with(b"--");
    let tail = if closes { &text[2..] } else { text };
    let padding = tail.iter().take_while(|octet| b" \t".contains(octet));
    let length = text.len() - tail.len() + padding.count();
    match &text[length..] {
        [] => Some((length, closes)),
        // The CRLF behind the last delimiter begins the epilogue.
        [b'\r', b'\n', ..] => Some((if closes { length } else { length + 2 }, closes)),
        _ => None,
    }
}

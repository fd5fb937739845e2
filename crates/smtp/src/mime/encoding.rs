//! Quoted-printable and base64 (RFC 2045 section 6), for octets in CRLF form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The most characters of an encoded line, without its CRLF.
const LINE: usize = 76;
/// Octets that fill one line of base64.
const BASE64_OCTETS: usize = LINE / 4 * 3;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As it is.
    SevenBit,
    QuotedPrintable,
    Base64,
}

impl Encoding {
    /// The one that a reader can still read, unless that is far longer.
    pub(super) fn of_text(text: &[u8]) -> Self {
        let high = text.iter().filter(|octet| !octet.is_ascii()).count();
        // Three characters for each such octet, against four for every three octets.
        if high * 4 > text.len() {
            Self::Base64
        } else {
            Self::QuotedPrintable
        }
    }

    /// The field that says so.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::SevenBit => "Content-Transfer-Encoding: 7bit\r\n",
            Self::QuotedPrintable => "Content-Transfer-Encoding: quoted-printable\r\n",
            Self::Base64 => "Content-Transfer-Encoding: base64\r\n",
        }
    }

    /// Writes `body` so. It ends in a CRLF only if `body` does.
    pub(super) fn write(self, body: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::SevenBit => out.extend_from_slice(body),
            Self::QuotedPrintable => quoted_printable(body, out),
            Self::Base64 => base64(body, out),
        }
    }
}

fn base64(body: &[u8], out: &mut Vec<u8>) {
    let mut lines = body.chunks(BASE64_OCTETS).peekable();
    while let Some(line) = lines.next() {
        out.extend_from_slice(STANDARD.encode(line).as_bytes());
        if lines.peek().is_some() {
            out.extend_from_slice(b"\r\n");
        }
    }
    if body.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
}

fn quoted_printable(body: &[u8], out: &mut Vec<u8>) {
    for line in body.split_inclusive(|octet| *octet == b'\n') {
        match line.strip_suffix(b"\r\n") {
            Some(text) => {
                quote_line(text, out);
                out.extend_from_slice(b"\r\n");
            }
            None => quote_line(line, out),
        }
    }
}

/// Writes one line, broken softly where it grows too long.
fn quote_line(text: &[u8], out: &mut Vec<u8>) {
    let mut column = 0;
    for (at, octet) in text.iter().enumerate() {
        let is_last = at + 1 == text.len();
        let mut width = if is_literal(*octet, is_last) { 1 } else { 3 };
        // A soft line break takes a column of its own, unless the line ends here.
        if column + width > LINE - usize::from(!is_last) {
            out.extend_from_slice(b"=\r\n");
            column = 0;
            // No line that was not there may look like a boundary.
            if *octet == b'-' {
                width = 3;
            }
        }
        if width == 1 {
            out.push(*octet);
        } else {
            out.extend_from_slice(format!("={octet:02X}").as_bytes());
        }
        column += width;
    }
}

/// Whether the octet may stand for itself; white space not at the end of a line.
fn is_literal(octet: u8, is_last: bool) -> bool {
    match octet {
        b'=' => false,
        b'!'..=b'~' => true,
        b' ' | b'\t' => !is_last,
        _ => false,
    }
}

//! The fields of a header that say what the body is.

use super::encoding::Encoding;

const ENCODING: &str = "Content-Transfer-Encoding";
const TYPE: &str = "Content-Type";
const VERSION: &str = "MIME-Version";

/// The header with the empty line that ends it, and the body.
pub(super) fn split(entity: &[u8]) -> (&[u8], &[u8]) {
    if entity.starts_with(b"\r\n") {
        return entity.split_at(2);
    }
    match memchr::memmem::find(entity, b"\r\n\r\n") {
        Some(end) => entity.split_at(end + 4),
        None => (entity, b""),
    }
}

/// A header in ASCII, with the empty line.
pub(super) struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    /// The fields of `head`; of one that is not ASCII there are none.
    pub(super) fn of(head: &'a [u8]) -> Self {
        Self(std::str::from_utf8(head).unwrap_or_default())
    }

    /// What the body is, if the header says so.
    pub(super) fn media_type(&self) -> Option<MediaType> {
        self.value(TYPE).map(MediaType::read)
    }

    /// Whether the body stands as it is: 7bit, 8bit, binary, or nothing said.
    pub(super) fn is_unencoded(&self) -> bool {
        let encoding = self.value(ENCODING).unwrap_or("7bit");
        let encoding = encoding.trim().to_ascii_lowercase();
        matches!(encoding.as_str(), "7bit" | "8bit" | "binary")
    }

    /// Writes the header with `encoding` in it. 7bit goes without saying where nothing was said.
    pub(super) fn write(&self, encoding: Encoding, out: &mut Vec<u8>) {
        let mut said = false;
        for field in self.all() {
            if !is(field, ENCODING) {
                out.extend_from_slice(field.as_bytes());
            } else if !said {
                out.extend_from_slice(encoding.field().as_bytes());
                said = true;
            }
        }
        if !said && encoding != Encoding::SevenBit {
            out.extend_from_slice(encoding.field().as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The same for a whole message, which is MIME from here on even if it was none.
    pub(super) fn write_as_mime(&self, encoding: Encoding, body: &[u8], out: &mut Vec<u8>) {
        if self.value(VERSION).is_none() {
            out.extend_from_slice(b"MIME-Version: 1.0\r\n");
        }
        if self.value(TYPE).is_none() {
            // RFC 1428 section 3: 8-bit text of which nothing is known.
            let charset = if std::str::from_utf8(body).is_ok() {
                "utf-8"
            } else {
                "unknown-8bit"
            };
            let field = format!("{TYPE}: text/plain; charset={charset}\r\n");
            out.extend_from_slice(field.as_bytes());
        }
        self.write(encoding, out);
    }

    /// The first field called `name`, unfolded only in that its line ends are white space.
    fn value(&self, name: &str) -> Option<&'a str> {
        let field = self.all().find(|field| is(field, name))?;
        field.split_once(':').map(|(_, value)| value.trim())
    }

    /// Every field with its folded lines and its CRLF.
    fn all(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut rest = self.0.strip_suffix("\r\n").unwrap_or(self.0);
        std::iter::from_fn(move || {
            let end = end_of_field(rest)?;
            let (field, behind) = rest.split_at(end);
            rest = behind;
            Some(field)
        })
    }
}

/// Where the first field of `text` ends: behind the line end that no white space follows.
fn end_of_field(text: &str) -> Option<usize> {
    if text.is_empty() {
        return None;
    }
    let ends = text.match_indices("\r\n").map(|(at, end)| at + end.len());
    let mut ends = ends.filter(|end| !text[*end..].starts_with([' ', '\t']));
    Some(ends.next().unwrap_or(text.len()))
}

fn is(field: &str, name: &str) -> bool {
    let said = field.split(':').next().unwrap_or_default();
    said.trim_end().eq_ignore_ascii_case(name)
}

/// The value of a Content-Type field (RFC 2045 section 5.1), as far as it matters here.
pub(super) struct MediaType {
    main: String,
    sub: String,
    boundary: Option<String>,
}

impl MediaType {
    /// What an entity is that does not say: text.
    pub(super) fn text() -> Self {
        Self::read("text/plain")
    }

    /// What a part of a digest is that does not say: a message.
    pub(super) fn message() -> Self {
        Self::read("message/rfc822")
    }

    fn read(value: &str) -> Self {
        let (kind, parameters) = value.split_once(';').unwrap_or((value, ""));
        let (main, sub) = kind.split_once('/').unwrap_or((kind, ""));
        Self {
            main: main.trim().to_ascii_lowercase(),
            sub: sub.trim().to_ascii_lowercase(),
            boundary: parameter(parameters, "boundary").filter(|value| !value.is_empty()),
        }
    }

    pub(super) fn main(&self) -> &str {
        &self.main
    }

    pub(super) fn sub(&self) -> &str {
        &self.sub
    }

    /// What its parts are told apart by.
    pub(super) fn boundary(&self) -> Option<&str> {
        self.boundary.as_deref()
    }
}

/// The value of the parameter `name`, out of quotes.
fn parameter(mut text: &str, name: &str) -> Option<String> {
    loop {
        let (key, rest) = text.split_once('=')?;
        let rest = rest.trim_start();
        let (value, behind) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = rest.find([';', ' ', '\t', '\r', '(']).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
        text = behind.split_once(';')?.1;
    }
}

/// The content of a quoted string whose opening quote is taken off, and what follows it.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\r' | '\n' => {}
            _ => value.push(character),
        }
    }
    (value, "")
}

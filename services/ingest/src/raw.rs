//! A whole message as its sender wrote it, made canonical.
//!
//! Canonical: every line ends in CRLF and none is longer than 998 octets, no NUL, a header section that is one, and
//! exactly one From, Date and Message-ID. That is what SMTP can carry without a receiver ever reading two messages
//! where one was sent.

use std::borrow::Cow;

use lettre::message::header::{Date, Headers};
use mail_parser::{HeaderName, HeaderValue, MessageParser};
use memchr::{memchr, memchr_iter, memchr2, memmem};
use model::{Address, MessageId, Timestamp};

/// RFC 5322 section 2.1.1, without the CRLF.
const LINE_LIMIT: usize = 998;
/// Fields that may stand once at most (RFC 5322 section 3.6).
const SINGLE: [&str; 8] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Message-ID",
    "Date",
    "Subject",
];
/// For nobody to see.
const HIDDEN: [&str; 2] = ["Bcc", "Resent-Bcc"];

/// A message in canonical form, and whom it says it is from.
#[derive(Debug)]
pub(crate) struct Canonical {
    pub(crate) bytes: Vec<u8>,
    pub(crate) from: Address,
}

/// Makes `raw` canonical; the error says what is wrong and what would be right.
pub(crate) fn canonicalise(raw: &[u8], id: MessageId, now: Timestamp) -> Result<Canonical, String> {
    if let Some(at) = memchr(0, raw) {
        return Err(format!(
            "has a NUL at octet {at}; encode binary content as base64"
        ));
    }
    let lines = with_crlf(raw);
    check_lines(&lines)?;
    let (header, body) = lines.split_at(end_of_header(&lines));
    let fields: Vec<&[u8]> = fields(header).collect();
    if fields.is_empty() {
        return Err("has no header section (RFC 5322)".to_owned());
    }
    check_single(&fields)?;
    let from = from_address(&fields)?;
    let mut bytes = Vec::with_capacity(lines.len() + 256);
    if !fields.iter().any(|field| is(field, "Message-ID")) {
        bytes.extend_from_slice(format!("Message-ID: <{id}@{}>\r\n", from.domain()).as_bytes());
    }
    if !fields.iter().any(|field| is(field, "Date")) {
        bytes.extend_from_slice(date_field(now).as_bytes());
    }
    let is_hidden = |field: &&[u8]| HIDDEN.iter().any(|name| is(field, name));
    for field in fields.iter().filter(|field| !is_hidden(field)) {
        bytes.extend_from_slice(field);
    }
    bytes.extend_from_slice(body);
    Ok(Canonical { bytes, from })
}

/// Where the first empty line begins, which is where every receiver takes the header to end.
fn end_of_header(lines: &[u8]) -> usize {
    if lines.starts_with(b"\r\n") {
        return 0;
    }
    let end = memmem::find(lines, b"\r\n\r\n");
    end.map_or(lines.len(), |end| end + 2)
}

/// The fields of `header`, each with its folded lines.
///
/// Told apart by their lines alone: a parser that reads values takes the next field for part of an odd one, and what it
/// has not seen is neither counted nor hidden.
fn fields(mut header: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let mut ends = memchr_iter(b'\n', header).map(|end| end + 1);
        let end = ends.find(|end| !matches!(header.get(*end), Some(b' ' | b'\t')))?;
        let (field, rest) = header.split_at(end);
        header = rest;
        Some(field)
    })
}

/// Whether `field` is called `name`.
fn is(field: &[u8], name: &str) -> bool {
    let said = field.split(|byte| *byte == b':').next();
    said.is_some_and(|said| said.eq_ignore_ascii_case(name.as_bytes()))
}

/// `raw` with every lone CR and lone LF made CRLF, and a CRLF at its end; `raw` itself where it is so already.
pub(crate) fn with_crlf(raw: &[u8]) -> Cow<'_, [u8]> {
    if is_crlf(raw) {
        return raw.into();
    }
    let mut lines = Vec::with_capacity(raw.len() + 2);
    let mut rest = raw;
    while let Some(end) = memchr2(b'\r', b'\n', rest) {
        lines.extend_from_slice(&rest[..end]);
        lines.extend_from_slice(b"\r\n");
        let ending = if rest[end..].starts_with(b"\r\n") {
            2
        } else {
            1
        };
        rest = &rest[end + ending..];
    }
    lines.extend_from_slice(rest);
    if !rest.is_empty() || lines.is_empty() {
        lines.extend_from_slice(b"\r\n");
    }
    lines.into()
}

/// Whether every CR and every LF is part of a CRLF, and the last octets are one.
fn is_crlf(raw: &[u8]) -> bool {
    // No octet decides what is done with the next, so that compilers look at many at once.
    let neighbours = raw.iter().zip(raw.get(1..).unwrap_or_default());
    let spoilt = neighbours.fold(false, |spoilt, (one, next)| {
        spoilt | ((*one == b'\r') != (*next == b'\n'))
    });
    !spoilt && raw.ends_with(b"\r\n") && !raw.starts_with(b"\n")
}

/// The header section is one, and no line is too long. `lines` is in CRLF form.
pub(crate) fn check_lines(lines: &[u8]) -> Result<(), String> {
    let mut in_header = true;
    let mut begin = 0;
    let ends = memchr_iter(b'\n', lines).chain([lines.len()]);
    for (index, end) in ends.enumerate() {
        let line = &lines[begin..end];
        begin = end + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let number = index + 1;
        if line.len() > LINE_LIMIT {
            return Err(format!(
                "line {number} has {} octets, more than the {LINE_LIMIT} of RFC 5322; \
                 encode the part as quoted-printable or base64",
                line.len()
            ));
        }
        in_header = in_header && !line.is_empty();
        if in_header && !is_header_line(line, index) {
            return Err(format!(
                "line {number} is not a header field (RFC 5322 section 2.2); \
                 begin with fields such as \"From: ann@example.com\" and put an empty line before the body"
            ));
        }
    }
    Ok(())
}

/// "Name: value", or a folded line that goes on with the field before.
fn is_header_line(line: &[u8], index: usize) -> bool {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return index > 0;
    }
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    name.len() < line.len() && !name.is_empty() && name.iter().all(|byte| matches!(byte, 33..=126))
}

fn check_single(fields: &[&[u8]]) -> Result<(), String> {
    for name in SINGLE {
        let count = fields.iter().filter(|field| is(field, name)).count();
        if count > 1 {
            return Err(format!(
                "has {count} {name} fields; RFC 5322 section 3.6 allows one"
            ));
        }
    }
    Ok(())
}

fn from_address(fields: &[&[u8]]) -> Result<Address, String> {
    let field = fields
        .iter()
        .find(|field| is(field, "From"))
        .ok_or("has no From field; add one such as \"From: ann@example.com\"")?;
    let message = MessageParser::new().parse_headers(*field);
    let header = message
        .as_ref()
        .and_then(|message| message.header(HeaderName::From));
    let addresses: Vec<&str> = match header {
        Some(HeaderValue::Address(address)) => address
            .iter()
            .filter_map(mail_parser::Addr::address)
            .collect(),
        Some(_) | None => Vec::new(),
    };
    match addresses[..] {
        [address] => address
            .parse()
            .map_err(|problem| format!("From field: {address:?} {problem}")),
        _ => Err(format!(
            "From field holds {} addresses; exactly one is needed",
            addresses.len()
        )),
    }
}

/// A Date field for `now`, in UTC.
pub(crate) fn date_field(now: Timestamp) -> String {
    let mut headers = Headers::new();
    headers.set(Date::from(std::time::SystemTime::from(now)));
    headers.to_string()
}

/// What holds for any octets a caller may submit. Called with random ones by the tests and by `make fuzz`.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(octets: &[u8]) {
    let again =
        |raw: &[u8]| canonicalise(raw, MessageId::from_bytes([7; 16]), Timestamp::UNIX_EPOCH);
    let Ok(made) = again(octets) else {
        return;
    };
    let lines = made.bytes.split(|octet| *octet == b'\n');
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(line.len() <= LINE_LIMIT, "a line of {} octets", line.len());
        assert!(!line.contains(&b'\r') && !line.contains(&0));
    }
    assert_eq!(
        memchr::memchr_iter(b'\n', &made.bytes).count(),
        memchr::memchr_iter(b'\r', &made.bytes).count()
    );
    assert!(made.bytes.ends_with(b"\r\n"));
    for name in ["from", "date", "message-id"] {
        let header = made.bytes.split(|byte| *byte == b'\n');
        let header = header.take_while(|line| *line != b"\r");
        let named = |line: &&[u8]| {
            let field = line.split(|byte| *byte == b':').next().unwrap_or_default();
            field.eq_ignore_ascii_case(name.as_bytes())
        };
        assert_eq!(header.filter(named).count(), 1, "{name} fields");
    }
    match again(&made.bytes) {
        Ok(same) => assert!(
            same.bytes == made.bytes && same.from == made.from,
            "not canonical"
        ),
        Err(why) => panic!("what was made canonical is refused: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// What a message is made of, and what breaks it.
    const TOKENS: &[&str] = &[
        "From: a@example.com",
        "From: ",
        "<b@example.com>",
        "Bcc: x@y.example",
        "Message-ID: <1@x>",
        "Date: ",
        "Subject: s",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        "\0",
        " ",
        "\t",
        ":",
        "ü",
        ",",
        "\"",
        "(",
        ".",
        "=?utf-8?q?=0D=0A?=",
        "Resent-Bcc:",
        "hello",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_is_made_canonical_stays_as_it_is(tokens in vec(select(TOKENS), 0..24)) {
            fuzz(tokens.concat().as_bytes());
            fuzz(format!("From: a@example.com\r\n{}", tokens.concat()).as_bytes());
        }
    }

    fn canonical(raw: &str) -> Result<String, String> {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let id = MessageId::from_bytes([7; 16]);
        canonicalise(raw.as_bytes(), id, now)
            .map(|message| String::from_utf8(message.bytes).unwrap())
    }

    #[test]
    fn a_complete_message_is_left_as_it_is() {
        let raw = "From: a@example.com\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@x>\r\n\r\n.hi\r\n";
        assert_eq!(canonical(raw).unwrap(), raw);
    }

    #[test]
    fn what_is_missing_is_added() {
        let expected = "Message-ID: <07070707-0707-0707-0707-070707070707@example.com>\r\n\
                        Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nFrom: a@example.com\r\n\r\nhi\r\n";
        assert_eq!(canonical("From: a@example.com\n\nhi").unwrap(), expected);
    }

    #[test]
    fn every_kind_of_line_end_becomes_crlf() {
        let made = canonical("From: a@example.com\nDate: x\rMessage-ID: <1@x>\r\n\n.\r.\n\r\r\n.")
            .unwrap();
        assert_eq!(
            made,
            "From: a@example.com\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\n.\r\n.\r\n\r\n\r\n.\r\n"
        );
    }

    #[test]
    fn bcc_is_for_nobody_to_see() {
        let made = canonical(
            "From: a@example.com\r\nBcc: secret@x.org,\r\n other@x.org\r\nSubject: s\r\n\r\nb\r\n",
        );
        let made = made.unwrap();
        assert!(
            !made.contains("secret")
                && !made.contains("other")
                && made.ends_with("Subject: s\r\n\r\nb\r\n")
        );
    }

    #[test]
    fn an_odd_value_hides_no_field_behind_it() {
        for odd in [
            "Date: 14 Nov 2023 22:13:20 +00x",
            "Date:-?q",
            "Subject: =?utf-8?q?",
            "To: \"a",
        ] {
            let rest = "From: a@example.com\r\nBcc: secret@x.org\r\n\r\nb\r\n";
            let made = canonical(&format!("{odd}\r\n{rest}")).unwrap();
            assert!(!made.contains("secret"), "{made}");
            let twice = format!("{odd}\r\nSubject: 1\r\nSubject: 2\r\n{rest}");
            assert!(canonical(&twice).unwrap_err().contains("Subject fields"));
        }
    }

    #[test]
    fn what_stands_in_the_body_is_no_field() {
        let problem = canonical("Date:-?q\r\n\r\nFrom: a@example.com\r\n").unwrap_err();
        assert!(problem.contains("no From field"), "{problem}");
    }

    #[test]
    fn what_is_no_message_says_why() {
        let long = format!("From: a@example.com\n\n{}", "x".repeat(999));
        let bad = [
            ("", "no header section"),
            ("hello", "not a header field"),
            (" folded: x", "not a header field"),
            ("Subject: s\n\nb", "no From field"),
            (
                "From: a@example.com, b@example.com\n\nb",
                "holds 2 addresses",
            ),
            ("From: a@b\n\nb", "one label only"),
            (
                "From: a@example.com\nFrom: b@example.com\n\nb",
                "has 2 From fields",
            ),
            ("From: a@example.com\n\n\0", "NUL"),
            (&long, "999 octets"),
        ];
        for (raw, why) in bad {
            let problem = canonical(raw).unwrap_err();
            assert!(
                why.split('|').any(|why| problem.contains(why)),
                "{raw:?}: {problem}"
            );
        }
    }
}

//! A message out of its parts, built into MIME with lettre.

use api::v1::{Attachment, HeaderField, MessageParts};
use lettre::address::Envelope;
use lettre::message::header::{
    ContentTransferEncoding, ContentType, HeaderName, HeaderValue, ReplyTo,
};
use lettre::message::{
    self, Attachment as Part, Body, Mailbox, MessageBuilder, MultiPart, SinglePart,
};
use model::{Address, MessageId, Timestamp};

use crate::raw::{check_lines, with_crlf};
use crate::violations::Violations;

/// Fields that are written from elsewhere; "Content-" stands for all that begin so.
const RESERVED: [&str; 13] = [
    "from",
    "to",
    "cc",
    "bcc",
    "reply-to",
    "subject",
    "date",
    "sender",
    "return-path",
    "received",
    "mime-version",
    "message-id",
    "dkim-signature",
];

/// A message that was built, before it is addressed to anybody in particular.
#[derive(Debug)]
pub(crate) struct Composed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) from: Address,
    /// Whether each copy still needs a To field of its own.
    pub(crate) needs_to: bool,
}

/// Builds the message; notes every field that is wrong.
pub(crate) fn compose(
    parts: &MessageParts,
    id: MessageId,
    now: Timestamp,
    violations: &mut Violations,
) -> Option<Composed> {
    let from = mailbox("parts.from", &parts.from, violations);
    let to = mailboxes("parts.to", &parts.to, violations);
    let cc = mailboxes("parts.cc", &parts.cc, violations);
    let reply_to = match parts.reply_to.as_str() {
        "" => None,
        text => mailbox("parts.reply_to", text, violations),
    };
    check_line("parts.subject", &parts.subject, violations);
    let headers = headers(&parts.headers, violations);
    let content = content(parts, violations);
    let ((from, address), content) = (from?, content?);

    let mut builder = MessageBuilder::new()
        .envelope(nominal_envelope(&from)?)
        .date(std::time::SystemTime::from(now))
        .message_id(Some(format!("<{id}@{}>", address.domain())))
        .from(from)
        .subject(&parts.subject);
    builder = to.iter().cloned().fold(builder, MessageBuilder::to);
    builder = cc.iter().cloned().fold(builder, MessageBuilder::cc);
    if let Some(reply_to) = reply_to {
        builder = builder.header(ReplyTo::from(message::Mailboxes::from(reply_to.0)));
    }
    let built = match content {
        Content::Single(part) => builder.singlepart(part),
        Content::Multi(part) => builder.multipart(part),
    };
    let mut built = violations.check("parts", built)?;
    for header in headers {
        built.headers_mut().insert_raw(header);
    }
    let bytes = with_crlf(&built.formatted()).into_owned();
    violations.check("parts", check_lines(&bytes))?;
    Some(Composed {
        bytes,
        from: address,
        needs_to: to.is_empty(),
    })
}

/// The To field of one recipient's own copy.
pub(crate) fn to_field(recipient: &Address) -> String {
    // An address holds nothing that could end the line, and is shorter than a line may be.
    format!("To: {recipient}\r\n")
}

/// lettre wants an envelope; ours is made later, one for each recipient.
fn nominal_envelope(from: &Mailbox) -> Option<Envelope> {
    Envelope::new(Some(from.email.clone()), vec![from.email.clone()]).ok()
}

/// "Ann <ann@example.com>" or "ann@example.com", as lettre's mailbox and as our address.
fn mailbox(field: &str, text: &str, violations: &mut Violations) -> Option<(Mailbox, Address)> {
    if text.is_empty() {
        violations.add(
            field,
            "is missing; give an address such as \"Ann <ann@example.com>\"",
        );
        return None;
    }
    if !check_line(field, text, violations) {
        return None;
    }
    let remedy = "is not an address; write \"ann@example.com\" or \"Ann <ann@example.com>\"";
    let parsed: Mailbox = violations.check(
        field,
        text.parse().map_err(|_| format!("{text:?} {remedy}")),
    )?;
    let written = parsed.email.to_string();
    let address: Address = violations.check(
        field,
        written
            .parse()
            .map_err(|problem| format!("{written:?} {problem}")),
    )?;
    if address.needs_smtputf8() {
        violations.add(
            field,
            "has a local part outside ASCII, which not every mailbox provider takes in a header",
        );
        return None;
    }
    let email = violations.check(
        field,
        lettre::Address::new(address.local(), address.domain().as_str()),
    )?;
    Some((Mailbox::new(parsed.name, email), address))
}

fn mailboxes(field: &str, texts: &[String], violations: &mut Violations) -> Vec<Mailbox> {
    let numbered = texts.iter().enumerate();
    numbered
        .filter_map(|(index, text)| {
            Some(mailbox(&format!("{field}[{index}]"), text, violations)?.0)
        })
        .collect()
}

/// A value that will stand on a header line: no control characters, above all no line break.
fn check_line(field: &str, text: &str, violations: &mut Violations) -> bool {
    let Some(at) = text.find(char::is_control) else {
        return true;
    };
    let problem = match text.as_bytes()[at] {
        b'\r' | b'\n' => {
            "contains a line break (CR or LF), which would begin another header field; remove it"
        }
        _ => "contains a control character; remove it",
    };
    violations.add(field, problem);
    false
}

fn headers(fields: &[HeaderField], violations: &mut Violations) -> Vec<HeaderValue> {
    let mut made: Vec<HeaderValue> = Vec::new();
    let mut names = std::collections::HashSet::new();
    for (index, HeaderField { name, value }) in fields.iter().enumerate() {
        let field = format!("parts.headers[{index}]");
        let lower = name.to_ascii_lowercase();
        let token = !name.is_empty()
            && name.len() <= 76
            && name.bytes().all(|c| matches!(c, 33..=57 | 59..=126));
        if !token {
            violations.add(
                format!("{field}.name"),
                "is not a field name (RFC 5322): visible ASCII without ':'",
            );
            continue;
        }
        if RESERVED.contains(&&*lower) || lower.starts_with("content-") {
            violations.add(
                format!("{field}.name"),
                format!("{name} is written by Postrider; use its own field"),
            );
            continue;
        }
        if !names.insert(lower) {
            violations.add(
                format!("{field}.name"),
                format!("{name} is given twice; give it once"),
            );
            continue;
        }
        if check_line(&format!("{field}.value"), value, violations)
            && let Some(name) = violations.check(&field, HeaderName::new_from_ascii(name.clone()))
        {
            made.push(HeaderValue::new(name, value.clone()));
        }
    }
    made
}

/// The body, before it has a header section.
enum Content {
    Single(SinglePart),
    Multi(MultiPart),
}

fn content(parts: &MessageParts, violations: &mut Violations) -> Option<Content> {
    let files: Vec<SinglePart> = parts
        .attachments
        .iter()
        .enumerate()
        .filter_map(|(index, attachment)| {
            file(
                &format!("parts.attachments[{index}]"),
                attachment,
                violations,
            )
        })
        .collect();
    for (field, text) in [("parts.text", &parts.text), ("parts.html", &parts.html)] {
        if text.contains('\0') {
            violations.add(field, "contains a NUL, which no mail may; remove it");
            return None;
        }
    }
    let text = match (parts.text.as_str(), parts.html.as_str()) {
        ("", "") => {
            violations.add(
                "parts.text",
                "is empty, and so is parts.html; give at least one of them",
            );
            return None;
        }
        (text, "") => Content::Single(SinglePart::plain(text.to_owned())),
        ("", html) => Content::Single(SinglePart::html(html.to_owned())),
        (text, html) => Content::Multi(MultiPart::alternative_plain_html(
            text.to_owned(),
            html.to_owned(),
        )),
    };
    if files.is_empty() {
        return Some(text);
    }
    let mixed = MultiPart::mixed();
    let mixed = match text {
        Content::Single(part) => mixed.singlepart(part),
        Content::Multi(part) => mixed.multipart(part),
    };
    Some(Content::Multi(
        files.into_iter().fold(mixed, MultiPart::singlepart),
    ))
}

fn file(field: &str, attachment: &Attachment, violations: &mut Violations) -> Option<SinglePart> {
    let Attachment {
        filename,
        content_type,
        content,
        content_id,
    } = attachment;
    let media_type = if content_type.is_empty() {
        "application/octet-stream"
    } else {
        content_type
    };
    let problem = |_| format!("{media_type:?} is not a media type such as \"application/pdf\"");
    let media_type = violations.check(
        format!("{field}.content_type"),
        ContentType::parse(media_type).map_err(problem),
    );
    let named = check_line(&format!("{field}.filename"), filename, violations);
    let identified = check_line(&format!("{field}.content_id"), content_id, violations);
    if filename.is_empty() && content_id.is_empty() {
        violations.add(
            format!("{field}.filename"),
            "is missing; give the file a name",
        );
        return None;
    }
    if content_id.contains(['<', '>', ' ']) {
        violations.add(
            format!("{field}.content_id"),
            "must be a bare id such as \"logo@example.com\"",
        );
        return None;
    }
    let media_type = media_type.filter(|_| named && identified)?;
    // Binary to us whatever its type: the text encodings would change its line ends.
    let encoded = Body::new_with_encoding(content.to_vec(), ContentTransferEncoding::Base64);
    let refused = |_| "cannot be encoded as base64";
    let body = violations.check(format!("{field}.content"), encoded.map_err(refused))?;
    Some(match (filename.as_str(), content_id.as_str()) {
        (name, "") => Part::new(name.to_owned()).body(body, media_type),
        ("", id) => Part::new_inline(id.to_owned()).body(body, media_type),
        (name, id) => {
            Part::new_inline_with_name(id.to_owned(), name.to_owned()).body(body, media_type)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> MessageParts {
        MessageParts {
            from: "Änn <ann@example.com>".into(),
            subject: "Grüße".into(),
            text: "hello\n".into(),
            ..MessageParts::default()
        }
    }

    fn composed(parts: &MessageParts) -> Result<String, String> {
        let (id, now) = (
            MessageId::from_bytes([7; 16]),
            Timestamp::from_second(1_700_000_000).unwrap(),
        );
        let mut violations = Violations::default();
        let made = compose(parts, id, now, &mut violations);
        let made = violations
            .finish(made)
            .map_err(|status| status.message().to_owned())?;
        Ok(String::from_utf8(made.bytes).unwrap())
    }

    #[test]
    fn parts_become_a_message_that_a_reader_understands() {
        let mut parts = parts();
        parts.html = "<p>hello</p>".into();
        parts.reply_to = "help@example.com".into();
        parts.headers = vec![HeaderField {
            name: "X-Order".into(),
            value: "42".into(),
        }];
        parts.attachments = vec![Attachment {
            filename: "a.pdf".into(),
            content_type: "application/pdf".into(),
            content: vec![0, 255, 10].into(),
            content_id: String::new(),
        }];
        let made = composed(&parts).unwrap();
        let message = mail_parser::MessageParser::new()
            .parse(made.as_bytes())
            .unwrap();
        assert_eq!(message.subject(), Some("Grüße"));
        assert_eq!(message.from().unwrap().first().unwrap().name(), Some("Änn"));
        assert_eq!(message.body_text(0).unwrap().trim_end(), "hello");
        assert_eq!(message.body_html(0).unwrap(), "<p>hello</p>");
        assert_eq!(message.attachment(0).unwrap().contents(), [0, 255, 10]);
        assert_eq!(message.header_raw("X-Order").map(str::trim), Some("42"));
        assert!(
            !made.replace("\r\n", "").contains(['\r', '\n']),
            "bare CR or LF"
        );
    }

    #[test]
    fn whatever_the_parts_hold_the_message_is_canonical() {
        let mut parts = parts();
        parts.text = "one\rtwo\nthree\r\nfour".into();
        parts.attachments = vec![Attachment {
            filename: "unix.csv".into(),
            content_type: "text/csv".into(),
            content: "a,b\n1,2\n".into(),
            content_id: String::new(),
        }];
        let made = composed(&parts).unwrap();
        assert!(
            !made.replace("\r\n", "").contains(['\r', '\n']),
            "bare CR or LF: {made:?}"
        );
        let message = mail_parser::MessageParser::new()
            .parse(made.as_bytes())
            .unwrap();
        assert_eq!(message.attachment(0).unwrap().contents(), b"a,b\n1,2\n");
        parts.subject = "x".repeat(3000);
        let problem = composed(&parts).unwrap_err();
        assert!(problem.contains("more than the 998"), "{problem}");
        parts.subject = "s".into();
        parts.html = "a\0b".into();
        assert!(
            composed(&parts)
                .unwrap_err()
                .contains("parts.html: contains a NUL")
        );
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let mut parts = parts();
        parts.from = "ann".into();
        parts.subject = "hi\r\nBcc: evil@example.com".into();
        parts.text.clear();
        parts.headers = vec![
            HeaderField {
                name: "Received".into(),
                value: "x".into(),
            },
            HeaderField {
                name: "X-A".into(),
                value: "x\ny".into(),
            },
            HeaderField {
                name: "X B".into(),
                value: "x".into(),
            },
        ];
        let problem = composed(&parts).unwrap_err();
        let fields = [
            "parts.from",
            "parts.subject",
            "parts.text",
            "headers[0].name",
            "headers[1].value",
            "headers[2].name",
        ];
        for field in fields {
            assert!(problem.contains(field), "{field} is missing in: {problem}");
        }
    }
}

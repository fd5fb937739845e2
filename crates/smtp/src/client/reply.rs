//! Reads replies out of what the peer sent.
//!
//! Written here because `smtp_proto::ResponseReceiver` keeps the parts of an enhanced code in octets (a `5.7.509`
//! becomes `5.7.255`), does not look at the codes of continuation lines and takes any number for a code.
//!
//! Strict where being wrong would match a reply to the wrong command: every line has its code, and all lines of a
//! reply are of one class. Lenient where it cannot: bare LF ends a line, any octet may stand in the text, the code
//! may stand alone.

use bytes::{Buf, BytesMut};
use model::{EnhancedCode, Reply};

use super::Violation;

/// RFC 5321 section 4.5.3.1.5 allows 512 octets; some greetings are longer.
const LINE_LIMIT: usize = 4096;
/// Of one reply, all lines together.
const REPLY_LIMIT: usize = 32 * 1024;

/// One reply as it was sent: its code, and its lines without their codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawReply {
    code: u16,
    text: String,
}

impl RawReply {
    /// The code of its last line.
    pub(crate) fn code(&self) -> u16 {
        self.code
    }

    /// The texts of its lines.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split('\n')
    }

    /// The reply for the rest of the system: the enhanced code is taken off each line that repeats it.
    pub(crate) fn into_reply(self) -> Reply {
        let class = self.code / 100;
        let Some((enhanced, rest)) = split_enhanced(&self.text, class) else {
            return Reply::new(self.code, None, &self.text);
        };
        if !rest.contains('\n') {
            return Reply::new(self.code, Some(enhanced), rest);
        }
        let strip = |line| match split_enhanced(line, class) {
            Some((same, rest)) if same == enhanced => rest,
            _ => line,
        };
        let text: Vec<&str> = self.lines().map(strip).collect();
        Reply::new(self.code, Some(enhanced), &text.join("\n"))
    }
}

/// Takes "5.7.1 " off the front of `line`, if it agrees with the reply's class (RFC 2034 section 4).
fn split_enhanced(line: &str, class: u16) -> Option<(EnhancedCode, &str)> {
    let end = line.find([' ', '\n']).unwrap_or(line.len());
    let (code, rest) = line.split_at(end);
    let well_formed = |part: &str| {
        (1..=3).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_digit())
    };
    if !code.split('.').all(well_formed) {
        return None;
    }
    let code: EnhancedCode = code.parse().ok()?;
    (u16::from(code.0) == class).then(|| (code, rest.strip_prefix(' ').unwrap_or(rest)))
}

/// The lines of a reply that is still arriving.
#[derive(Debug, Default)]
pub(crate) struct ReplyParser {
    first: Option<u16>,
    text: Vec<u8>,
    searched: usize,
}

impl ReplyParser {
    /// Takes whole lines off `input` until the reply is complete; `None` until then.
    pub(crate) fn parse(&mut self, input: &mut BytesMut) -> Result<Option<RawReply>, Violation> {
        while let Some(found) = memchr::memchr(b'\n', &input[self.searched..]) {
            let end = self.searched + found;
            if end > LINE_LIMIT {
                return Err(Violation::TooLong);
            }
            let last = self.add_line(&input[..end])?;
            input.advance(end + 1);
            self.searched = 0;
            if let Some(code) = last {
                let text = std::mem::take(&mut self.text);
                *self = Self::default();
                let text = String::from_utf8(text)
                    .unwrap_or_else(|odd| String::from_utf8_lossy(odd.as_bytes()).into_owned());
                return Ok(Some(RawReply { code, text }));
            }
        }
        self.searched = input.len();
        if self.searched > LINE_LIMIT {
            return Err(Violation::TooLong);
        }
        Ok(None)
    }

    /// Adds one line, without its LF; the code, if it is the reply's last.
    fn add_line(&mut self, line: &[u8]) -> Result<Option<u16>, Violation> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (code, rest) = split_code(line).ok_or(Violation::NoCode)?;
        match self.first {
            None => self.first = Some(code),
            Some(first) if first / 100 != code / 100 => {
                return Err(Violation::MixedCodes { first, then: code });
            }
            Some(_) => self.text.push(b'\n'),
        }
        let (continues, text) = match rest {
            [] => (false, rest),
            [b' ', text @ ..] => (false, text),
            [b'-', text @ ..] => (true, text),
            _ => return Err(Violation::NoCode),
        };
        self.text.extend_from_slice(text);
        if self.text.len() > REPLY_LIMIT {
            return Err(Violation::TooLong);
        }
        Ok((!continues).then_some(code))
    }
}

/// A code between 200 and 599, and what follows it.
fn split_code(line: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    let [
        class @ b'2'..=b'5',
        second @ b'0'..=b'9',
        third @ b'0'..=b'9',
    ] = digits
    else {
        return None;
    };
    let value = |digit: &u8| u16::from(digit - b'0');
    Some((value(class) * 100 + value(second) * 10 + value(third), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Result<Option<RawReply>, Violation> {
        ReplyParser::default().parse(&mut BytesMut::from(text))
    }

    fn shown(text: &[u8]) -> String {
        match parse(text) {
            Ok(Some(raw)) => raw.into_reply().to_string(),
            Ok(None) => "incomplete".into(),
            Err(violation) => violation.to_string(),
        }
    }

    #[test]
    fn replies_are_read_as_they_are_meant() {
        for (text, expected) in [
            (&b"250 2.0.0 queued as 1\r\n"[..], "250 2.0.0 queued as 1"),
            (b"250\r\n", "250"),
            (b"250 \r\n", "250"),
            (b"250-a\r\n250 b\r\n", "250 a b"),
            (b"550-5.7.509 a\r\n550 5.7.509 b\r\n", "550 5.7.509 a b"),
            (b"550 5.7.1\r\n", "550 5.7.1"),
            (b"421 4.7.28 slow\n", "421 4.7.28 slow"),
            (b"571 no\r\n", "571 no"),
            (b"599 5.999.999 no\r\n", "599 5.999.999 no"),
            (b"452-a\r\n451 b\r\n", "451 a b"),
            (b"550 nul\0 and \xff\r\n", "550 nul  and \u{fffd}"),
            (b"250 cr\rin text\r\n", "250 cr in text"),
            (b"250-\r\n250 ok\r\n", "250 ok"),
        ] {
            assert_eq!(shown(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn an_enhanced_code_of_another_class_is_only_text() {
        let reply = parse(b"550 4.7.1 odd\r\n").unwrap().unwrap().into_reply();
        assert_eq!((reply.enhanced(), reply.text()), (None, "4.7.1 odd"));
    }

    #[test]
    fn what_only_looks_like_an_enhanced_code_is_text() {
        for text in [
            "5.7",
            "5.7.1.2 x",
            "5.7.1000 x",
            "5..1 x",
            "5.7.1x",
            "192.0.2.1 x",
            "",
        ] {
            let reply = parse(format!("550 {text}\r\n").as_bytes());
            assert_eq!(
                reply.unwrap().unwrap().into_reply().enhanced(),
                None,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_reply_is_a_violation() {
        for text in [
            &b"\r\n"[..],
            b"hello\r\n",
            b"25\r\n",
            b"2x0 a\r\n",
            b"600 a\r\n",
            b"100 a\r\n",
            b"000 a\r\n",
            b"250x\r\n",
            b"250\t\r\n",
            b"2500 a\r\n",
            b"\0\0\0\0\n",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"250-a\r\nb\r\n",
        ] {
            assert_eq!(
                parse(text),
                Err(Violation::NoCode),
                "{}",
                text.escape_ascii()
            );
        }
        assert_eq!(
            parse(b"250-ok\r\n550 no\r\n"),
            Err(Violation::MixedCodes {
                first: 250,
                then: 550
            })
        );
    }

    #[test]
    fn a_reply_without_end_is_cut_off() {
        let mut endless = vec![b'2', b'5', b'0', b' '];
        endless.resize(LINE_LIMIT + 1, b'x');
        assert_eq!(parse(&endless), Err(Violation::TooLong));
        let many = b"250-continued\r\n".repeat(REPLY_LIMIT);
        assert_eq!(parse(&many), Err(Violation::TooLong));
        let empty = b"250-\r\n".repeat(REPLY_LIMIT + 2);
        assert_eq!(parse(&empty), Err(Violation::TooLong));
    }

    #[test]
    fn a_reply_may_arrive_octet_by_octet_and_leaves_the_next_alone() {
        let mut parser = ReplyParser::default();
        let mut input = BytesMut::new();
        for octet in b"250-a\r\n250 b\r" {
            input.extend_from_slice(&[*octet]);
            assert_eq!(parser.parse(&mut input), Ok(None));
        }
        input.extend_from_slice(b"\n354 next\r\n");
        let first = parser.parse(&mut input).unwrap().unwrap();
        assert_eq!(first.into_reply().to_string(), "250 a b");
        assert_eq!(&input[..], b"354 next\r\n");
        assert_eq!(parser.parse(&mut input).unwrap().unwrap().code(), 354);
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_a_reply_a_violation_or_the_beginning_of_one(
            octets in proptest::collection::vec(proptest::num::u8::ANY, 0..512)
        ) {
            let _ = shown(&octets);
        }
    }
}

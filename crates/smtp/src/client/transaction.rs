//! One message to one recipient, and the commands it becomes.

use std::fmt::Write as _;

use model::{Address, Dsn};

use super::{Content, ContentFacts, Extensions};

/// RFC 3461 section 4.4: an ENVID is at most 100 characters.
const ENVID_LIMIT: usize = 100;
/// RFC 3461 section 4.2: an ORCPT is at most 500 characters.
const ORCPT_LIMIT: usize = 500;

/// Everything MAIL and RCPT say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The reverse-path; `None` is the null reverse-path.
    pub sender: Option<Address>,
    /// The one recipient.
    pub recipient: Address,
    /// What the content is like.
    pub content: ContentFacts,
    /// What is asked of delivery status notifications; passed on only to a peer with DSN (RFC 3461).
    pub dsn: Dsn,
    /// RFC 8689: only over verified TLS, to a peer that promises the same.
    pub require_tls: bool,
}

impl Envelope {
    /// From `sender` to `recipient`, with nothing special asked for.
    pub fn new(sender: Option<Address>, recipient: Address, content: ContentFacts) -> Self {
        Self {
            sender,
            recipient,
            content,
            dsn: Dsn::default(),
            require_tls: false,
        }
    }

    /// Whether an address cannot be said without SMTPUTF8 (RFC 6531 section 3.3).
    pub(crate) fn has_utf8_address(&self) -> bool {
        let sender = self.sender.as_ref().is_some_and(Address::needs_smtputf8);
        sender || self.recipient.needs_smtputf8()
    }

    /// Whether the addresses or the header take SMTPUTF8 (RFC 6531 section 3.4).
    pub(crate) fn needs_smtputf8(&self) -> bool {
        self.has_utf8_address() || self.content.utf8_header
    }

    /// Writes the MAIL command with the parameters that `offered` allows.
    pub(crate) fn write_mail(&self, offered: &Extensions, out: &mut String) {
        out.push_str("MAIL FROM:<");
        if let Some(sender) = &self.sender {
            put(out, format_args!("{sender}"));
        }
        out.push('>');
        if offered.size {
            put(out, format_args!(" SIZE={}", self.content.size));
        }
        if offered.eight_bit_mime && self.content.eight_bit {
            out.push_str(" BODY=8BITMIME");
        }
        if self.needs_smtputf8() {
            out.push_str(" SMTPUTF8");
        }
        if self.require_tls {
            out.push_str(" REQUIRETLS");
        }
        if offered.dsn {
            self.write_mail_dsn(out);
        }
        out.push_str("\r\n");
    }

    fn write_mail_dsn(&self, out: &mut String) {
        if matches!(self.dsn.ret.as_str(), "FULL" | "HDRS") {
            put(out, format_args!(" RET={}", self.dsn.ret));
        }
        let envid = xtext(&self.dsn.envid);
        if !envid.is_empty() && envid.len() <= ENVID_LIMIT {
            put(out, format_args!(" ENVID={envid}"));
        }
    }

    /// Writes the RCPT command with the parameters that `offered` allows.
    pub(crate) fn write_rcpt(&self, offered: &Extensions, out: &mut String) {
        put(out, format_args!("RCPT TO:<{}>", self.recipient));
        if offered.dsn {
            self.write_rcpt_dsn(out);
        }
        out.push_str("\r\n");
    }

    fn write_rcpt_dsn(&self, out: &mut String) {
        let known = |word: &&str| matches!(*word, "NEVER" | "SUCCESS" | "FAILURE" | "DELAY");
        let notify: Vec<&str> = self
            .dsn
            .notify
            .iter()
            .map(String::as_str)
            .filter(known)
            .collect();
        if notify.contains(&"NEVER") {
            out.push_str(" NOTIFY=NEVER");
        } else if !notify.is_empty() {
            put(out, format_args!(" NOTIFY={}", notify.join(",")));
        }
        let (kind, address) = match self.dsn.orcpt.split_once(';') {
            Some((kind, address)) if is_atom(kind) => (kind, address),
            _ => ("rfc822", self.dsn.orcpt.as_str()),
        };
        let is_utf8 = kind.eq_ignore_ascii_case("utf-8") || !address.is_ascii();
        let (kind, address) = if is_utf8 {
            ("utf-8", utf8_xtext(address))
        } else {
            (kind, xtext(address))
        };
        if !address.is_empty() && kind.len() + 1 + address.len() <= ORCPT_LIMIT {
            put(out, format_args!(" ORCPT={kind};{address}"));
        }
    }
}

/// An envelope and the content that goes with it.
#[derive(Debug, Clone, Copy)]
pub struct Transaction<'a> {
    /// What MAIL and RCPT say.
    pub envelope: &'a Envelope,
    /// What follows DATA.
    pub content: &'a Content<'a>,
}

/// Formats into a string, which cannot fail.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let infallible = out.write_fmt(text);
    debug_assert!(infallible.is_ok());
}

fn is_atom(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
}

/// The `xtext` of RFC 3461 section 4, in which nothing can end a parameter or a line.
fn xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'!'..=b'~' if octet != b'+' && octet != b'=' => out.push(char::from(octet)),
            _ => put(&mut out, format_args!("+{octet:02X}")),
        }
    }
    out
}

/// The `utf-8-addr-xtext` of RFC 6533 section 3, which is ASCII and so can be said to every peer.
fn utf8_xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '!'..='~' if !['+', '=', '\\'].contains(&c) => out.push(c),
            _ => put(&mut out, format_args!("\\x{{{:02X}}}", u32::from(c))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        let facts = ContentFacts {
            size: 1234,
            eight_bit: true,
            utf8_header: false,
        };
        let parse = |text: &str| text.parse::<Address>().unwrap();
        Envelope::new(Some(parse("ann@a.example")), parse("bob@b.example"), facts)
    }

    fn everything() -> Extensions {
        Extensions {
            eight_bit_mime: true,
            smtputf8: true,
            dsn: true,
            require_tls: true,
            size: true,
            ..Extensions::default()
        }
    }

    fn lines(envelope: &Envelope, offered: &Extensions) -> String {
        let mut out = String::new();
        envelope.write_mail(offered, &mut out);
        envelope.write_rcpt(offered, &mut out);
        out
    }

    #[test]
    fn a_plain_server_is_told_nothing_but_the_addresses() {
        let mut envelope = envelope();
        envelope.dsn.ret = "FULL".into();
        assert_eq!(
            lines(&envelope, &Extensions::default()),
            "MAIL FROM:<ann@a.example>\r\nRCPT TO:<bob@b.example>\r\n"
        );
    }

    #[test]
    fn a_server_with_everything_is_told_what_it_offers_to_hear() {
        let mut envelope = envelope();
        envelope.require_tls = true;
        envelope.dsn = Dsn {
            notify: vec!["SUCCESS".into(), "FAILURE".into()],
            ret: "HDRS".into(),
            envid: "a+b=c d".into(),
            orcpt: "rfc822;bob+x@b.example".into(),
        };
        assert_eq!(
            lines(&envelope, &everything()),
            "MAIL FROM:<ann@a.example> SIZE=1234 BODY=8BITMIME REQUIRETLS RET=HDRS ENVID=a+2Bb+3Dc+20d\r\n\
             RCPT TO:<bob@b.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob+2Bx@b.example\r\n"
        );
    }

    #[test]
    fn an_original_recipient_that_is_not_ascii_is_said_in_ascii() {
        let mut envelope = envelope();
        for orcpt in [
            "jörg+x@b.example",
            "rfc822;jörg+x@b.example",
            "UTF-8;jörg+x@b.example",
        ] {
            envelope.dsn.orcpt = orcpt.into();
            let lines = lines(&envelope, &everything());
            let said = " ORCPT=utf-8;j\\x{F6}rg\\x{2B}x@b.example\r\n";
            assert!(lines.ends_with(said), "{lines}");
        }
    }

    #[test]
    fn the_null_sender_and_non_ascii_addresses_are_said() {
        let mut envelope = envelope();
        envelope.sender = None;
        envelope.content.eight_bit = false;
        envelope.recipient = "jörg@b.example".parse().unwrap();
        assert_eq!(
            lines(&envelope, &everything()),
            "MAIL FROM:<> SIZE=1234 SMTPUTF8\r\nRCPT TO:<jörg@b.example>\r\n"
        );
    }

    #[test]
    fn no_parameter_can_break_out_of_its_command() {
        let mut envelope = envelope();
        let evil = "x\r\nRCPT TO:<eve@e.example> \0\u{2028}";
        envelope.dsn = Dsn {
            notify: vec![evil.into(), "NEVER".into(), "DELAY".into()],
            ret: evil.into(),
            envid: evil.into(),
            orcpt: evil.into(),
        };
        let lines = lines(&envelope, &everything());
        assert_eq!(lines.matches("\r\n").count(), 2, "{lines:?}");
        assert_eq!(lines.matches(['\r', '\n', '\0']).count(), 4);
        assert!(
            lines.contains(" NOTIFY=NEVER ") && !lines.contains("RET="),
            "{lines:?}"
        );
    }

    #[test]
    fn parameters_longer_than_the_rfc_allows_are_left_out() {
        let mut envelope = envelope();
        envelope.dsn.envid = "x".repeat(ENVID_LIMIT + 1);
        envelope.dsn.orcpt = "x".repeat(ORCPT_LIMIT);
        let lines = lines(&envelope, &everything());
        assert!(
            !lines.contains("ENVID") && !lines.contains("ORCPT"),
            "{lines}"
        );
    }
}

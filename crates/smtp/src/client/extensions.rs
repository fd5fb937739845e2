//! What a server offers in its reply to EHLO.
//!
//! Written here because `smtp_proto::EhloResponse` fails on a parameter it cannot read, and an odd line of one
//! extension is no reason not to deliver mail. It also does not know LIMITS.

use super::reply::RawReply;

/// The service extensions this client makes use of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extensions {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 3030.
    pub chunking: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 8689.
    pub require_tls: bool,
    /// RFC 1870: SIZE is known.
    pub size: bool,
    /// RFC 1870: the octets of the largest message, where the server names a limit.
    pub size_limit: Option<u64>,
    /// RFC 9422, MAILMAX: the transactions of one session.
    pub mail_limit: Option<u32>,
    /// RFC 9422, RCPTDOMAINMAX: the different domains of the recipients of one session.
    pub recipient_domain_limit: Option<u32>,
}

impl Extensions {
    /// Reads the reply to EHLO: its first line greets, every other one names an extension.
    pub(crate) fn parse(reply: &RawReply) -> Self {
        let mut offered = Self::default();
        for line in reply.lines().skip(1) {
            let end = line.find([' ', '=']).unwrap_or(line.len());
            let (keyword, parameters) = line.split_at(end);
            offered.add(
                keyword.to_ascii_uppercase().as_str(),
                parameters.trim_start_matches([' ', '=']),
            );
        }
        offered
    }

    fn add(&mut self, keyword: &str, parameters: &str) {
        match keyword {
            "PIPELINING" => self.pipelining = true,
            "STARTTLS" => self.starttls = true,
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "CHUNKING" => self.chunking = true,
            "DSN" => self.dsn = true,
            "REQUIRETLS" => self.require_tls = true,
            "SIZE" => {
                self.size = true;
                self.size_limit = parameters.trim().parse().ok().filter(|limit| *limit > 0);
            }
            "LIMITS" => {
                self.mail_limit = limit(parameters, "MAILMAX");
                self.recipient_domain_limit = limit(parameters, "RCPTDOMAINMAX");
            }
            _ => {}
        }
    }
}

/// The value of one limit among "MAILMAX=10 RCPTMAX=100".
fn limit(parameters: &str, name: &str) -> Option<u32> {
    parameters
        .split_ascii_whitespace()
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .and_then(|(_, value)| value.parse().ok())
        .filter(|limit| *limit > 0)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::reply::ReplyParser;
    use super::*;

    fn offered(text: &str) -> Extensions {
        let raw = ReplyParser::default().parse(&mut BytesMut::from(text));
        Extensions::parse(&raw.unwrap().unwrap())
    }

    #[test]
    fn extensions_are_read_whatever_their_case_and_order() {
        let all = offered(
            "250-mx.example.com at your service\r\n250-size 1000\r\n250-Pipelining\r\n250-8BITMIME\r\n\
             250-STARTTLS\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250-DSN\r\n250-REQUIRETLS\r\n250-XNONSENSE 1 2 3\r\n\
             250-AUTH=LOGIN\r\n250 LIMITS RCPTMAX=5 mailmax=20 RCPTDOMAINMAX=3\r\n",
        );
        assert_eq!(
            all,
            Extensions {
                pipelining: true,
                starttls: true,
                eight_bit_mime: true,
                smtputf8: true,
                chunking: true,
                dsn: true,
                require_tls: true,
                size: true,
                size_limit: Some(1000),
                mail_limit: Some(20),
                recipient_domain_limit: Some(3),
            }
        );
    }

    #[test]
    fn the_greeting_line_offers_nothing() {
        assert_eq!(offered("250 PIPELINING\r\n"), Extensions::default());
    }

    #[test]
    fn a_parameter_that_cannot_be_read_limits_nothing() {
        for line in [
            "SIZE",
            "SIZE 0",
            "SIZE many",
            "SIZE 99999999999999999999999",
        ] {
            let offered = offered(&format!("250-mx\r\n250 {line}\r\n"));
            assert!(offered.size && offered.size_limit.is_none(), "{line}");
        }
        assert_eq!(
            offered("250-mx\r\n250 LIMITS MAILMAX=0\r\n").mail_limit,
            None
        );
    }
}

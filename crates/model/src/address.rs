//! Mail addresses and domains.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not an address that mail can be sent to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@`.
    #[error("has no '@'; write local-part@domain")]
    NoAt,
    /// The local part is not one that RFC 5321 (or RFC 6531) allows.
    #[error("the part before the '@' {0}")]
    LocalPart(&'static str),
    /// The domain is not a name that can stand in DNS.
    #[error("the domain {0}")]
    Domain(&'static str),
    /// Longer than a path may be.
    #[error("is longer than 254 octets (RFC 5321 section 4.5.3.1.3)")]
    TooLong,
}

/// A domain name as mail uses it: lower-case A-labels (RFC 5890), at least two of them, at most 253 octets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Arc<str>);

impl Domain {
    /// The name, without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as one token of a NATS subject: `.` becomes `_`, which no A-label contains.
    pub fn token(&self) -> String {
        self.0.replace('.', "_")
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.starts_with('[') {
            return Err(AddressError::Domain(
                "is an address literal, which is not accepted; use a name",
            ));
        }
        let ascii = idna::domain_to_ascii_strict(text)
            .map_err(|_| AddressError::Domain("is not a valid domain name (RFC 1035, RFC 5891)"))?;
        if ascii.len() > 253 {
            return Err(AddressError::Domain(
                "is longer than 253 octets (RFC 1035 section 2.3.4)",
            ));
        }
        if !ascii.contains('.') {
            return Err(AddressError::Domain(
                "has one label only; write a full name such as example.com",
            ));
        }
        if ascii
            .rsplit('.')
            .next()
            .is_some_and(|top| top.bytes().all(|c| c.is_ascii_digit()))
        {
            return Err(AddressError::Domain("is a number; use a name"));
        }
        Ok(Self(ascii.into()))
    }
}

/// One mailbox: `local-part@domain` (RFC 5321 section 4.1.2, RFC 6531), at most 254 octets.
///
/// The local part is kept exactly as it was given; the domain becomes lower-case A-labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    local: Arc<str>,
    domain: Domain,
}

impl Address {
    /// What stands before the `@`, quotes and all.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// What stands behind the `@`.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether sending to or from it needs SMTPUTF8 (RFC 6531).
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.is_ascii()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoAt)?;
        check_local(local)?;
        let domain: Domain = domain.parse()?;
        if local.len() + 1 + domain.as_str().len() > 254 {
            return Err(AddressError::TooLong);
        }
        Ok(Self {
            local: local.into(),
            domain,
        })
    }
}

/// RFC 5321 `Local-part`: a dot-string or a quoted string, either with RFC 6531's non-ASCII characters.
fn check_local(local: &str) -> Result<(), AddressError> {
    let refuse = |why| Err(AddressError::LocalPart(why));
    if local.is_empty() {
        return refuse("is empty");
    }
    if local.len() > 64 {
        return refuse("is longer than 64 octets (RFC 5321 section 4.5.3.1.1)");
    }
    if local.chars().any(char::is_control) {
        return refuse("contains a control character");
    }
    if let Some(inner) = local.strip_prefix('"') {
        let Some(inner) = inner.strip_suffix('"') else {
            return refuse("opens a quote that does not close");
        };
        return check_quoted(inner);
    }
    if local.split('.').any(str::is_empty) {
        return refuse("begins or ends with a dot or has two in a row");
    }
    let atom =
        |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    if !local.chars().all(atom) {
        return refuse("contains a character that must be quoted (RFC 5321 section 4.1.2)");
    }
    Ok(())
}

fn check_quoted(inner: &str) -> Result<(), AddressError> {
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                return Err(AddressError::LocalPart(
                    "has a bare quote inside its quotes",
                ));
            }
            '\\' if chars.next().is_none() => {
                return Err(AddressError::LocalPart(
                    "ends in a backslash that quotes nothing",
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_local_part_and_lowers_its_domain() {
        let address: Address = "Ann.Lee+x@EXAMPLE.Com".parse().unwrap();
        assert_eq!(address.to_string(), "Ann.Lee+x@example.com");
        assert_eq!(address.domain().token(), "example_com");
    }

    #[test]
    fn a_domain_in_any_script_becomes_a_labels() {
        let address: Address = "jörg@Bücher.example".parse().unwrap();
        assert_eq!(address.domain().as_str(), "xn--bcher-kva.example");
        assert!(address.needs_smtputf8());
    }

    #[test]
    fn quoted_local_parts_are_addresses() {
        for good in [
            r#""a b"@example.com"#,
            r#""a@b"@example.com"#,
            r#""a\"b"@example.com"#,
        ] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn what_could_break_a_command_a_subject_or_a_key_is_no_address() {
        let bad = [
            "",
            "ann",
            "@example.com",
            "ann@",
            "ann@localhost",
            "ann@[127.0.0.1]",
            "ann@127.0.0.1",
            "a..b@example.com",
            ".a@example.com",
            "a b@example.com",
            "a\r\nRCPT TO:<x>@example.com",
            "ann@exa mple.com",
            "ann@*.example.com",
            "ann@>.com",
            "ann@a_b.com",
            "ann@example.com\r\n",
            "ann@example..com",
            "<ann@example.com>",
            "\"a@example.com",
            "\"a\"b\"@example.com",
            "ann@-example.com",
            "ann\0@example.com",
            "\"a\nb\"@example.com",
        ];
        for text in bad {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
        let long = format!("{}@example.com", "x".repeat(65));
        assert!(matches!(
            long.parse::<Address>(),
            Err(AddressError::LocalPart(_))
        ));
    }
}

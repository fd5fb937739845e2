//! A host as SMTP and TLS name it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rustls::pki_types::ServerName;

/// A text that names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is neither a host name nor an IP address")]
pub struct HostNameError {
    text: String,
}

/// A host by its DNS name (A-labels, no trailing dot) or by its address.
///
/// It is the reference identity that a certificate is checked against, and what EHLO says of ourselves. Displayed as
/// EHLO wants it: an address stands in brackets (RFC 5321 section 4.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostName(ServerName<'static>);

impl HostName {
    /// The name as TLS knows it.
    pub(crate) fn server_name(&self) -> ServerName<'static> {
        self.0.clone()
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, HostNameError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        ServerName::try_from(name)
            .map(Self)
            .map_err(|_| HostNameError {
                text: text.chars().take(255).collect(),
            })
    }
}

impl From<IpAddr> for HostName {
    fn from(address: IpAddr) -> Self {
        Self(ServerName::IpAddress(address.into()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            ServerName::IpAddress(address) => match IpAddr::from(*address) {
                IpAddr::V4(address) => write!(f, "[{address}]"),
                IpAddr::V6(address) => write!(f, "[IPv6:{address}]"),
            },
            name => f.write_str(&name.to_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_shown_as_ehlo_wants_them() {
        for (text, shown) in [
            ("MX1.Example.COM.", "mx1.example.com"),
            ("localhost", "localhost"),
            ("192.0.2.1", "[192.0.2.1]"),
            ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ] {
            assert_eq!(text.parse::<HostName>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_could_break_the_ehlo_line_names_no_host() {
        for text in [
            "",
            ".",
            "a b",
            "mx\r\nMAIL",
            "mx\0",
            "a..b",
            "bücher.example",
        ] {
            assert!(text.parse::<HostName>().is_err(), "{text:?}");
        }
    }
}

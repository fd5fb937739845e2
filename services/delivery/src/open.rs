//! Opens a session on a connection that was made, and tries once more, on another, what the server takes badly.

use std::error::Error as _;
use std::net::IpAddr;

use model::Hop;
use smtp::client::{
    self, Dialect, HostName, Options, Session, SessionError, TlsFailure, TlsMode, Verb,
};
use tokio::net::TcpStream;

use crate::config::{Security, Transport};
use crate::connect::Connector;

impl Connector {
    /// Opens the session. Where nothing is required of it: without TLS if STARTTLS or the handshake fails (RFC 7435), and
    /// with HELO if the server hangs up on EHLO (RFC 5321 section 3.2).
    pub(crate) async fn open(
        &self,
        stream: TcpStream,
        address: IpAddr,
        transport: Transport,
        hop: &Hop,
    ) -> Result<Session, SessionError> {
        // A name that TLS cannot check still has an address it can.
        let host = hop
            .mx_host
            .parse()
            .unwrap_or_else(|_| HostName::from(address));
        let options = self.options_for(transport);
        let failure = match Session::open(stream, &host, &options).await {
            Ok(session) => return Ok(session),
            Err(failure) => failure,
        };
        let simpler = match (transport.security, plainer(&failure, &options)) {
            (Security::Opportunistic, Some(simpler)) => simpler,
            _ => return Err(failure),
        };
        tracing::debug!(host = hop.mx_host, error = %in_full(&failure), "session not opened, trying a simpler one");
        let dialled = self.dialler().dial(address).await;
        let stream = dialled.map_err(|_| failure)?;
        Session::open(stream, &host, &simpler).await
    }

    pub(crate) fn options_for(&self, transport: Transport) -> Options {
        let mut options = self.options.clone();
        options.timeouts = client::Timeouts {
            content: self.timeouts.content,
            ..options.timeouts
        };
        options.framing = transport.framing;
        options.tls = match transport.security {
            Security::Opportunistic | Security::Promised => TlsMode::Opportunistic,
            Security::Required => TlsMode::Required,
        };
        options
    }
}

/// What may do for a server with which `options` led to `failure`. Octets slipped in behind STARTTLS are no failure of the
/// server's: the mail waits.
fn plainer(failure: &SessionError, options: &Options) -> Option<Options> {
    let in_the_clear = || Options {
        tls: TlsMode::Off,
        ..options.clone()
    };
    match (failure, failure.verb()?) {
        (SessionError::Tls(TlsFailure::Handshake(_) | TlsFailure::Refused(_)), _) => {
            Some(in_the_clear())
        }
        (SessionError::Tls(_), _) => None,
        (_, Verb::StartTls | Verb::Handshake) => Some(in_the_clear()),
        (SessionError::Closed { .. }, Verb::Ehlo) => Some(Options {
            dialect: Dialect::Smtp,
            ..options.clone()
        }),
        _ => None,
    }
}

/// An error with all that caused it.
pub(crate) fn in_full(error: &SessionError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

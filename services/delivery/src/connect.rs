//! Makes a connection to a site: which host, which address, with or without TLS.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::{BounceClass, Hop, Provider, Reply, Source};
use routing::{Dialable, Route, Routing};
use smtp::client::{self, HostName, Options, Session, SessionError, TlsFailure, TlsMode};
use tokio::net::TcpStream;

use crate::config::Timeouts;
use crate::dial::{Dialler, Race};

/// Addresses tried in one attempt, and sessions begun with them (as Postfix has it).
const ADDRESS_LIMIT: usize = 5;
const SESSION_LIMIT: usize = 2;

/// Makes connections.
pub(crate) struct Connector {
    pub(crate) routing: Arc<Routing>,
    pub(crate) dialable: Dialable,
    pub(crate) mx_port: u16,
    pub(crate) source: Source,
    pub(crate) source_address: Option<IpAddr>,
    pub(crate) timeouts: Timeouts,
    /// Providers to which no mail leaves in the clear.
    pub(crate) tls_required: HashSet<Provider>,
    /// What every session is opened with, but for what depends on the provider.
    pub(crate) options: Options,
}

/// How much further an attempt may go.
struct Allowance {
    addresses: usize,
    sessions: usize,
}

impl Allowance {
    fn is_spent(&self) -> bool {
        self.addresses == 0 || self.sessions == 0
    }
}

/// An open session and where it leads.
pub(crate) struct Connection {
    pub(crate) session: Session,
    pub(crate) hop: Hop,
}

/// Why no connection came about. Always soft: it says nothing about any recipient.
#[derive(Debug, Clone)]
pub(crate) struct NotConnected {
    pub(crate) class: BounceClass,
    pub(crate) detail: String,
    pub(crate) reply: Option<Reply>,
    pub(crate) hop: Option<Hop>,
}

impl NotConnected {
    fn new(class: BounceClass, detail: String) -> Self {
        Self {
            class,
            detail,
            reply: None,
            hop: None,
        }
    }

    fn at(hop: Hop, class: BounceClass, detail: String) -> Self {
        Self {
            hop: Some(hop),
            ..Self::new(class, detail)
        }
    }

    fn from_session(error: &SessionError, hop: Hop) -> Self {
        let class = match error {
            SessionError::Timeout { .. } => BounceClass::Timeout,
            SessionError::Tls(_) => BounceClass::Tls,
            SessionError::Protocol { .. } => BounceClass::Protocol,
            SessionError::Refused { .. } | SessionError::Stale { .. } => BounceClass::Policy,
            SessionError::Closed { .. } | SessionError::Io { .. } => BounceClass::Connect,
            SessionError::Fenced | SessionError::Unusable => BounceClass::Connect,
        };
        let detail = format!("{} [{}]: {error}", hop.mx_host, hop.address);
        Self {
            class,
            detail,
            reply: error.reply().cloned(),
            hop: Some(hop),
        }
    }
}

impl Connector {
    /// A session with the first host of `route` that gives one.
    pub(crate) async fn connect(&self, route: &Route) -> Result<Connection, NotConnected> {
        let mut last = NotConnected::new(
            BounceClass::Dns,
            "no mail exchanger has an address".to_owned(),
        );
        let mut allowance = Allowance {
            addresses: ADDRESS_LIMIT,
            sessions: SESSION_LIMIT,
        };
        let exchangers = route.attempt_order(&mut rand::rng());
        for exchanger in exchangers {
            let addresses = match self.routing.addresses(&exchanger.host).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    last = NotConnected::new(
                        error.bounce_class(),
                        format!("{}: {error}", exchanger.host),
                    );
                    continue;
                }
            };
            let hop = |address| self.hop(route.provider(), &exchanger.host, address);
            match self.connect_to(addresses, hop, &mut allowance).await {
                Ok(connection) => return Ok(connection),
                Err(failure) => last = failure.unwrap_or(last),
            }
            if allowance.is_spent() {
                break;
            }
        }
        Err(last)
    }

    /// A session with the first of one host's addresses that gives one; otherwise why the last gave none.
    async fn connect_to(
        &self,
        addresses: Vec<IpAddr>,
        hop: impl Fn(IpAddr) -> Hop,
        allowance: &mut Allowance,
    ) -> Result<Connection, Option<NotConnected>> {
        let mut last = None;
        let mut dialled = Vec::with_capacity(addresses.len());
        for address in addresses {
            match self.objection(address, &hop) {
                None => dialled.push(address),
                objection => last = objection,
            }
        }
        let mut race = Race::new(self.dialler(), dialled);
        while allowance.sessions > 0
            && let Some((address, connected)) = race.next(&mut allowance.addresses).await
        {
            let hop = hop(address);
            match connected {
                Ok(stream) => {
                    allowance.sessions -= 1;
                    match self.begin(stream, address, hop).await {
                        Ok(connection) => return Ok(connection),
                        Err(failure) => last = Some(failure),
                    }
                }
                Err(error) => {
                    let detail = format!("connect to {} [{}]: {error}", hop.mx_host, hop.address);
                    last = Some(NotConnected::at(hop, BounceClass::Connect, detail));
                }
            }
        }
        Err(last)
    }

    /// Why `address` may not or cannot be dialled, if that is so.
    fn objection(&self, address: IpAddr, hop: impl Fn(IpAddr) -> Hop) -> Option<NotConnected> {
        let why = match self.dialable.check(address) {
            Err(error) => format!("must not be dialled: {error}"),
            Ok(()) if self.dialler().reaches(address) => return None,
            Ok(()) => "is of another family than delivery.source_address".to_owned(),
        };
        let hop = hop(address);
        let detail = format!("{} [{address}] {why}", hop.mx_host);
        Some(NotConnected::at(hop, BounceClass::Connect, detail))
    }

    /// Opens the session on a connection that was just made.
    async fn begin(
        &self,
        stream: TcpStream,
        address: IpAddr,
        mut hop: Hop,
    ) -> Result<Connection, NotConnected> {
        match self.open(stream, address, &hop).await {
            Ok(session) => {
                if let Some(tls) = session.tls() {
                    hop.tls = format!("{} {}", tls.version, tls.cipher);
                    hop.tls_verification = tls
                        .verification
                        .as_ref()
                        .err()
                        .map(ToString::to_string)
                        .unwrap_or_default();
                }
                Ok(Connection { session, hop })
            }
            Err(error) => Err(NotConnected::from_session(&error, hop)),
        }
    }

    fn dialler(&self) -> Dialler {
        Dialler {
            port: self.mx_port,
            source: self.source_address,
            timeout: self.timeouts.connect,
        }
    }

    /// Opens the session; without TLS where TLS is only wanted and its handshake fails (RFC 7435).
    async fn open(
        &self,
        stream: TcpStream,
        address: IpAddr,
        hop: &Hop,
    ) -> Result<Session, SessionError> {
        // A name that TLS cannot check still has an address it can.
        let host = hop
            .mx_host
            .parse()
            .unwrap_or_else(|_| HostName::from(address));
        let options = self.options_for(&hop.provider);
        let failure = match Session::open(stream, &host, &options).await {
            Err(SessionError::Tls(
                failure @ (TlsFailure::Handshake(_) | TlsFailure::Refused(_)),
            )) => failure,
            opened => return opened,
        };
        if options.tls != TlsMode::Opportunistic {
            return Err(failure.into());
        }
        tracing::debug!(host = hop.mx_host, error = %failure, "TLS failed, continuing without");
        let dialled = self.dialler().dial(address).await;
        let stream = dialled.map_err(|_| failure)?;
        Session::open(
            stream,
            &host,
            &Options {
                tls: TlsMode::Off,
                ..options
            },
        )
        .await
    }

    fn options_for(&self, provider: &Provider) -> Options {
        let mut options = self.options.clone();
        options.timeouts = client::Timeouts {
            content: self.timeouts.content,
            ..options.timeouts
        };
        if self.tls_required.contains(provider) {
            options.tls = TlsMode::Required;
        }
        options
    }

    fn hop(&self, provider: &Provider, host: &str, address: IpAddr) -> Hop {
        Hop {
            provider: provider.clone(),
            mx_host: host.to_owned(),
            address: SocketAddr::new(address, self.mx_port).to_string(),
            source: self.source.clone(),
            tls: String::new(),
            tls_verification: String::new(),
        }
    }
}

#[cfg(test)]
mod tests;

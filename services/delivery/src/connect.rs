//! Makes a connection to a site: which host, which address, with or without TLS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use classify::Stage;
use model::{BounceClass, Hop, Provider, Reply, Source};
use routing::{Dialable, NotDialable, Route, Routing};
use smtp::client::{Options, Session, SessionError, TlsDetails};
use tokio::net::TcpStream;

use crate::attempt::stage;
use crate::config::{Security, Timeouts, Transport};
use crate::dial::{Dialler, Race};
use crate::open::in_full;

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
    /// What every session is opened with, but for what depends on whom it is with.
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

impl Connection {
    /// Whether the session is as sure as `security` wants it. What is required was seen to when it was opened.
    fn keeps(&self, security: Security) -> bool {
        match security {
            Security::Opportunistic | Security::Required => true,
            Security::Promised => {
                let is_verified = |tls: &TlsDetails| tls.verification.is_ok();
                self.session.tls().is_some_and(is_verified) && self.session.extensions().require_tls
            }
        }
    }
}

/// Why no connection came about. Always soft: it says nothing about any recipient.
#[derive(Debug, Clone)]
pub(crate) struct NotConnected {
    pub(crate) class: BounceClass,
    pub(crate) detail: String,
    pub(crate) reply: Option<Reply>,
    /// What a server refused, if one did; its reply then says more than `class`.
    pub(crate) refused_at: Option<Stage>,
    pub(crate) hop: Option<Hop>,
}

impl NotConnected {
    fn new(class: BounceClass, detail: String) -> Self {
        Self {
            class,
            detail,
            reply: None,
            refused_at: None,
            hop: None,
        }
    }

    fn at(hop: Hop, class: BounceClass, detail: String) -> Self {
        Self {
            hop: Some(hop),
            ..Self::new(class, detail)
        }
    }

    fn from_session(error: &SessionError, security: Security, hop: Hop) -> Self {
        let class = match error {
            SessionError::Timeout { .. } => BounceClass::Timeout,
            SessionError::Tls(_) => BounceClass::Tls,
            SessionError::Protocol { .. } => BounceClass::Protocol,
            SessionError::Refused { .. } | SessionError::Stale { .. } => BounceClass::Policy,
            SessionError::Closed { .. } | SessionError::Io { .. } => BounceClass::Connect,
            SessionError::Fenced | SessionError::Unusable => BounceClass::Connect,
        };
        let required = match (error, security) {
            (SessionError::Tls(_), Security::Required) => "TLS is required: ",
            (SessionError::Tls(_), Security::Promised) => "the message requires TLS: ",
            _ => "",
        };
        let why = in_full(error);
        let detail = format!("{} [{}]: {required}{why}", hop.mx_host, hop.address);
        Self {
            class,
            detail,
            refused_at: match error {
                SessionError::Refused { verb, .. } => Some(stage(*verb)),
                _ => None,
            },
            reply: error.reply().cloned(),
            hop: Some(hop),
        }
    }
}

impl Connector {
    /// A session with the first host of `route` that gives one as `transport` wants it.
    ///
    /// Where a promise is wanted that no host gives, a session that was had without it is better than none: it says of
    /// each message why it cannot take it.
    pub(crate) async fn connect(
        &self,
        route: &Route,
        transport: Transport,
    ) -> Result<Connection, NotConnected> {
        let mut last = NotConnected::new(
            BounceClass::Dns,
            "no mail exchanger has an address".to_owned(),
        );
        let mut without_promise = None;
        let mut allowance = Allowance {
            addresses: ADDRESS_LIMIT,
            sessions: match transport.security {
                Security::Opportunistic | Security::Required => SESSION_LIMIT,
                // RFC 8689 section 4.2.1: every host is asked.
                Security::Promised => ADDRESS_LIMIT,
            },
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
            match self
                .connect_to(addresses, transport, hop, &mut allowance)
                .await
            {
                Ok(connection) if connection.keeps(transport.security) => return Ok(connection),
                Ok(connection) => {
                    if let Some(earlier) = without_promise.replace(connection) {
                        earlier.session.quit().await;
                    }
                }
                Err(failure) => last = failure.unwrap_or(last),
            }
            if allowance.is_spent() {
                break;
            }
        }
        without_promise.ok_or(last)
    }

    /// A session with the first of one host's addresses that gives one; otherwise why the last gave none.
    async fn connect_to(
        &self,
        addresses: Vec<IpAddr>,
        transport: Transport,
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
                    match self.begin(stream, address, transport, hop).await {
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
        transport: Transport,
        mut hop: Hop,
    ) -> Result<Connection, NotConnected> {
        if let Err(error) = self.check_peer(&stream) {
            let detail = format!("{} [{address}] must not be dialled: {error}", hop.mx_host);
            return Err(NotConnected::at(hop, BounceClass::Connect, detail));
        }
        match self.open(stream, address, transport, &hop).await {
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
            Err(error) => Err(NotConnected::from_session(&error, transport.security, hop)),
        }
    }

    /// Whether the address that was reached may be: the system may lead elsewhere than where was dialled, as from 0.0.0.0
    /// to loopback.
    fn check_peer(&self, stream: &TcpStream) -> Result<(), NotDialable> {
        let reached = stream.peer_addr().ok();
        reached.map_or(Ok(()), |peer| self.dialable.check(peer.ip()))
    }

    pub(crate) fn dialler(&self) -> Dialler {
        Dialler {
            port: self.mx_port,
            source: self.source_address,
            timeout: self.timeouts.connect,
        }
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

//! Makes a connection to a site: which host, which address, with or without TLS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::{BounceClass, Hop, Provider, Reply, Source};
use routing::{Dialable, Route, Routing};
use smtp::client::{HostName, Options, Session, SessionError, TlsFailure, TlsMode};
use tokio::net::{TcpSocket, TcpStream};

use crate::config::Timeouts;

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
    pub(crate) options: Options,
}

/// How far an attempt has gone.
#[derive(Default)]
struct Tried {
    addresses: usize,
    sessions: usize,
}

impl Tried {
    fn enough(&self) -> bool {
        self.addresses >= ADDRESS_LIMIT || self.sessions >= SESSION_LIMIT
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
        let mut tried = Tried::default();
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
            for address in addresses {
                if tried.enough() {
                    return Err(last);
                }
                let hop = self.hop(route.provider(), &exchanger.host, address);
                match self.connect_to(address, hop, &mut tried).await {
                    Ok(connection) => return Ok(connection),
                    Err(failure) => last = failure,
                }
            }
        }
        Err(last)
    }

    async fn connect_to(
        &self,
        address: IpAddr,
        mut hop: Hop,
        tried: &mut Tried,
    ) -> Result<Connection, NotConnected> {
        if let Err(error) = self.dialable.check(address) {
            let detail = format!("{} must not be dialled: {error}", hop.mx_host);
            return Err(NotConnected {
                hop: Some(hop),
                ..NotConnected::new(BounceClass::Connect, detail)
            });
        }
        tried.addresses += 1;
        let stream = match self.dial(address).await {
            Ok(stream) => stream,
            Err(error) => {
                let detail = format!("connect to {} [{}]: {error}", hop.mx_host, hop.address);
                return Err(NotConnected {
                    hop: Some(hop),
                    ..NotConnected::new(BounceClass::Connect, detail)
                });
            }
        };
        tried.sessions += 1;
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

    async fn dial(&self, address: IpAddr) -> std::io::Result<TcpStream> {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(source) = self.source_address {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        // Small commands must not wait for the acknowledgement of earlier ones.
        socket.set_nodelay(true)?;
        let connecting = socket.connect(SocketAddr::new(address, self.mx_port));
        match tokio::time::timeout(self.timeouts.connect, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
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
        let failure = match Session::open(stream, &host, &self.options).await {
            Err(SessionError::Tls(
                failure @ (TlsFailure::Handshake(_) | TlsFailure::Refused(_)),
            )) => failure,
            opened => return opened,
        };
        if self.options.tls != TlsMode::Opportunistic {
            return Err(failure.into());
        }
        tracing::debug!(host = hop.mx_host, error = %failure, "TLS failed, continuing without");
        let stream = self.dial(address).await.map_err(|_| failure)?;
        Session::open(
            stream,
            &host,
            &Options {
                tls: TlsMode::Off,
                ..self.options.clone()
            },
        )
        .await
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

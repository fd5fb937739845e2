//! The configuration of one provider.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use model::{AddressError, ByteSize, Domain, Rate, parse_duration};
use runtime::Faults;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smtp::server::{Extension, Extensions};

use super::Habit;

/// A mailbox provider: its domains, its mail exchangers and its habits.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawProvider {
    /// What it is called in the ledger and in the log.
    pub name: String,
    /// The domains it takes mail for, each with everything below it.
    pub domains: Vec<String>,
    /// Its mail exchangers, the most preferred first; where none is given, "mx1." before the first domain.
    pub mx_hosts: Vec<String>,
    /// Whether its domains have mail exchangers, or say by a null MX that they take no mail (RFC 7505).
    pub mx: RawMx,
    /// The loopback address its exchangers listen on; 127.0.1.1 for the first provider, 127.0.1.2 for the second, by default.
    pub address: Option<String>,
    /// Whether another program listens there, so that only its names are played.
    pub elsewhere: bool,
    /// What DNS answers when asked for its exchangers' addresses: the first time the first line, then the next, and the last from then on. A line has addresses with spaces between, or the name that the exchanger is an alias of. Its `address`, by default.
    pub answers: Vec<String>,
    /// Whether it offers STARTTLS, and with what certificate: self-signed ("offered"), or of the authority in `authority`, good ("verified"), "expired" or for another host ("wrong-name").
    pub tls: Tls,
    /// What it does with recipients whose name does not say otherwise.
    pub policy: Policy,
    /// How long every reply takes, beginning with the greeting.
    pub latency: String,
    /// How long after its first attempt a sender is deferred for a recipient; no greylisting by default.
    pub greylist: Option<String>,
    /// How many messages it takes from one client address, with bursts of a second's worth; above that MAIL is answered 421. No limit by default.
    pub rate_limit: Option<String>,
    /// How many connections one client address may have open; those above are greeted with 421. No limit by default.
    pub max_connections: Option<u32>,
    /// The largest message it takes.
    pub max_message: String,
    /// When it refuses connections.
    pub down: Vec<RawDownWindow>,
    /// How it misbehaves, each as "state: what"; of those for one state, the first that is due counts. States: connect, greeting, ehlo, starttls, tls, mail, rcpt, data, content, dot, rset, quit, with "first 3" or "each 10" behind where it is not always. What: hang, cut, cut OCTETS, drip DURATION, wait DURATION, say REPLY, close REPLY, mute REPLY, also REPLY, raw OCTETS, long COUNT, lines COUNT, with escapes as in Rust.
    pub manners: Vec<String>,
    /// How far away it is: the time of a round trip, half of which passes before anything arrives on either side.
    pub rtt: String,
    /// The extensions it offers, by their keywords; all it has by default. STARTTLS is offered where `tls` says so.
    pub extensions: Option<Vec<String>>,
    /// Further lines of its answer to EHLO, such as "XCLIENT NAME"; nothing follows from them.
    pub ehlo_lines: Vec<String>,
    /// What it takes in one session and says so (RFC 9422).
    pub limits: RawSessionLimits,
    /// How many messages it takes on one connection; MAIL is answered 421 then. No limit by default.
    pub messages_per_connection: Option<u32>,
}

impl Default for RawProvider {
    fn default() -> Self {
        Self {
            name: String::new(),
            domains: Vec::new(),
            mx_hosts: Vec::new(),
            mx: RawMx::Hosts,
            address: None,
            elsewhere: false,
            answers: Vec::new(),
            tls: Tls::Offered,
            policy: Policy::Accept,
            latency: "0ms".into(),
            greylist: None,
            rate_limit: None,
            max_connections: None,
            max_message: "25MiB".into(),
            down: Vec::new(),
            manners: Vec::new(),
            rtt: "0ms".into(),
            extensions: None,
            ehlo_lines: Vec::new(),
            limits: RawSessionLimits::default(),
            messages_per_connection: None,
        }
    }
}

/// What DNS says of a provider's mail exchangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawMx {
    /// There are some.
    Hosts,
    /// There are none and will be none.
    Null,
}

/// Whether STARTTLS is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// It is, with a certificate that nobody vouches for.
    Offered,
    /// It is, with a certificate of the authority for its exchangers.
    Verified,
    /// It is not.
    Off,
    /// It is, with a certificate that has expired.
    Expired,
    /// It is, with a certificate for another host.
    WrongName,
}

/// What a provider takes in one session. EHLO says so with LIMITS (RFC 9422), and what goes beyond is answered 452 4.5.3.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawSessionLimits {
    /// MAILMAX: MAIL commands in one session. No limit by default.
    pub mail: Option<u32>,
    /// RCPTMAX: recipients of one message. Not announced by default, and then 1000.
    pub rcpt: Option<u32>,
    /// RCPTDOMAINMAX: different domains of the recipients of one session. No limit by default.
    pub rcpt_domain: Option<u32>,
}

/// What happens to a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Accepted.
    Accept,
    /// Refused with 550 5.1.1.
    Reject,
    /// Deferred with 451 4.3.0.
    Defer,
}

/// A time in which a provider refuses connections.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawDownWindow {
    /// Its beginning, counted from the start of mailsim.
    pub from: String,
    /// Its end, counted from the start of mailsim.
    pub until: String,
}

impl Default for RawDownWindow {
    fn default() -> Self {
        Self {
            from: "0s".into(),
            until: "10s".into(),
        }
    }
}

/// A provider that can be played.
#[derive(Debug, Clone)]
pub struct Provider {
    /// What it is called.
    pub name: String,
    /// Its domains, at least one.
    pub domains: Vec<Domain>,
    /// Its mail exchangers.
    pub mx: Mx,
    /// Where they listen.
    pub address: IpAddr,
    /// Whether somebody else listens there.
    pub elsewhere: bool,
    /// What DNS says of their addresses, one after the other; at least one.
    pub answers: Vec<HostAnswer>,
    /// How they behave.
    pub conduct: Conduct,
    /// When it refuses connections: in order, not overlapping.
    pub down: Vec<DownWindow>,
}

/// A provider's mail exchangers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mx {
    /// Host names, the most preferred first, at least one.
    Hosts(Vec<Domain>),
    /// A null MX (RFC 7505).
    Null,
}

/// What DNS says of an exchanger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostAnswer {
    /// It has these addresses.
    Addresses(Vec<IpAddr>),
    /// It is another name for this host.
    Alias(Domain),
}

impl FromStr for HostAnswer {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let addresses: Result<Vec<IpAddr>, _> = text.split(' ').map(str::parse).collect();
        match addresses {
            Ok(addresses) => Ok(Self::Addresses(addresses)),
            Err(_) => text.parse().map(Self::Alias),
        }
    }
}

/// How a provider's exchangers behave in a session.
#[derive(Debug, Clone)]
pub struct Conduct {
    /// Whether STARTTLS is offered.
    pub tls: Tls,
    /// What it does with recipients whose name does not say otherwise.
    pub policy: Policy,
    /// How long every reply takes.
    pub latency: Duration,
    /// How long a first attempt is deferred.
    pub greylist: Option<Duration>,
    /// Messages from one client address.
    pub rate_limit: Option<Rate>,
    /// Open connections from one client address.
    pub max_connections: Option<NonZeroU32>,
    /// The largest message.
    pub max_message: ByteSize,
    /// How it misbehaves; of those at one place, the first that is due counts.
    pub habits: Vec<Habit>,
    /// How far away it is.
    pub rtt: Duration,
    /// What its answer to EHLO offers besides STARTTLS.
    pub extensions: Extensions,
    /// What else stands there.
    pub ehlo_lines: Vec<String>,
    /// What it takes in one session.
    pub limits: SessionLimits,
    /// Messages on one connection.
    pub messages_per_connection: Option<NonZeroU32>,
}

/// What is taken in one session, where it is limited (RFC 9422).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionLimits {
    /// MAIL commands.
    pub mail: Option<NonZeroU32>,
    /// Recipients of one message.
    pub rcpt: Option<NonZeroU32>,
    /// Different domains of recipients.
    pub rcpt_domain: Option<NonZeroU32>,
}

impl SessionLimits {
    /// The line of EHLO's answer that says so; none where nothing is limited.
    pub(crate) fn line(&self) -> Option<String> {
        let limits = [
            ("MAILMAX", self.mail),
            ("RCPTMAX", self.rcpt),
            ("RCPTDOMAINMAX", self.rcpt_domain),
        ];
        let said = limits
            .into_iter()
            .filter_map(|(name, limit)| Some(format!(" {name}={}", limit?)));
        let said: String = said.collect();
        (!said.is_empty()).then(|| format!("LIMITS{said}"))
    }
}

/// A time in which connections are refused, counted from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownWindow {
    /// Its beginning.
    pub from: Duration,
    /// Its end, later than its beginning.
    pub until: Duration,
}

impl RawProvider {
    /// The provider this describes, unless there is a fault in it; faults are noted under `key`.
    pub(super) fn validate(
        self,
        faults: &mut Faults,
        key: &str,
        default_address: IpAddr,
    ) -> Option<Provider> {
        let field = |name: &str| format!("{key}.{name}");
        if self.name.is_empty() {
            faults.add(&field("name"), "must not be empty");
        }
        if self.domains.is_empty() {
            faults.add(&field("domains"), "name at least one domain");
        }
        let domains: Vec<Domain> = faults.parse_all(&field("domains"), &self.domains);
        let hosts: Vec<Domain> = faults.parse_all(&field("mx_hosts"), &self.mx_hosts);
        let address = address(
            faults,
            &field("address"),
            self.address.as_deref(),
            default_address,
        );
        let conduct = self.conduct(faults, key);
        let down = down(faults, &field("down"), &self.down);
        let mx = match self.mx {
            RawMx::Null => Mx::Null,
            RawMx::Hosts if self.mx_hosts.is_empty() => {
                Mx::Hosts(vec![format!("mx1.{}", domains.first()?).parse().ok()?])
            }
            RawMx::Hosts => Mx::Hosts(hosts),
        };
        let mut answers = faults.parse_all(&field("answers"), &self.answers);
        if answers.is_empty() {
            answers.push(HostAnswer::Addresses(vec![address?]));
        }
        Some(Provider {
            name: self.name,
            domains,
            mx,
            address: address?,
            elsewhere: self.elsewhere,
            answers,
            conduct: conduct?,
            down,
        })
    }

    fn conduct(&self, faults: &mut Faults, key: &str) -> Option<Conduct> {
        let field = |name: &str| format!("{key}.{name}");
        let latency = faults.check(&field("latency"), parse_duration(&self.latency));
        let greylist = self.greylist.as_deref().map(parse_duration).transpose();
        let greylist = faults.check(&field("greylist"), greylist);
        let rate_limit = self.rate_limit.as_deref().map(str::parse).transpose();
        let rate_limit = faults.check(&field("rate_limit"), rate_limit);
        let max_message = faults.parse(&field("max_message"), &self.max_message);
        let max_connections = at_least_one(faults, &field("max_connections"), self.max_connections);
        let per_connection = &field("messages_per_connection");
        let messages_per_connection =
            at_least_one(faults, per_connection, self.messages_per_connection);
        let limits = self.session_limits(faults, &field("limits"));
        let rtt = faults.check(&field("rtt"), parse_duration(&self.rtt));
        let extensions = extensions(faults, &field("extensions"), self.extensions.as_deref());
        let habits = faults.parse_all(&field("manners"), &self.manners);
        Some(Conduct {
            tls: self.tls,
            policy: self.policy,
            latency: latency?,
            greylist: greylist?,
            rate_limit: rate_limit?,
            max_connections,
            max_message: max_message?,
            habits,
            rtt: rtt?,
            extensions,
            ehlo_lines: self.ehlo_lines.clone(),
            limits,
            messages_per_connection,
        })
    }
}

impl RawProvider {
    fn session_limits(&self, faults: &mut Faults, key: &str) -> SessionLimits {
        let mut limit = |name, number| at_least_one(faults, &format!("{key}.{name}"), number);
        SessionLimits {
            mail: limit("mail", self.limits.mail),
            rcpt: limit("rcpt", self.limits.rcpt),
            rcpt_domain: limit("rcpt_domain", self.limits.rcpt_domain),
        }
    }
}

fn at_least_one(faults: &mut Faults, key: &str, number: Option<u32>) -> Option<NonZeroU32> {
    let number = number.map(NonZeroU32::new);
    if number == Some(None) {
        faults.add(key, "must be at least 1, or left out");
    }
    number.flatten()
}

/// The extensions called `keywords`; all where nothing is said.
fn extensions(faults: &mut Faults, key: &str, keywords: Option<&[String]>) -> Extensions {
    let Some(keywords) = keywords else {
        return Extensions::all();
    };
    let known: Vec<Extension> = Extensions::all().iter().collect();
    let mut offered = Vec::new();
    for keyword in keywords {
        let named = |extension: &&Extension| extension.keyword().eq_ignore_ascii_case(keyword);
        match known.iter().find(named) {
            Some(extension) => offered.push(*extension),
            None => {
                let keywords: Vec<&str> = known.iter().map(|known| known.keyword()).collect();
                let choice = keywords.join(", ");
                faults.add(key, format_args!("{keyword:?} is none of {choice}"));
            }
        }
    }
    offered.into_iter().collect()
}

fn address(faults: &mut Faults, key: &str, text: Option<&str>, default: IpAddr) -> Option<IpAddr> {
    let Some(text) = text else {
        return Some(default);
    };
    let address = text.parse().ok();
    if address.is_none() {
        let problem = format_args!("{text:?} is not an IP address such as \"127.0.1.1\"");
        faults.add(key, problem);
    }
    address
}

fn down(faults: &mut Faults, key: &str, raw: &[RawDownWindow]) -> Vec<DownWindow> {
    let mut windows: Vec<DownWindow> = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let field = |name: &str| format!("{key}[{index}].{name}");
        let from = faults.check(&field("from"), parse_duration(&raw.from));
        let until = faults.check(&field("until"), parse_duration(&raw.until));
        let (Some(from), Some(until)) = (from, until) else {
            continue;
        };
        if until <= from {
            faults.add(&field("until"), "must be later than from");
        }
        if windows.last().is_some_and(|last| from < last.until) {
            faults.add(
                &field("from"),
                "must not be earlier than the end of the window before",
            );
        }
        windows.push(DownWindow { from, until });
    }
    windows
}

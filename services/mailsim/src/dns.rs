//! The DNS of this world: who takes mail for a domain, and where.
//!
//! | name | answer |
//! |---|---|
//! | a provider's domain, or any name below it | its MX records, or a null MX; nothing of another type |
//! | a provider's mail exchanger | its A and AAAA records, or the name it is an alias of; the next line of `answers` each time |
//! | `servfail.example` and below | SERVFAIL |
//! | `timeout.example` and below | none |
//! | anything else, and whatever begins with an underscore | NXDOMAIN |

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use model::Domain;

use crate::config::{HostAnswer, Mx, Provider};
use crate::world::Domains;

const SERVFAIL: &str = "servfail.example";
const TIMEOUT: &str = "timeout.example";

/// The zone that holds all providers.
#[derive(Debug)]
pub(crate) struct Zone {
    domains: Domains,
    exchanges: Vec<Vec<MX>>,
    hosts: HashMap<String, Host>,
    ttl: u32,
    soa: Record,
}

/// A provider's exchanger, and how often each kind of its addresses was asked for.
#[derive(Debug)]
struct Host {
    answers: Vec<HostAnswer>,
    asked: [AtomicUsize; 2],
}

impl Host {
    fn new(answers: &[HostAnswer]) -> Self {
        Self {
            answers: answers.to_vec(),
            asked: Default::default(),
        }
    }

    fn look_up(&self, kind: RecordType) -> Vec<RData> {
        let asked = match kind {
            RecordType::A => &self.asked[0],
            RecordType::AAAA => &self.asked[1],
            _ => return vec![],
        };
        let turn = asked.fetch_add(1, Ordering::Relaxed);
        match self.answers.get(turn).or_else(|| self.answers.last()) {
            Some(HostAnswer::Addresses(addresses)) => addresses
                .iter()
                .filter_map(|address| match (kind, address) {
                    (RecordType::A, IpAddr::V4(address)) => Some(RData::A(A(*address))),
                    (RecordType::AAAA, IpAddr::V6(address)) => Some(RData::AAAA(AAAA(*address))),
                    _ => None,
                })
                .collect(),
            Some(HostAnswer::Alias(host)) => alias(host).into_iter().collect(),
            None => vec![],
        }
    }
}

fn alias(host: &Domain) -> Option<RData> {
    let name = Name::from_ascii(format!("{host}.")).ok()?;
    Some(RData::CNAME(CNAME(name)))
}

/// What is known of a name.
#[derive(Debug, PartialEq)]
enum Known {
    Records(Vec<RData>),
    NoSuchName,
    Failure,
    Silence,
}

impl Zone {
    /// The zone of `providers`, whose records may be kept for `ttl`.
    pub(crate) fn of(providers: &[Provider], ttl: Duration) -> anyhow::Result<Self> {
        let mut hosts = HashMap::new();
        let mut exchanges = Vec::new();
        for provider in providers {
            let mut records = Vec::new();
            match &provider.mx {
                Mx::Null => records.push(MX::new(0, Name::root())),
                Mx::Hosts(names) => {
                    for (host, preference) in names.iter().zip((10..).step_by(10)) {
                        let exchange = Name::from_ascii(format!("{host}."))?;
                        records.push(MX::new(preference, exchange));
                        hosts.insert(host.to_string(), Host::new(&provider.answers));
                    }
                }
            }
            exchanges.push(records);
        }
        let ttl = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
        Ok(Self {
            domains: Domains::of(providers),
            exchanges,
            hosts,
            ttl,
            soa: soa(ttl),
        })
    }

    fn look_up(&self, name: &str, kind: RecordType) -> Known {
        if is_at_or_below(name, SERVFAIL) {
            return Known::Failure;
        }
        if is_at_or_below(name, TIMEOUT) {
            return Known::Silence;
        }
        if let Some(host) = self.hosts.get(name) {
            return Known::Records(host.look_up(kind));
        }
        match (self.domains.find(name), kind) {
            (Some(provider), RecordType::MX) => {
                let exchanges = self.exchanges[provider].iter().cloned();
                Known::Records(exchanges.map(RData::MX).collect())
            }
            (Some(_), _) => Known::Records(vec![]),
            (None, _) => Known::NoSuchName,
        }
    }
}

fn is_at_or_below(name: &str, top: &str) -> bool {
    name.strip_suffix(top)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The authority of all names, so that resolvers keep what does not exist for `ttl` as well (RFC 2308).
fn soa(ttl: u32) -> Record {
    let data = SOA::new(Name::root(), Name::root(), 1, 3600, 600, 86_400, ttl);
    Record::from_rdata(Name::root(), ttl, RData::SOA(data))
}

#[async_trait::async_trait]
impl RequestHandler for Zone {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut responder: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        let mut records = Vec::new();
        match request.request_info() {
            Err(_) => metadata.response_code = ResponseCode::FormErr,
            Ok(info) => {
                let owner = Name::from(info.query.name().clone());
                let name = owner.to_ascii();
                match self.look_up(name.trim_end_matches('.'), info.query.query_type()) {
                    Known::Records(found) => {
                        let record = |data| Record::from_rdata(owner.clone(), self.ttl, data);
                        records = found.into_iter().map(record).collect();
                    }
                    Known::NoSuchName => metadata.response_code = ResponseCode::NXDomain,
                    Known::Failure => metadata.response_code = ResponseCode::ServFail,
                    Known::Silence => return unsent(metadata),
                }
            }
        }
        let is_negative = records.is_empty() && metadata.response_code != ResponseCode::ServFail;
        let soa = is_negative.then_some(&self.soa);
        let response = MessageResponseBuilder::from_message_request(request)
            .build(metadata, &records, None, soa, None);
        match responder.send_response(response).await {
            Ok(sent) => sent,
            Err(error) => {
                tracing::debug!(%error, "dns response not sent");
                unsent(metadata)
            }
        }
    }
}

/// What the server logs of a response that was not sent.
fn unsent(metadata: Metadata) -> ResponseInfo {
    let counts = HeaderCounts::default();
    Header { metadata, counts }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, RawConfig};

    fn ask(name: &str, kind: RecordType) -> String {
        let config = Config::try_from(RawConfig::default()).unwrap();
        let zone = Zone::of(&config.providers, config.dns_ttl).unwrap();
        match zone.look_up(name, kind) {
            Known::Records(records) => records
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_domain_and_all_below_it_have_the_exchangers_of_their_provider() {
        let exchangers = "10 mx1.gmail.example., 20 mx2.gmail.example.";
        assert_eq!(ask("gmail.example", RecordType::MX), exchangers);
        assert_eq!(ask("d1.googlemail.example", RecordType::MX), exchangers);
        assert_eq!(ask("gmail.example", RecordType::A), "");
        assert_eq!(ask("nullmx.example", RecordType::MX), "0 .");
    }

    #[test]
    fn an_exchanger_has_its_address_and_nothing_else() {
        assert_eq!(ask("mx2.gmail.example", RecordType::A), "127.0.1.1");
        assert_eq!(ask("mx1.yahoo.example", RecordType::A), "127.0.1.2");
        assert_eq!(ask("mx2.gmail.example", RecordType::AAAA), "");
        assert_eq!(ask("mx2.gmail.example", RecordType::MX), "");
    }

    #[test]
    fn an_exchangers_address_changes_and_may_be_an_alias() {
        let raw: RawConfig = serde_json::from_str(
            r#"{"providers": [{"name": "a", "domains": ["a.example"],
                "answers": ["192.0.2.1 2001:db8::1", "127.0.0.1", "mx.b.example"]}]}"#,
        )
        .unwrap();
        let config = Config::try_from(raw).unwrap();
        let zone = Zone::of(&config.providers, config.dns_ttl).unwrap();
        let ask = |kind| match zone.look_up("mx1.a.example", kind) {
            Known::Records(records) => format!("{}", records[0]),
            other => format!("{other:?}"),
        };
        assert_eq!(ask(RecordType::A), "192.0.2.1");
        assert_eq!(ask(RecordType::AAAA), "2001:db8::1");
        assert_eq!(ask(RecordType::A), "127.0.0.1");
        assert_eq!(ask(RecordType::A), "mx.b.example.");
        assert_eq!(ask(RecordType::A), "mx.b.example.");
    }

    #[test]
    fn faults_and_unknown_names_are_played_too() {
        assert_eq!(ask("servfail.example", RecordType::MX), "Failure");
        assert_eq!(ask("a.timeout.example", RecordType::MX), "Silence");
        assert_eq!(ask("nottimeout.example", RecordType::MX), "NoSuchName");
        assert_eq!(ask("_mta-sts.gmail.example", RecordType::TXT), "NoSuchName");
    }
}

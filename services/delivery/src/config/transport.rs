//! How mail leaves, by whom it goes to: encrypted or in the clear, behind DATA or in chunks.

use std::collections::HashMap;

use model::{Domain, Job, Provider};
use runtime::Faults;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smtp::client::Framing;

use super::RawConfig;

/// Whether mail leaves encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawTls {
    /// Where the server offers it, whatever its certificate; otherwise in the clear.
    #[default]
    Opportunistic,
    /// Always, and only to a server whose certificate verifies for the name of the mail exchanger.
    Required,
}

/// Whether content leaves by BDAT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawChunking {
    /// Behind DATA, whatever the server offers.
    #[default]
    Never,
    /// By BDAT where the server offers CHUNKING (RFC 3030), otherwise behind DATA.
    Offered,
}

/// Domains of recipients for which something else holds than for their provider.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawDomain {
    /// The domain; ".example.com" stands for every domain below it.
    pub name: String,
    /// "required": mail to it leaves encrypted, and only to a server whose certificate verifies for the name of the mail
    /// exchanger; until then it waits. "opportunistic": as its provider has it.
    #[serde(default)]
    pub tls: RawTls,
}

/// How sure a session must be before it carries mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Security {
    /// As sure as the server can be made.
    Opportunistic,
    /// Encrypted for the mail exchanger that DNS named, or there is no session.
    Required,
    /// The same, and the server promises to pass the mail on no other way (REQUIRETLS, RFC 8689). Where none does, the
    /// mail is refused.
    Promised,
}

/// How sessions for some mail are held. Mail for which this differs shares no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Transport {
    /// How sure a session must be.
    pub security: Security,
    /// How content is framed.
    pub framing: Framing,
}

/// How sessions are held, for whomever.
#[derive(Debug, Clone, Default)]
pub struct TransportTable {
    chunking: RawChunking,
    by_provider: HashMap<Provider, (RawTls, Option<RawChunking>)>,
    domains: HashMap<Domain, RawTls>,
    /// What holds for domains that end so, the dot included.
    endings: Vec<(String, RawTls)>,
}

impl TransportTable {
    /// The table that `raw` describes; faults are noted.
    pub(super) fn of_config(faults: &mut Faults, raw: &RawConfig) -> Self {
        let mut table = Self {
            chunking: raw.chunking,
            ..Self::default()
        };
        for known in &raw.providers {
            let name = Provider::new(&known.name);
            table.by_provider.insert(name, (known.tls, known.chunking));
        }
        for (index, domain) in raw.domains.iter().enumerate() {
            let key = format!("domains[{index}].name");
            let below = domain.name.strip_prefix('.');
            let name: Option<Domain> = faults.parse(&key, below.unwrap_or(&domain.name));
            let Some(name) = name else { continue };
            let is_new = if below.is_some() {
                let ending = format!(".{name}");
                let is_new = table.endings.iter().all(|(known, _)| *known != ending);
                table.endings.push((ending, domain.tls));
                is_new
            } else {
                table.domains.insert(name, domain.tls).is_none()
            };
            if !is_new {
                let problem = format!("{} is listed twice; list it once", domain.name);
                faults.add(&key, problem);
            }
        }
        table
    }

    /// How `job`, whose mailbox `provider` runs, is sent.
    pub fn of(&self, provider: &Provider, job: &Job) -> Transport {
        let (tls, chunking) = self.by_provider.get(provider).copied().unwrap_or_default();
        let is_required = RawTls::Required == tls || self.is_required_for(job.destination());
        let security = match (job.require_tls, is_required) {
            (true, _) => Security::Promised,
            (false, true) => Security::Required,
            (false, false) => Security::Opportunistic,
        };
        let framing = match chunking.unwrap_or(self.chunking) {
            RawChunking::Never => Framing::Data,
            RawChunking::Offered => Framing::Chunking,
        };
        Transport { security, framing }
    }

    fn is_required_for(&self, domain: &Domain) -> bool {
        let named = self.domains.get(domain).copied();
        let tls = named.unwrap_or_else(|| {
            let ends = |(ending, _): &&(String, RawTls)| domain.as_str().ends_with(ending.as_str());
            let longest = self
                .endings
                .iter()
                .filter(ends)
                .max_by_key(|(ending, _)| ending.len());
            longest.map_or(RawTls::Opportunistic, |(_, tls)| *tls)
        });
        tls == RawTls::Required
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(domains: &[(&str, RawTls)]) -> TransportTable {
        let domain = |(name, tls): &(&str, RawTls)| RawDomain {
            name: (*name).into(),
            tls: *tls,
        };
        let raw = RawConfig {
            domains: domains.iter().map(domain).collect(),
            ..RawConfig::default()
        };
        let mut faults = Faults::new("delivery");
        let table = TransportTable::of_config(&mut faults, &raw);
        faults.finish(Some(table)).unwrap()
    }

    #[test]
    fn tls_is_required_for_the_domains_that_are_named_and_no_others() {
        let table = table(&[
            ("Bank.example", RawTls::Required),
            (".gov.example", RawTls::Required),
            (".open.gov.example", RawTls::Opportunistic),
            ("x.open.gov.example", RawTls::Required),
        ]);
        for (domain, expected) in [
            ("bank.example", true),
            ("sub.bank.example", false),
            ("otherbank.example", false),
            ("tax.gov.example", true),
            ("a.tax.gov.example", true),
            ("gov.example", false),
            ("a.open.gov.example", false),
            ("x.open.gov.example", true),
        ] {
            let required = table.is_required_for(&domain.parse().unwrap());
            assert_eq!(required, expected, "{domain}");
        }
    }
}

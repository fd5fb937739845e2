//! A self-signed certificate for each provider, made anew at every start.

use std::sync::Arc;

use anyhow::Context as _;
use model::Domain;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;

use crate::config::Tls;

/// TLS for the exchangers called `hosts`, in the manner of `tls`; none where it is not offered.
pub(crate) fn offered(tls: Tls, hosts: &[Domain]) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let names = match tls {
        Tls::Off => return Ok(None),
        Tls::Offered | Tls::Expired => hosts.iter().map(Domain::to_string).collect(),
        Tls::WrongName => vec!["somebody.else.example".to_owned()],
    };
    let mut certificate = CertificateParams::new(names).context("name a certificate")?;
    if tls == Tls::Expired {
        certificate.not_before = date_time_ymd(2020, 1, 1);
        certificate.not_after = date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate().context("make a key")?;
    let made = certificate
        .self_signed(&key)
        .context("make a certificate")?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .context("choose TLS versions")?
        .with_no_client_auth()
        .with_single_cert(vec![made.der().clone()], key.into())
        .context("use the certificate")?;
    Ok(Some(Arc::new(config)))
}

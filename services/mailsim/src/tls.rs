//! A self-signed certificate for each provider, made anew at every start.

use std::sync::Arc;

use anyhow::Context as _;
use model::Domain;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;

/// TLS for the exchangers called `hosts`.
pub(crate) fn self_signed(hosts: &[Domain]) -> anyhow::Result<Arc<ServerConfig>> {
    let names: Vec<String> = hosts.iter().map(Domain::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names).context("make a certificate")?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .context("choose TLS versions")?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], made.signing_key.into())
        .context("use the certificate")?;
    Ok(Arc::new(config))
}

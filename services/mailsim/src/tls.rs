//! A certificate for each provider, and an authority for those that somebody vouches for; made anew at every start.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use model::Domain;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;

use crate::config::Tls;

/// Vouches for providers, to whoever was told to trust it.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new authority, whose certificate is written to `file` where one is given.
    pub(crate) fn new(file: Option<&Path>) -> anyhow::Result<Self> {
        let mut certificate = CertificateParams::default();
        // Another name than certificates have by default, or a self-signed one would seem to be of its making.
        let name = &mut certificate.distinguished_name;
        name.push(DnType::CommonName, "mailsim authority");
        certificate.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().context("make a key")?;
        let issuer = CertifiedIssuer::self_signed(certificate, key);
        let issuer = issuer.context("make an authority")?;
        if let Some(file) = file {
            std::fs::write(file, issuer.pem()).with_context(|| {
                format!("write the authority's certificate to {}", file.display())
            })?;
        }
        Ok(Self(issuer))
    }

    /// TLS for the exchangers called `hosts`, in the manner of `tls`; none where it is not offered.
    pub(crate) fn offered(
        &self,
        tls: Tls,
        hosts: &[Domain],
    ) -> anyhow::Result<Option<Arc<ServerConfig>>> {
        let names = match tls {
            Tls::Off => return Ok(None),
            Tls::Offered | Tls::Verified | Tls::Expired => {
                hosts.iter().map(Domain::to_string).collect()
            }
            Tls::WrongName => vec!["somebody.else.example".to_owned()],
        };
        let mut certificate = CertificateParams::new(names).context("name a certificate")?;
        if tls == Tls::Expired {
            certificate.not_before = date_time_ymd(2020, 1, 1);
            certificate.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().context("make a key")?;
        let made = match tls {
            Tls::Off | Tls::Offered => certificate.self_signed(&key),
            Tls::Verified | Tls::Expired | Tls::WrongName => certificate.signed_by(&key, &self.0),
        };
        let made = made.context("make a certificate")?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .context("choose TLS versions")?
            .with_no_client_auth()
            .with_single_cert(vec![made.der().clone()], key.into())
            .context("use the certificate")?;
        Ok(Some(Arc::new(config)))
    }
}

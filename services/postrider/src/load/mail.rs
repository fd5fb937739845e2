//! The messages of a load: alike in size, unlike in recipient.

use anyhow::Context as _;
use api::v1::SubmitRequest;
use api::v1::submit_request::Content;
use bytes::Bytes;
use model::{ByteSize, Domain};

/// A line of the body.
const LINE: &[u8] =
    b"The quick brown fox jumps over the lazy dog and runs away before it wakes up.\r\n";

/// Makes messages.
#[derive(Debug)]
pub(crate) struct Mail {
    content: Bytes,
    /// Each domain as often as its weight.
    domains: Vec<Domain>,
}

impl Mail {
    /// Messages of `size` to `destinations`, written as "domain" or "domain=weight".
    pub(crate) fn new(size: ByteSize, destinations: &[String]) -> anyhow::Result<Self> {
        let mut domains = Vec::new();
        for text in destinations {
            let (domain, weight) = text.split_once('=').unwrap_or((text, "1"));
            let weight: usize = weight
                .parse()
                .with_context(|| format!("--to {text:?}: weight is no number"))?;
            let domain: Domain = domain.parse().with_context(|| format!("--to {text:?}"))?;
            domains.extend(std::iter::repeat_n(domain, weight));
        }
        anyhow::ensure!(
            !domains.is_empty(),
            "--to names no domain with a weight above 0"
        );
        let mut content =
            b"From: load@load.example\r\nTo: you@load.example\r\nSubject: load\r\n\r\n".to_vec();
        while (content.len() as u64) < size.0 {
            content.extend_from_slice(LINE);
        }
        Ok(Self {
            content: content.into(),
            domains,
        })
    }

    /// Message number `number`.
    pub(crate) fn message(&self, number: usize) -> SubmitRequest {
        let domain = &self.domains[number % self.domains.len()];
        SubmitRequest {
            recipients: vec![format!("load{number}@{domain}")],
            content: Some(Content::Raw(self.content.clone())),
            ..SubmitRequest::default()
        }
    }
}

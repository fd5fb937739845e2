//! What makes a call repeatable: its key, and what tells one request from another under it.

use api::v1::SubmitRequest;
use model::{Address, JobId, MessageId, Tenant};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::violations::Violations;

/// The most characters of a key.
const KEY_LIMIT: usize = 256;

/// A valid idempotency key and the request it was given for.
#[derive(Debug, Clone)]
pub(crate) struct Idempotency {
    pub(crate) text: String,
    pub(crate) fingerprint: [u8; 32],
}

impl Idempotency {
    /// The key of `request`, if it has one.
    pub(crate) fn of(request: &SubmitRequest, violations: &mut Violations) -> Option<Self> {
        let text = &request.idempotency_key;
        if text.is_empty() {
            return None;
        }
        if text.len() > KEY_LIMIT || !text.bytes().all(|byte| matches!(byte, 33..=126)) {
            let problem = format!("must be 1 to {KEY_LIMIT} visible ASCII characters");
            violations.add("idempotency_key", problem);
            return None;
        }
        Some(Self {
            text: text.clone(),
            fingerprint: fingerprint(request),
        })
    }

    /// The id of the message, the same on every call with this key.
    pub(crate) fn message_id(&self, tenant: &Tenant) -> MessageId {
        MessageId::derived(&[tenant.as_str().as_bytes(), self.text.as_bytes()])
    }

    /// The id of a recipient's job, the same on every call with this key.
    pub(crate) fn job_id(&self, tenant: &Tenant, recipient: &Address) -> JobId {
        let recipient = recipient.to_string();
        JobId::derived(&[
            tenant.as_str().as_bytes(),
            self.text.as_bytes(),
            recipient.as_bytes(),
        ])
    }
}

/// SHA-256 over all of the request. The tags are put in order first: their encoding has none.
fn fingerprint(request: &SubmitRequest) -> [u8; 32] {
    let mut untagged = request.clone();
    let mut tags: Vec<(String, String)> = untagged.tags.drain().collect();
    tags.sort();
    let mut hash = Sha256::new_with_prefix(untagged.encode_to_vec());
    for (name, value) in tags {
        for text in [name, value] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(subject: &str, tags: [(&str, &str); 2]) -> SubmitRequest {
        SubmitRequest {
            idempotency_key: "receipt/4711".into(),
            campaign: subject.into(),
            tags: tags.map(|(name, value)| (name.into(), value.into())).into(),
            ..SubmitRequest::default()
        }
    }

    #[test]
    fn the_same_request_has_the_same_fingerprint_and_another_has_another() {
        let one = fingerprint(&request("a", [("x", "1"), ("y", "2")]));
        assert_eq!(one, fingerprint(&request("a", [("y", "2"), ("x", "1")])));
        assert_ne!(one, fingerprint(&request("b", [("x", "1"), ("y", "2")])));
        assert_ne!(one, fingerprint(&request("a", [("x", "12"), ("y", "")])));
    }

    #[test]
    fn a_key_that_could_not_stand_in_another_key_is_refused() {
        for bad in ["a b", "a\r\nb", "ü", &"x".repeat(257)] {
            let mut violations = Violations::default();
            let request = SubmitRequest {
                idempotency_key: bad.into(),
                ..SubmitRequest::default()
            };
            assert!(Idempotency::of(&request, &mut violations).is_none());
            assert!(violations.finish(Some(())).is_err(), "{bad:?}");
        }
    }
}

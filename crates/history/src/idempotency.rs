//! Idempotency keys: which request a key was used for, and whether it was carried out.
//!
//! A key is claimed before anything is published and completed after everything is acknowledged, so a caller that
//! repeats a request whose answer was lost is told apart from one that uses a key twice.

use std::time::Duration;

use model::Tenant;

use crate::marker::milliseconds;
use crate::{History, HistoryError};

/// How long a key is remembered.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// What stands behind the fingerprint of a request that was carried out.
const DONE: u8 = b'+';

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: it is ours now.
    Fresh,
    /// It was used for the same request, which may or may not have been carried out.
    Unfinished,
    /// It was used for the same request, which was carried out.
    Done,
    /// It was used for another request.
    Taken,
}

impl History {
    /// Claims `key` of `tenant` for the request that `fingerprint` stands for.
    pub async fn claim(
        &self,
        tenant: &Tenant,
        key: &str,
        fingerprint: &[u8; 32],
    ) -> Result<Claim, HistoryError> {
        let mut claim = redis::pipe();
        claim
            .cmd("SET")
            .arg(self.inner.keys.idempotency(tenant, key))
            .arg(&fingerprint[..])
            .arg("PX")
            .arg(milliseconds(KEPT))
            .arg("NX")
            .arg("GET");
        let (earlier,): (Option<Vec<u8>>,) = self.inner.link.run(&claim).await?;
        Ok(
            match earlier
                .as_deref()
                .map(|earlier| earlier.split_at_checked(32))
            {
                None => Claim::Fresh,
                Some(Some((same, rest))) if same == fingerprint => match rest {
                    [DONE] => Claim::Done,
                    _ => Claim::Unfinished,
                },
                Some(_) => Claim::Taken,
            },
        )
    }

    /// Notes that the request `key` was claimed for has been carried out.
    pub async fn complete(
        &self,
        tenant: &Tenant,
        key: &str,
        fingerprint: &[u8; 32],
    ) -> Result<(), HistoryError> {
        let mut value = fingerprint.to_vec();
        value.push(DONE);
        let mut complete = redis::pipe();
        complete
            .cmd("SET")
            .arg(self.inner.keys.idempotency(tenant, key))
            .arg(value)
            .arg("PX")
            .arg(milliseconds(KEPT))
            .ignore();
        self.inner.link.run(&complete).await
    }
}

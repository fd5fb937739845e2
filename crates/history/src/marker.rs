//! Markers: this job has ended, and this is the event that said so.
//!
//! A worker writes the marker before it publishes the event and settles the job. Whoever is given the job again finds
//! the marker, publishes the same event and sends nothing. Mostly that is the worker that wrote it, which knows without Redis.

use std::time::Duration;

use bytes::Bytes;
use model::{JobId, Sabotage};

use crate::{History, HistoryError};

impl History {
    /// Remembers for `ttl` that `job` ended with `event`, unless it had ended before: then the event that ended it
    /// is answered, and stays. This process remembers it even if that fails.
    pub async fn mark_done(
        &self,
        job: JobId,
        event: &[u8],
        ttl: Duration,
    ) -> Result<Option<Bytes>, HistoryError> {
        if Sabotage::NoMarker.is_on() {
            return Ok(None);
        }
        let mut set = self.set_done(job, event, ttl);
        set.arg("NX").arg("GET");
        let mut write = redis::pipe();
        write.add_command(set);
        let marked: Result<(Option<Bytes>,), _> = self.inner.link.run(&write).await;
        let recent = &self.inner.recent;
        if let Ok((Some(earlier),)) = marked {
            recent.set(job, earlier.clone(), ttl);
            return Ok(Some(earlier));
        }
        match recent.set_first(job, Bytes::copy_from_slice(event), ttl) {
            Some(earlier) => {
                // Redis has lost its memory, or is away.
                if let Err(error) = self.keep_done(job, &earlier, ttl).await {
                    tracing::debug!(%job, %error, "marker not written");
                }
                Ok(Some(earlier))
            }
            None => marked.map(|_| None),
        }
    }

    /// Remembers for `ttl` from now on that `job` ended with `event`, whatever was remembered or forgotten: for whoever
    /// wrote its marker and could not settle it since.
    pub async fn keep_done(
        &self,
        job: JobId,
        event: &[u8],
        ttl: Duration,
    ) -> Result<(), HistoryError> {
        if Sabotage::NoMarker.is_on() {
            return Ok(());
        }
        let recent = &self.inner.recent;
        recent.set(job, Bytes::copy_from_slice(event), ttl);
        let mut write = redis::pipe();
        write.add_command(self.set_done(job, event, ttl)).ignore();
        self.inner.link.run(&write).await
    }

    /// The event that ended `job`, where one is remembered.
    pub async fn done(&self, job: JobId) -> Result<Option<Bytes>, HistoryError> {
        if let Some(event) = self.inner.recent.get(job) {
            return Ok(Some(event));
        }
        let mut read = redis::pipe();
        read.cmd("GET").arg(self.inner.keys.done(job));
        let (event,) = self.inner.link.run(&read).await?;
        Ok(event)
    }

    /// Writes the marker of `job`, to live for `ttl`.
    fn set_done(&self, job: JobId, event: &[u8], ttl: Duration) -> redis::Cmd {
        let mut set = redis::cmd("SET");
        set.arg(self.inner.keys.done(job))
            .arg(event)
            .arg("PX")
            .arg(milliseconds(ttl));
        set
    }

    /// How long a marker is kept where the caller has no better idea.
    pub fn marker_ttl(&self) -> Duration {
        self.inner.settings.marker_ttl
    }
}

/// A time to live as Redis takes it: whole milliseconds, at least one.
pub(crate) fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis())
        .unwrap_or(u64::MAX / 1_000_000)
        .max(1)
}

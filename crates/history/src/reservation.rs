//! Reservations: of several processes that were given the same job one sends it.

use std::time::Duration;

use model::JobId;

use crate::marker::milliseconds;
use crate::{History, HistoryError};

impl History {
    /// Reserves `job` for this process for `ttl` from now, and answers whether it has it and the job has not ended.
    pub async fn reserve(&self, job: JobId, ttl: Duration) -> Result<bool, HistoryError> {
        let inner = &self.inner;
        if inner.recent.get(job).is_some() {
            return Ok(false);
        }
        let (key, ttl) = (inner.keys.reserved(job), milliseconds(ttl));
        let mut reserve = redis::pipe();
        let set = reserve.cmd("SET").arg(&key).arg(&inner.process);
        set.arg("NX").arg("PX").arg(ttl);
        reserve.cmd("GET").arg(&key);
        // Last, so that whoever has it has ended it before, or not yet.
        reserve.cmd("EXISTS").arg(inner.keys.done(job));
        let (made, holder, has_ended): (Option<String>, Option<String>, bool) =
            inner.link.run(&reserve).await?;
        let mut is_ours = holder.as_deref() == Some(&*inner.process);
        if is_ours && made.is_none() {
            let mut prolong = redis::pipe();
            prolong.cmd("PEXPIRE").arg(&key).arg(ttl);
            (is_ours,) = inner.link.run(&prolong).await?;
        }
        Ok(is_ours && !has_ended)
    }

    /// Gives up the reservation of `job`, for whoever knows that this process still has it.
    pub async fn release(&self, job: JobId) -> Result<(), HistoryError> {
        let mut release = redis::pipe();
        release
            .cmd("DEL")
            .arg(self.inner.keys.reserved(job))
            .ignore();
        self.inner.link.run(&release).await
    }
}

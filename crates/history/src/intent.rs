//! Notes of intent: this job is about to be attempted. One that stands was left by a process that ended in the middle.

use std::time::Duration;

use model::JobId;

use crate::marker::milliseconds;
use crate::{History, HistoryError};

/// How long a note is kept: beyond any redelivery and any attempt.
const NOTE_TTL: Duration = Duration::from_secs(3600);

impl History {
    /// Notes that `job` is about to be attempted, and answers how many such notes stood already.
    pub async fn begin_attempt(&self, job: JobId) -> Result<u32, HistoryError> {
        let key = self.inner.keys.intent(job);
        let mut note = redis::pipe();
        note.atomic().cmd("INCR").arg(&key);
        note.cmd("PEXPIRE")
            .arg(&key)
            .arg(milliseconds(NOTE_TTL))
            .ignore();
        let (notes,): (i64,) = self.inner.link.run(&note).await?;
        Ok(u32::try_from(notes - 1).unwrap_or(0))
    }

    /// Takes back the note made last: the attempt did not begin.
    pub async fn withdraw_attempt(&self, job: JobId) -> Result<(), HistoryError> {
        let key = self.inner.keys.intent(job);
        let mut withdraw = redis::pipe();
        withdraw.atomic().cmd("DECR").arg(&key).ignore();
        withdraw
            .cmd("PEXPIRE")
            .arg(&key)
            .arg(milliseconds(NOTE_TTL))
            .ignore();
        self.inner.link.run(&withdraw).await
    }

    /// Removes every note of `job`: an attempt of it came to an end.
    pub async fn end_attempt(&self, job: JobId) -> Result<(), HistoryError> {
        let mut remove = redis::pipe();
        remove.cmd("DEL").arg(self.inner.keys.intent(job)).ignore();
        self.inner.link.run(&remove).await
    }
}

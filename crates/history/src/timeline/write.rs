//! Writing timelines: one pipeline for many events.

use model::{MessageId, Tenant};
use redis::Pipeline;

use super::encoding::{self, MESSAGE};
use super::{JOBS_OF_A_MESSAGE, KEPT_AT_EACH_END, TimelineEntry};
use crate::marker::milliseconds;
use crate::{History, HistoryError};

/// Entries in one pipeline: few enough to be answered well within the deadline.
const PIPELINED: usize = 250;
/// How many events more than are kept a job may have before it is trimmed, so that trimming is rare.
const SLACK: usize = 16;

impl History {
    /// Writes `entries`. Writing one again changes nothing but when it expires.
    ///
    /// After an error some entries may be written; write all again.
    pub async fn append(&self, entries: &[TimelineEntry]) -> Result<(), HistoryError> {
        let mut sorted: Vec<&TimelineEntry> = entries.iter().collect();
        sorted.sort_by_key(|entry| (entry.message, entry.job));
        for part in sorted.chunks(PIPELINED) {
            self.append_part(part).await?;
        }
        Ok(())
    }

    async fn append_part(&self, sorted: &[&TimelineEntry]) -> Result<(), HistoryError> {
        let mut commands = redis::pipe();
        let mut jobs = Vec::new();
        let of_one_message =
            sorted.chunk_by(|a, b| (a.message, &a.tenant) == (b.message, &b.tenant));
        for message in of_one_message {
            self.index(&mut commands, message);
            for job in message.chunk_by(|a, b| a.job == b.job) {
                jobs.push(self.record(&mut commands, job));
            }
        }
        let lengths: Vec<usize> = self.inner.link.run(&commands).await?;
        for (key, length) in jobs.iter().zip(lengths) {
            if length > 2 * KEPT_AT_EACH_END + SLACK {
                self.trim(key).await?;
            }
        }
        Ok(())
    }

    /// Lists the jobs of `entries`, which are all of one message, under it.
    fn index(&self, commands: &mut Pipeline, entries: &[&TimelineEntry]) {
        let Some((tenant, message)) = whose(entries) else {
            return;
        };
        let key = self.inner.keys.message(tenant, message);
        // LT keeps a job at its earliest event, in whatever order they arrive.
        commands.cmd("ZADD").arg(&key).arg("LT");
        for job in entries.chunk_by(|a, b| a.job == b.job) {
            let earliest = job.iter().map(|entry| entry.at.as_microsecond()).min();
            commands.arg(earliest).arg(job[0].job.to_string());
        }
        commands.ignore();
        commands
            .cmd("ZREMRANGEBYRANK")
            .arg(&key)
            .arg(JOBS_OF_A_MESSAGE)
            .arg(-1)
            .ignore();
        self.expire(commands, &key);
    }

    /// Writes `entries`, which are all of one job, and asks how many events that job has; answers its key.
    fn record(&self, commands: &mut Pipeline, entries: &[&TimelineEntry]) -> String {
        let first = entries[0];
        let job = first.job.to_string();
        let key = self.inner.keys.job(&first.tenant, first.job);
        commands
            .cmd("HSET")
            .arg(&key)
            .arg(MESSAGE)
            .arg(first.message.as_bytes());
        for entry in entries {
            commands
                .arg(encoding::field(entry, &job))
                .arg(&*encoding::value(entry));
        }
        commands.ignore();
        self.expire(commands, &key);
        commands.cmd("HLEN").arg(&key);
        key
    }

    fn expire(&self, commands: &mut Pipeline, key: &str) {
        let retention = milliseconds(self.inner.settings.retention);
        commands.cmd("PEXPIRE").arg(key).arg(retention).ignore();
    }

    /// Forgets the middle of a job's timeline.
    async fn trim(&self, key: &str) -> Result<(), HistoryError> {
        let Some((_, events)) = self.stored(key).await? else {
            return Ok(());
        };
        let end = events.len().saturating_sub(KEPT_AT_EACH_END);
        let Some(middle) = events.get(KEPT_AT_EACH_END..end) else {
            return Ok(());
        };
        let mut delete = redis::pipe();
        delete.cmd("HDEL").arg(key);
        for event in middle {
            delete.arg(&*event.field);
        }
        delete.ignore();
        self.inner.link.run(&delete).await
    }
}

fn whose<'a>(entries: &[&'a TimelineEntry]) -> Option<(&'a Tenant, MessageId)> {
    entries.first().map(|entry| (&entry.tenant, entry.message))
}

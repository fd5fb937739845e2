//! Writing timelines: one pipeline for many events.

use model::{MessageId, Tenant};
use redis::{Cmd, Pipeline};

use super::encoding::{self, MESSAGE};
use super::{KEPT_AT_EACH_END, TimelineEntry};
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
        let mut long = Vec::new();
        let of_one_message =
            sorted.chunk_by(|a, b| (a.message, &a.tenant) == (b.message, &b.tenant));
        for message in of_one_message {
            self.index(&mut commands, message);
            for job in message.chunk_by(|a, b| a.job == b.job) {
                long.extend(self.record(&mut commands, job));
            }
        }
        let lengths: Vec<usize> = self.inner.link.run(&commands).await?;
        for (key, length) in long.iter().zip(lengths) {
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
        let mut list = command("ZADD", 3 + 2 * entries.len(), 128 + 64 * entries.len());
        list.arg(&key).arg("LT");
        for job in entries.chunk_by(|a, b| a.job == b.job) {
            let earliest = job.iter().map(|entry| entry.at.as_microsecond()).min();
            list.arg(earliest).arg(job[0].job.to_string());
        }
        commands.add_command(list).ignore();
        self.expire(commands, &key);
    }

    /// Writes `entries`, which are all of one job. Where that has been tried often, asks how many events it has, and answers
    /// its key.
    fn record(&self, commands: &mut Pipeline, entries: &[&TimelineEntry]) -> Option<String> {
        let first = entries[0];
        let job = first.job.to_string();
        let key = self.inner.keys.job(&first.tenant, first.job);
        let events: usize = entries.iter().map(|entry| entry.event.len()).sum();
        let octets = 128 + 64 * entries.len() + events;
        let mut write = command("HSET", 4 + 2 * entries.len(), octets);
        write.arg(&key).arg(MESSAGE).arg(first.message.as_bytes());
        for entry in entries {
            let field = encoding::field(entry, &job);
            write.arg(field).arg(&*encoding::value(entry));
        }
        commands.add_command(write).ignore();
        self.expire(commands, &key);
        // An attempt leaves two events at most.
        let is_long = entries
            .iter()
            .any(|entry| entry.attempt as usize >= KEPT_AT_EACH_END);
        is_long.then(|| {
            commands.cmd("HLEN").arg(&key);
            key
        })
    }

    fn expire(&self, commands: &mut Pipeline, key: &str) {
        let retention = milliseconds(self.inner.settings.retention);
        let mut expire = command("PEXPIRE", 3, 32 + key.len());
        expire.arg(key).arg(retention);
        commands.add_command(expire).ignore();
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

/// A command with room for so many arguments, and about so many octets.
fn command(name: &str, arguments: usize, octets: usize) -> Cmd {
    let mut command = Cmd::with_capacity(arguments, octets);
    command.arg(name);
    command
}

fn whose<'a>(entries: &[&'a TimelineEntry]) -> Option<(&'a Tenant, MessageId)> {
    entries.first().map(|entry| (&entry.tenant, entry.message))
}

//! Reading timelines: of one job, or of all jobs of a message.

use bytes::Bytes;
use model::{JobId, MessageId, Tenant};

use super::encoding::{self, Stored};
use super::{JOBS_OF_A_MESSAGE, Timeline};
use crate::{History, HistoryError};

/// Timelines asked for at once: few enough to be answered well within the deadline.
const PIPELINED: usize = 100;

type Fields = Vec<(Bytes, Bytes)>;

impl History {
    /// What is remembered of `job`. None where it is unknown, forgotten or another tenant's.
    pub async fn job(&self, tenant: &Tenant, job: JobId) -> Result<Option<Timeline>, HistoryError> {
        let mut read = redis::pipe();
        read.cmd("HGETALL").arg(self.inner.keys.job(tenant, job));
        let (fields,): (Fields,) = self.inner.link.run(&read).await?;
        encoding::timeline(fields)
    }

    /// What is remembered of the jobs of `message`, the first accepted first, at most 1,000 of them.
    ///
    /// None where the message is unknown, forgotten or another tenant's.
    pub async fn message(
        &self,
        tenant: &Tenant,
        message: MessageId,
    ) -> Result<Option<Vec<(JobId, Timeline)>>, HistoryError> {
        let mut read = redis::pipe();
        read.cmd("ZRANGE")
            .arg(self.inner.keys.message(tenant, message))
            .arg(0)
            .arg(JOBS_OF_A_MESSAGE - 1);
        let (members,): (Vec<String>,) = self.inner.link.run(&read).await?;
        if members.is_empty() {
            return Ok(None);
        }
        let jobs: Vec<JobId> = members
            .iter()
            .map(|member| encoding::job_id(member))
            .collect::<Result<_, _>>()?;
        let mut timelines = Vec::with_capacity(jobs.len());
        for part in jobs.chunks(PIPELINED) {
            timelines.extend(self.timelines(tenant, part).await?);
        }
        Ok(Some(timelines))
    }

    /// The timelines of those `jobs` that still have one.
    async fn timelines(
        &self,
        tenant: &Tenant,
        jobs: &[JobId],
    ) -> Result<Vec<(JobId, Timeline)>, HistoryError> {
        let mut read = redis::pipe();
        for job in jobs {
            read.cmd("HGETALL").arg(self.inner.keys.job(tenant, *job));
        }
        let all: Vec<Fields> = self.inner.link.run(&read).await?;
        let decoded = jobs.iter().zip(all).map(|(job, fields)| {
            let timeline = encoding::timeline(fields)?;
            Ok(timeline.map(|timeline| (*job, timeline)))
        });
        decoded.filter_map(Result::transpose).collect()
    }

    /// What the hash at `key` holds, for those who change it.
    pub(super) async fn stored(
        &self,
        key: &str,
    ) -> Result<Option<(MessageId, Vec<Stored>)>, HistoryError> {
        let mut read = redis::pipe();
        read.cmd("HGETALL").arg(key);
        let (fields,): (Fields,) = self.inner.link.run(&read).await?;
        encoding::decode(fields)
    }
}

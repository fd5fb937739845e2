//! The names of things in Redis.

use model::{JobId, MessageId, Tenant};

/// Makes every key of one cell. The braces keep them in one hash slot of a Redis cluster, as pipelines need.
#[derive(Debug)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) fn of(cell: &str) -> Self {
        Self {
            prefix: format!("{{{cell}}}"),
        }
    }

    /// A string: the event that ended the job.
    pub(crate) fn done(&self, job: JobId) -> String {
        format!("{}:done:{job}", self.prefix)
    }

    /// A string: the process that has reserved the job.
    pub(crate) fn reserved(&self, job: JobId) -> String {
        format!("{}:reserved:{job}", self.prefix)
    }

    /// A number: attempts of the job that began and did not end.
    pub(crate) fn intent(&self, job: JobId) -> String {
        format!("{}:intent:{job}", self.prefix)
    }

    /// A hash: the timeline of the job.
    pub(crate) fn job(&self, tenant: &Tenant, job: JobId) -> String {
        format!("{}:job:{tenant}:{job}", self.prefix)
    }

    /// A string: the request an idempotency key was used for.
    pub(crate) fn idempotency(&self, tenant: &Tenant, key: &str) -> String {
        format!("{}:idem:{tenant}:{key}", self.prefix)
    }

    /// A sorted set: the jobs of the message by when they were accepted.
    pub(crate) fn message(&self, tenant: &Tenant, message: MessageId) -> String {
        format!("{}:msg:{tenant}:{message}", self.prefix)
    }
}

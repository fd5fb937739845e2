//! Whether Redis keeps what it is given until it expires.

use redis::InfoDict;

use crate::{History, HistoryError};

/// The only policy under which nothing is dropped before its time.
const KEEPS: &str = "noeviction";

impl History {
    /// The policy by which Redis drops keys when its memory is full; `None` where it drops none.
    ///
    /// Asked by `INFO`, which managed servers answer that forbid `CONFIG`.
    pub async fn eviction(&self) -> Result<Option<String>, HistoryError> {
        let mut ask = redis::pipe();
        ask.cmd("INFO").arg("memory");
        let (memory,): (InfoDict,) = self.inner.link.run(&ask).await?;
        let is_bounded = memory.get::<u64>("maxmemory").is_none_or(|most| most > 0);
        let policy = memory.get::<String>("maxmemory_policy");
        Ok(policy.filter(|policy| is_bounded && policy != KEEPS))
    }
}

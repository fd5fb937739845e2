//! What has come to the mailboxes since a moment, read as it comes: a ledger grows long.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::Context as _;
use mailsim::ledger::Entry;

/// Follows a ledger.
#[derive(Debug)]
pub struct Arrivals {
    ledger: PathBuf,
    /// Octets that were read, all of whole lines.
    read: u64,
}

impl Arrivals {
    /// From now on; earlier lines of `ledger` are passed over.
    pub(crate) fn after_now(ledger: PathBuf) -> anyhow::Result<Self> {
        let mut arrivals = Self { ledger, read: 0 };
        arrivals.more()?;
        Ok(arrivals)
    }

    /// What was decided since the last call.
    pub fn more(&mut self) -> anyhow::Result<Vec<Entry>> {
        let mut file = match File::open(&self.ledger) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context("open the ledger"),
        };
        let mut text = String::new();
        file.seek(SeekFrom::Start(self.read))
            .context("read on in the ledger")?;
        file.read_to_string(&mut text).context("read the ledger")?;
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        self.read += whole.len() as u64;
        let entry = |line| serde_json::from_str(line).context("read a line of the ledger");
        whole.lines().map(entry).collect()
    }
}

//! What mailsim decided about every recipient, one JSON line each.
//!
//! Invariant: a line is in the file, though not on the disk, before the client hears of the decision. A mailsim that is
//! killed has written down everything it acknowledged.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What became of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The message is in the mailbox.
    Accepted,
    /// It never will be.
    Rejected,
    /// It is not, but may be later.
    Deferred,
    /// It is not, and the client was not told.
    Cut,
}

/// One decision on one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was made.
    pub time: Timestamp,
    /// By which provider.
    pub provider: String,
    /// In which session.
    pub session: String,
    /// The reverse-path; empty for `<>`.
    pub sender: String,
    /// The forward-path.
    pub recipient: String,
    /// The Message-ID header field, without brackets; none where no content was seen or it has no such field.
    pub message_id: Option<String>,
    /// Octets of content; none where no content was seen.
    pub size: Option<u64>,
    /// SHA-256 of the content in hexadecimal; none where no content was seen.
    pub sha256: Option<String>,
    /// The TLS version; none in plain text.
    pub tls: Option<String>,
    /// Whether REQUIRETLS was asked for (RFC 8689).
    #[serde(default)]
    pub require_tls: bool,
    /// The reply's code; none where there was no reply.
    pub code: Option<u16>,
    /// The reply; empty where there was none.
    pub reply: String,
    /// What became of the recipient.
    pub outcome: Outcome,
}

/// Why a ledger cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not an entry.
    #[error("line {line} of {} is not a ledger entry", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, counted from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

/// Reads all entries of the ledger at `path`. A last line without its end, which a kill may leave, is passed over.
pub fn read(path: &Path) -> Result<Vec<Entry>, LedgerError> {
    entries(path)?.collect()
}

/// The same, one after the other.
pub fn entries(
    path: &Path,
) -> Result<impl Iterator<Item = Result<Entry, LedgerError>> + use<>, LedgerError> {
    let io = |path: &Path, source| LedgerError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(|source| io(path, source))?;
    let (mut reader, path) = (BufReader::new(file), path.to_owned());
    let mut number = 0;
    Ok(std::iter::from_fn(move || {
        let mut text = String::new();
        if let Err(source) = reader.read_line(&mut text) {
            return Some(Err(io(&path, source)));
        }
        let line = text.strip_suffix('\n')?;
        number += 1;
        let parsed = serde_json::from_str(line);
        Some(parsed.map_err(|source| LedgerError::Line {
            path: path.clone(),
            line: number,
            source,
        }))
    }))
}

/// Appends to a ledger file, or forgets where there is none.
#[derive(Debug)]
pub(crate) struct Ledger(Option<Mutex<File>>);

impl Ledger {
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        let append = |path| OpenOptions::new().append(true).create(true).open(path);
        Ok(Self(path.map(append).transpose()?.map(Mutex::new)))
    }

    /// Writes all `entries` in one piece.
    ///
    /// Blocks for a copy into the page cache, which costs less than handing it to another thread.
    pub(crate) fn write(&self, entries: &[Entry]) -> io::Result<()> {
        let Some(file) = &self.0 else {
            return Ok(());
        };
        let mut lines = Vec::with_capacity(entries.len() * 512);
        for entry in entries {
            serde_json::to_writer(&mut lines, entry)?;
            lines.push(b'\n');
        }
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(recipient: &str) -> Entry {
        Entry {
            time: Timestamp::UNIX_EPOCH,
            provider: "gmail".into(),
            session: "s".into(),
            sender: String::new(),
            recipient: recipient.into(),
            message_id: Some("1@example.com".into()),
            size: Some(3),
            sha256: Some("ab".into()),
            tls: None,
            require_tls: false,
            code: Some(250),
            reply: "250 2.0.0 ok".into(),
            outcome: Outcome::Accepted,
        }
    }

    #[test]
    fn what_is_written_can_be_read_though_the_last_line_be_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let ledger = Ledger::open(Some(&path)).unwrap();
        ledger
            .write(&[entry("a@b.example"), entry("c@d.example")])
            .unwrap();
        assert_eq!(
            read(&path).unwrap(),
            [entry("a@b.example"), entry("c@d.example")]
        );
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(b"{\"time\":"))
            .unwrap();
        assert_eq!(read(&path).unwrap().len(), 2);
    }

    #[test]
    fn an_entry_is_one_line_of_plain_json() {
        expect_test::expect![[r#"{"time":"1970-01-01T00:00:00Z","provider":"gmail","session":"s","sender":"","recipient":"a@b.example","message_id":"1@example.com","size":3,"sha256":"ab","tls":null,"require_tls":false,"code":250,"reply":"250 2.0.0 ok","outcome":"accepted"}"#]]
            .assert_eq(&serde_json::to_string(&entry("a@b.example")).unwrap());
    }
}

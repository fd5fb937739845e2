//! Writes down every octet that clients send, for whoever does not believe the ledger.
//!
//! Of each session there is `<provider>-<session>.in`: the octets as they came off the connection, and so encrypted ones
//! after STARTTLS. Of each message there is `<provider>-<session>-<number>.eml`: its content without dot-stuffing.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use uuid::Uuid;

/// The files of one session.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    stem: PathBuf,
}

impl Recorder {
    pub(crate) fn new(directory: &Path, provider: &str, session: Uuid) -> Self {
        Self {
            stem: directory.join(format!("{provider}-{session}")),
        }
    }

    /// Records what is read from `stream` from here on.
    pub(crate) fn listen<S>(&self, stream: S) -> io::Result<Recorded<S>> {
        let file = File::create_new(self.file(".in"))?;
        Ok(Recorded { stream, file })
    }

    /// Records the session's message number `number`.
    pub(crate) fn keep(&self, number: u32, content: &[u8]) -> io::Result<()> {
        std::fs::write(self.file(&format!("-{number}.eml")), content)
    }

    fn file(&self, ending: &str) -> PathBuf {
        let mut name = self.stem.clone().into_os_string();
        name.push(ending);
        name.into()
    }
}

/// A stream whose incoming octets are written down. Blocks for a copy into the page cache, as the ledger does.
#[derive(Debug)]
pub(crate) struct Recorded<S> {
    stream: S,
    file: File,
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = polled {
            self.file.write_all(&buffer.filled()[before..])?;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

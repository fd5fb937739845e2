//! Mail servers that others wrote take what we deliver, and what they keep is what was submitted, octet by octet.
//!
//! Needs what `deploy/peers.sh` fetches, and root; run by `make peers`.

mod corpus;
mod peer;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::v1::EventKind;
use delivery::config::RawChunking;
use postrider::config::RawConfig;
use tests::{Setup, around, canonical, deliver_all, line_ends_and_dots, number, provider, raw};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use peer::Peer;

/// Built by cargo before these tests run.
const PROGRAM: &str = env!("CARGO_BIN_EXE_postrider-under-test");
/// Messages for each peer, where `POSTRIDER_TEST_MESSAGES` does not say.
const MESSAGES: usize = 1000;
/// The strings that Postfix is sent, where `POSTRIDER_TEST_STRING_LENGTH` does not say.
const LONGEST: u32 = 9;
const PATIENCE: Duration = Duration::from_secs(900);

#[tokio::test]
async fn postfix_keeps_what_was_submitted() -> anyhow::Result<()> {
    keeps("postfix", corpus::messages(count())).await
}

#[tokio::test]
async fn exim_keeps_what_was_submitted() -> anyhow::Result<()> {
    keeps("exim", corpus::messages(count())).await
}

#[tokio::test]
async fn opensmtpd_keeps_what_was_submitted() -> anyhow::Result<()> {
    keeps("opensmtpd", corpus::messages(count())).await
}

#[tokio::test]
async fn aiosmtpd_keeps_what_was_submitted() -> anyhow::Result<()> {
    keeps("aiosmtpd", corpus::messages(count())).await
}

/// Postfix as it is here takes a lone LF for a line end, and so LF.LF for the end of a message.
#[tokio::test]
async fn no_string_smuggles_a_message_into_a_postfix_that_is_lenient() -> anyhow::Result<()> {
    keeps("postfix", strings()).await
}

/// That the test above could fail: a client that lets a lone LF out makes two messages of one there.
#[tokio::test]
async fn a_client_that_is_careless_would_have_smuggled() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let peer = Peer::start("postfix", dir.path(), 0).await?;
    let mut stream = TcpStream::connect(peer.socket()).await?;
    let envelope = "MAIL FROM:<ann@acme.example>\r\nRCPT TO:<bob@postfix.example>\r\nDATA\r\n";
    let message = "From: ann@acme.example\r\n\r\nhello";
    let dialogue =
        format!("EHLO c.example\r\n{envelope}{message}\n.\r\n{envelope}{message}\r\n.\r\nQUIT\r\n");
    stream.write_all(dialogue.as_bytes()).await?;
    stream.read_to_end(&mut Vec::new()).await?;
    assert_eq!(peer.kept(2).await?.len(), 2);
    peer.stop().await
}

/// The same by BDAT, in which Postfix finds lines as well.
#[tokio::test]
async fn no_string_smuggles_a_message_into_postfix_by_bdat() -> anyhow::Result<()> {
    keeps_by("postfix", RawChunking::Offered, strings()).await
}

fn count() -> usize {
    number("POSTRIDER_TEST_MESSAGES").unwrap_or(MESSAGES)
}

/// A message around each string of line ends and dots.
fn strings() -> Vec<Vec<u8>> {
    let longest = number("POSTRIDER_TEST_STRING_LENGTH").unwrap_or(LONGEST);
    let strings = line_ends_and_dots(longest).enumerate();
    strings.map(|(id, string)| around(&string, id)).collect()
}

/// Delivers `messages` to the peer called `name` through a cluster, and looks into its mailbox.
async fn keeps(name: &str, messages: Vec<Vec<u8>>) -> anyhow::Result<()> {
    keeps_by(name, RawChunking::Never, messages).await
}

/// The same, by DATA or by BDAT.
async fn keeps_by(name: &str, chunking: RawChunking, messages: Vec<Vec<u8>>) -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM)
        .allowing("holds not proven")
        .configured(|config| {
            config.delivery.chunking = chunking;
            world(config, name);
        });
    let mut cluster = setup.start().await?;
    let dir = tempfile::tempdir()?;
    let peer = Peer::start(name, dir.path(), cluster.stack()?.mx_port()).await?;
    cluster.stack()?.start_ingest().await?;
    cluster.stack()?.start_worker("worker")?;
    let request =
        |(id, content): (usize, &Vec<u8>)| raw(&format!("m{id}@{name}.example"), content.clone());
    let requests = messages.iter().enumerate().map(request).collect();
    let ended = deliver_all(&cluster.api(0)?, requests, PATIENCE).await?;
    let delivered = ended
        .values()
        .filter(|kind| **kind == EventKind::Delivered)
        .count();
    assert_eq!(delivered, messages.len(), "delivered to {name}");
    compare(&peer, messages).await.with_context(|| peer.log())?;
    if name == "postfix" {
        // It counts what each session said.
        peer.logs(match chunking {
            RawChunking::Never => " data=",
            RawChunking::Offered => " bdat=",
        })
        .await?;
    }
    peer.stop().await?;
    cluster.finish().await
}

/// One provider, whose mail the peer takes.
fn world(config: &mut RawConfig, name: &str) {
    config.mailsim.providers = vec![mailsim::config::RawProvider {
        address: Some(peer::address(name).to_string()),
        elsewhere: true,
        ..provider(name)
    }];
}

/// Holds what the peer keeps against what was submitted: each message once, and nothing else.
async fn compare(peer: &Peer, submitted: Vec<Vec<u8>>) -> anyhow::Result<()> {
    let kept = peer.kept(submitted.len()).await?;
    let mut wanted: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for message in submitted {
        *wanted.entry(canonical(&message)).or_default() += 1;
    }
    for message in kept {
        let Some(left) = wanted.get_mut(&message) else {
            anyhow::bail!(
                "kept, but not submitted: {:?}",
                message.escape_ascii().to_string()
            );
        };
        ensure!(
            *left > 0,
            "kept too often: {:?}",
            message.escape_ascii().to_string()
        );
        *left -= 1;
    }
    let missing = wanted.values().sum::<usize>();
    ensure!(missing == 0, "{missing} messages are missing");
    Ok(())
}

/// The files of a directory.
fn files(directory: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let read = std::fs::read_dir(directory).context("read the mailbox")?;
    let paths: Result<_, _> = read.map(|file| file.map(|file| file.path())).collect();
    paths.context("read the mailbox")
}

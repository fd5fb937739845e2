//! Whatever line ends and dots a raw message holds, it arrives as one message, and no command comes out of it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::ensure;
use delivery::config::RawChunking;
use mailsim::ledger::Outcome;
use sha2::{Digest as _, Sha256};
use tests::{Setup, around, canonical, deliver_all, line_ends_and_dots, number, raw};

use super::PROGRAM;

/// How long strings are, where `POSTRIDER_TEST_STRING_LENGTH` does not say.
const LONGEST: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::test]
async fn every_string_of_line_ends_and_dots_arrives_as_one_message() -> anyhow::Result<()> {
    arrive(RawChunking::Never).await
}

#[tokio::test]
async fn every_string_of_line_ends_and_dots_arrives_as_one_message_by_bdat() -> anyhow::Result<()> {
    arrive(RawChunking::Offered).await
}

async fn arrive(chunking: RawChunking) -> anyhow::Result<()> {
    let longest = number("POSTRIDER_TEST_STRING_LENGTH").unwrap_or(LONGEST);
    // So many jobs at once make a loaded machine slow to prove its holds.
    let setup = Setup::new(PROGRAM)
        .allowing("holds not proven")
        .configured(|config| config.delivery.chunking = chunking);
    let cluster = setup.start_with(1).await?;
    let mut expected = HashMap::new();
    let mut requests = Vec::new();
    for (id, string) in line_ends_and_dots(longest).enumerate() {
        let content = around(&string, id);
        let recipient = format!("s{id}@gmail.example");
        expected.insert(recipient.clone(), (sha256(&canonical(&content)), string));
        requests.push(raw(&recipient, content));
    }
    let count = requests.len();
    let ended = deliver_all(&cluster.api(0)?, requests, PATIENCE).await?;
    ensure!(
        ended
            .values()
            .all(|kind| kind.as_str_name() == "EVENT_KIND_DELIVERED")
    );
    let ledger = cluster.ledger()?;
    assert_eq!(ledger.len(), count, "decisions on {count} recipients");
    for entry in ledger {
        // A recipient that nobody wrote to, or one that got two messages, is not to be found.
        let Some((digest, string)) = expected.remove(&entry.recipient) else {
            panic!("nobody wrote this: {entry:?}");
        };
        assert_eq!(entry.outcome, Outcome::Accepted, "{string:?}");
        assert_eq!(entry.sha256, Some(digest), "{string:?} arrived otherwise");
    }
    cluster.finish().await
}

fn sha256(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|octet| format!("{octet:02x}")).collect()
}

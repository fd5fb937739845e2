//! A connection carries as many messages as it may, and no more; unused, it is kept for a while and closed with QUIT.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use api::v1::EventKind;
use mailsim::config::Tls;
use tests::{PATIENCE, Setup, deliver_all, eventually, letter, odd_provider};

use super::PROGRAM;

const MESSAGES: usize = 22;
const MOST: usize = 5;
const IDLE: Duration = Duration::from_secs(8);

#[tokio::test]
async fn it_carries_what_it_may_and_does_not_outstay_its_use() -> anyhow::Result<()> {
    let record = tempfile::tempdir()?;
    let setup = Setup::new(PROGRAM).configured(|config| {
        config.delivery.limits.connections = 1;
        config.delivery.limits.messages_per_connection = MOST as u32;
        config.delivery.idle_timeout = format!("{}s", IDLE.as_secs());
        config.mailsim.record = Some(record.path().to_owned());
        config.mailsim.providers = vec![odd_provider("once", Tls::Off, "")];
    });
    let cluster = setup.start_with(1).await?;
    let api = cluster.api(0)?;
    let letters = |count| (0..count).map(|number| letter(&format!("m{number}@once.example")));
    let ended = deliver_all(&api, letters(MESSAGES).collect(), PATIENCE).await?;
    assert!(ended.values().all(|kind| *kind == EventKind::Delivered));
    let mut sessions: BTreeMap<String, usize> = BTreeMap::new();
    for entry in cluster.ledger()? {
        *sessions.entry(entry.session).or_default() += 1;
    }
    // On a busy machine a connection may be given up before, because its slot is not proven.
    assert_eq!(sessions.values().max(), Some(&MOST), "{sessions:?}");
    let (last, _) = sessions.last_key_value().unwrap();
    assert!(!has_quit(record.path(), last)?, "it was not kept");
    eventually("the last connection is closed", PATIENCE, async || {
        Ok(has_quit(record.path(), last)?.then_some(()))
    })
    .await?;
    cluster.finish().await
}

/// Whether the client has ended `session`.
fn has_quit(record: &Path, session: &str) -> anyhow::Result<bool> {
    let said = std::fs::read(record.join(format!("once-{session}.in")))?;
    Ok(said.ends_with(b"QUIT\r\n"))
}

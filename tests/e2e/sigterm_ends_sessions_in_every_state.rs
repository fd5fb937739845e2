//! A worker is asked to end with 200 connections open, each provider silent at another state of the dialogue: it ends
//! within seconds, and what was past its final dot arrives once.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use mailsim::ledger::Outcome;
use tests::{PATIENCE, Setup, eventually, letter, provider, submit_all};
use tokio::time::Instant;

use super::PROGRAM;

/// Where each provider falls silent; the last one answers in the end.
const STATES: [(&str, &str); 8] = [
    ("connect", "hang"),
    ("greeting", "hang"),
    ("ehlo", "hang"),
    ("mail", "hang"),
    ("rcpt", "hang"),
    ("data", "hang"),
    ("rset", "hang"),
    ("dot", "wait 3s"),
];
/// Enough for each provider to get all its connections.
const MESSAGES: usize = 120;
/// A provider that says nothing before `MAIL` gets five of them.
const CONNECTIONS: u32 = 60;
const SESSIONS: usize = 200;
/// The wait after the dot and a drain.
const SECONDS: Duration = Duration::from_secs(12);

#[tokio::test]
async fn sigterm_ends_sessions_in_every_state() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).configured(|config| {
        let silent = |(state, what): &(&str, &str)| {
            let mut silent = provider(state);
            silent.manners = vec![format!("{state}: {what}")];
            silent
        };
        config.mailsim.providers = STATES.iter().map(silent).collect();
        config.delivery.limits.connections = CONNECTIONS;
    });
    let mut cluster = setup.start_with(1).await?;
    let api = cluster.api(0)?;
    for (state, _) in STATES {
        let letters =
            (0..MESSAGES).map(|number| letter(&format!("customer{number}@{state}.example")));
        submit_all(&api, letters, drop).await?;
    }
    let worker = cluster.take("worker-1")?;
    let pid = worker.pid().context("the worker has ended")?;
    eventually("all sessions are open", PATIENCE, async || {
        Ok((sessions(pid)? >= SESSIONS).then_some(()))
    })
    .await?;

    let asked = Instant::now();
    let status = worker.stop(PATIENCE).await?;
    println!("{SESSIONS} sessions ended in {:?}", asked.elapsed());
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(asked.elapsed() < SECONDS, "{:?}", asked.elapsed());

    cluster.stack()?.start_worker("worker-2")?;
    eventually("the rest arrives", PATIENCE, async || {
        let ledger = cluster.ledger()?;
        let taken = ledger.iter().filter(|entry| entry.provider == "dot");
        let recipients: HashSet<&str> = taken.map(|entry| entry.recipient.as_str()).collect();
        Ok((recipients.len() == MESSAGES).then_some(()))
    })
    .await?;
    let (dot, others) = cluster
        .ledger()?
        .into_iter()
        .partition::<Vec<_>, _>(|entry| entry.provider == "dot");
    assert_eq!(dot.len(), MESSAGES, "one decision for each message");
    assert!(dot.iter().all(|entry| entry.outcome == Outcome::Accepted));
    let arrived = others
        .iter()
        .filter(|entry| entry.outcome == Outcome::Accepted);
    let arrived: Vec<&str> = arrived.map(|entry| entry.recipient.as_str()).collect();
    let distinct: HashSet<&str> = arrived.iter().copied().collect();
    assert_eq!(distinct.len(), arrived.len(), "duplicates");
    cluster.finish().await
}

/// The connections to mail exchangers that process `pid` has open.
fn sessions(pid: u32) -> anyhow::Result<usize> {
    let mut own = HashSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).context("list descriptors")? {
        // One that was closed meanwhile is none.
        if let Ok(target) = fs::read_link(entry.context("list descriptors")?.path()) {
            own.insert(target.to_string_lossy().into_owned());
        }
    }
    let table = fs::read_to_string("/proc/net/tcp").context("read the connections")?;
    let open = table.lines().filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // The simulator listens on 127.0.1.n; 01 is ESTABLISHED.
        matches!(fields[..], [_, _, remote, "01", _, _, _, _, _, inode, ..]
            if remote.get(2..8) == Some("01007F") && own.contains(&format!("socket:[{inode}]")))
    });
    Ok(open.count())
}

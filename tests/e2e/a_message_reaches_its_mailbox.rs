//! From `postrider send` to the mailbox, and back to `postrider status` and `postrider events`.

use std::time::Duration;

use anyhow::Context as _;
use mailsim::ledger::Outcome;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tests::{PATIENCE, Setup, Verbs, eventually};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::PROGRAM;

#[tokio::test]
async fn a_message_in_parts_reaches_its_mailbox() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(1).await?;
    let verbs = cluster.verbs()?;
    let attachment = cluster.file("invoice.pdf");
    std::fs::write(&attachment, [7; 5000]).context("write the attachment")?;
    let sent = verbs
        .run(&[
            "send",
            "--from",
            "Acme Shop <orders@acme.example>",
            "--to",
            "ann@gmail.example",
            "--to",
            "bob@gmail.example",
            "--subject",
            "Your receipt",
            "--text",
            "Thank you.",
            "--attach",
            &attachment.to_string_lossy(),
            "--sender",
            "bounces@acme.example",
            "--tag",
            "order=4711",
            "-o",
            "json",
        ])
        .await?;
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let sent = sent.json()?;
    let message = sent["message_id"].as_str().context("no message id")?;

    let status = delivered(&verbs, message).await?;
    for (job, recipient) in status["jobs"]
        .as_array()
        .context("no jobs")?
        .iter()
        .zip(["ann", "bob"])
    {
        assert_eq!(job["recipient"], format!("{recipient}@gmail.example"));
        let kinds: Vec<&Value> = events(job).iter().map(|event| &event["kind"]).collect();
        assert_eq!(kinds, ["accepted", "delivered"], "{job}");
        let delivered = &events(job)[1];
        assert_eq!(delivered["reply"]["code"], 250);
        assert_eq!(delivered["tags"]["order"], "4711");
        assert_eq!(delivered["hop"]["mx_host"], "mx1.gmail.example");
        assert!(
            delivered["hop"]["tls"]
                .as_str()
                .is_some_and(|tls| tls.starts_with("TLS")),
            "{delivered}"
        );
    }
    let job_ids: Vec<&Value> = status["jobs"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|job| &job["job_id"])
        .collect();
    let sent_ids: Vec<&Value> = sent["recipients"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|to| &to["job_id"])
        .collect();
    assert_eq!(job_ids, sent_ids);

    let ledger = cluster.ledger()?;
    assert_eq!(ledger.len(), 2, "{ledger:?}");
    for entry in &ledger {
        assert_eq!(entry.outcome, Outcome::Accepted);
        assert_eq!(entry.sender, "bounces@acme.example");
        assert_eq!(
            entry.message_id.as_deref(),
            Some(&*format!("{message}@acme.example"))
        );
        assert!(entry.tls.is_some(), "{entry:?}");
        assert!(entry.size > Some(5000 * 4 / 3), "{entry:?}");
    }
    cluster.finish().await
}

#[tokio::test]
async fn a_raw_message_arrives_octet_by_octet_as_it_was_written() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(1).await?;
    let raw = "From: Ann <ann@acme.example>\r\nTo: bob@gmail.example\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\
               Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <my.own@acme.example>\r\n\r\n\
               .a line that begins with a dot\r\n..and one with two\r\n";
    let file = cluster.file("message.eml");
    std::fs::write(&file, raw).context("write the message")?;
    let verbs = cluster.verbs()?;
    let sent = verbs
        .run(&[
            "send",
            "--raw",
            &file.to_string_lossy(),
            "--to",
            "bob@gmail.example",
            "-o",
            "json",
        ])
        .await?
        .json()?;
    delivered(
        &verbs,
        sent["message_id"].as_str().context("no message id")?,
    )
    .await?;
    let ledger = cluster.ledger()?;
    let [entry] = &ledger[..] else {
        panic!("{ledger:?}")
    };
    assert_eq!(entry.sender, "ann@acme.example");
    assert_eq!(entry.message_id.as_deref(), Some("my.own@acme.example"));
    assert_eq!(entry.sha256, Some(sha256(raw.as_bytes())));
    cluster.finish().await
}

#[tokio::test]
async fn whoever_watches_sees_it_happen() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(1).await?;
    let verbs = cluster.verbs()?;
    let mut watching = verbs
        .command(&["events", "--since", "2020-01-01T00:00:00Z", "-o", "json"])
        .spawn()
        .context("run events")?;
    let printed = watching.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(printed).lines();
    let args = [
        "send",
        "--from",
        "a@acme.example",
        "--to",
        "b@gmail.example",
        "--text",
        "x",
        "-o",
        "json",
    ];
    let sent = verbs.run(&args).await?.json()?;
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        let line = tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .context("wait for an event")?;
        let event: Value = serde_json::from_str(&line?.context("events ended")?)?;
        assert_eq!(event["message_id"], sent["message_id"]);
        kinds.push(event["kind"].clone());
    }
    assert_eq!(kinds, ["accepted", "delivered"]);
    watching.kill().await.context("stop events")?;
    cluster.finish().await
}

/// The status of a message once every recipient's copy is delivered.
async fn delivered(verbs: &Verbs, message: &str) -> anyhow::Result<Value> {
    eventually(
        "everything is delivered",
        Duration::from_secs(30),
        async || {
            let printed = verbs.run(&["status", message, "-o", "json"]).await?;
            if printed.code != Some(0) {
                return Ok(None); // Its first event is on the way.
            }
            let status = printed.json()?;
            let jobs = status["jobs"].as_array().context("no jobs")?;
            Ok(jobs
                .iter()
                .all(|job| job["state"] == "delivered")
                .then_some(status))
        },
    )
    .await
}

fn events(job: &Value) -> &[Value] {
    job["events"].as_array().map_or(&[], Vec::as_slice)
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

//! A message too large for a job goes through the object store, one that has to wait waits outside of its job, and both
//! arrive as they were written.

use anyhow::Context as _;
use api::v1::submit_request::Content;
use api::v1::{Attachment, SubmitRequest};
use rand::RngExt as _;
use sha2::{Digest as _, Sha256};
use tests::{Books, PATIENCE, Setup, eventually, letter, letter_to};

use super::PROGRAM;
use super::broker;

const SIZE: usize = 2 << 20;

#[tokio::test]
async fn a_large_raw_message_arrives_octet_by_octet() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(1).await?;
    let api = cluster.api(0)?;
    let raw = message_of(SIZE);
    let sent = api
        .submit(SubmitRequest {
            content: Some(Content::Raw(raw.clone().into())),
            ..letter_to(&["ann@gmail.example", "bob@slow.example"])
        })
        .await?;
    let mut books = Books::default();
    books.accepted(sent);
    books
        .read_until_ended(2, &mut api.events().await?, PATIENCE)
        .await?;
    let ledger = cluster.ledger()?;
    assert_eq!(ledger.len(), 2, "{ledger:?}");
    for entry in ledger {
        assert_eq!(entry.size, Some(raw.len() as u64));
        assert_eq!(entry.sha256, Some(sha256(&raw)));
    }
    let occupied = broker::occupied(cluster.nats_url()?).await?;
    assert!(
        occupied.contains_key("OBJ_bodies"),
        "not kept in the object store: {occupied:?}"
    );
    cluster.finish().await
}

#[tokio::test]
async fn a_large_attachment_is_encoded_and_arrives() -> anyhow::Result<()> {
    let cluster = Setup::new(PROGRAM).start_with(1).await?;
    let api = cluster.api(0)?;
    let mut request = letter("ann@gmail.example");
    let Some(Content::Parts(parts)) = &mut request.content else {
        panic!("a letter has parts");
    };
    parts.attachments.push(Attachment {
        filename: "photo.jpg".into(),
        content_type: "image/jpeg".into(),
        content: vec![0xff; SIZE].into(),
        content_id: String::new(),
    });
    api.submit(request).await?;
    Books::default()
        .read_until_ended(1, &mut api.events().await?, PATIENCE)
        .await?;
    let ledger = cluster.ledger()?;
    let entry = ledger.first().context("nothing arrived")?;
    // Base64 in lines of 76 characters, and a header section.
    let encoded = (SIZE * 4 / 3 * 78 / 76) as u64;
    assert!(
        (encoded..encoded + 4096).contains(&entry.size.unwrap_or(0)),
        "{entry:?}"
    );
    cluster.finish().await
}

#[tokio::test]
async fn a_body_waits_outside_of_its_job_and_leaves_nothing_behind() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM)
        .configured(|config| config.delivery.retry_delays = ["5s", "1s"].map(String::from).into());
    let cluster = setup.start_with(1).await?;
    let api = cluster.api(0)?;
    let raw = message_of(10 << 10);
    api.submit(SubmitRequest {
        content: Some(Content::Raw(raw.clone().into())),
        ..letter("greylist@gmail.example")
    })
    .await?;
    let url = cluster.nats_url()?;
    let (job, body) = eventually("the job waits", PATIENCE, async || {
        let streams = broker::streams(url).await?;
        let octets = |name: &str| streams.get(name).map_or(0, |info| info.state.bytes);
        let job = octets("DT-default-h0") + octets("DT-default-h1");
        Ok((job > 0).then_some((job, octets("BODIES"))))
    })
    .await?;
    assert!(job < 2048 && body > 10 << 10, "job {job}, body {body}");

    Books::default()
        .read_until_ended(1, &mut api.events().await?, PATIENCE)
        .await?;
    let taken = cluster.ledger()?.pop().context("nothing arrived")?;
    assert_eq!(taken.sha256, Some(sha256(&raw)));
    eventually("nothing is left behind", PATIENCE, async || {
        let occupied = broker::occupied(url).await?;
        Ok((!occupied.contains_key("BODIES")).then_some(()))
    })
    .await?;
    cluster.finish().await
}

/// In canonical form, so that nothing has to be changed, with a body that no packing makes much smaller.
fn message_of(size: usize) -> Vec<u8> {
    let header = "From: ann@acme.example\r\nTo: undisclosed-recipients:;\r\nSubject: large\r\n\
                  Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <large@acme.example>\r\n\r\n";
    let mut random = rand::rng();
    let mut line = || -> String {
        let letters = (0..70).map(|_| char::from(random.random_range(b'a'..=b'z')));
        letters.chain("\r\n".chars()).collect()
    };
    let lines = (0..size / 70).map(|_| line());
    header
        .bytes()
        .chain(lines.flat_map(String::into_bytes))
        .collect()
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

//! The ready streams are at their limit, the nats-server is at its own, or its disk is full: ingest refuses and says what
//! is full and what helps, what was accepted before is delivered once, and with room again everything goes on.

use std::time::Duration;

use api::v1::{Class, SubmitRequest};
use mailsim::ledger::Outcome;
use model::{ByteSize, Clock as _, SystemClock};
use tests::{
    Api, Books, Cluster, Disk, Order, PATIENCE, Setup, eventually, flush_all, keyed, messages,
    submit_stubbornly,
};
use tokio::time::Instant;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::PROGRAM;
use super::broker;
use super::drained::drained;
use super::under_fire::{balanced, read_stubbornly};

const MESSAGES: usize = 1200;
const CONNECTIONS: u32 = 6;
/// Four streams of half a MiB, each of which takes some 400 letters.
const READY_BYTES: &str = "2MiB";
/// What a nats-server stores at most that is to be filled.
const STORE: u64 = 128 << 20;
/// A disk that is to be filled.
const DISK: u64 = 512 << 20;
const ACK_WAIT: Duration = Duration::from_secs(5);
/// Its shortest is twice [`ACK_WAIT`].
const RETRY: &str = "13s";
const RATE: &str = "150/s";
/// Longer than a worker takes to renew the markers of what it cannot settle.
const RENEWAL: Duration = Duration::from_secs(6);
/// Longer than ingest takes to hear how the nats-server is.
const ASKED_EVERY: Duration = Duration::from_secs(6);
/// A worker that has something to send has sent something by then, at its [`RATE`].
const QUIET: Duration = Duration::from_secs(10);
/// A call is given up that is not answered by then.
const CALL: Duration = Duration::from_secs(1);
/// Until a message is sent that is to be sent later.
const LATER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_full_stream_loses_nothing() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM)
        .allowing("message not accepted")
        .configured(|config| {
            config.nats.lanes = 1;
            config.nats.ready_bytes = READY_BYTES.into();
        });
    let mut cluster = setup.start_with(0).await?;
    let (api, count) = (cluster.api(0)?, messages(MESSAGES));
    let mut books = Books::default();
    let refused = submit_until_refused(&api, &mut books).await?;
    let accepted = books.accepted_count();
    println!("{accepted} accepted");
    refuses(&refused, "QUEUE_FULL", "nats.ready_bytes");
    let stored = broker::streams(cluster.nats_url()?).await?;
    let ready = stored.iter().filter(|(name, _)| name.starts_with("T-"));
    let ready: u64 = ready.map(|(_, info)| info.state.messages).sum();
    assert_eq!(ready, accepted as u64, "refused, and queued all the same");

    // Other streams have room.
    let bulk = SubmitRequest {
        class: Class::Bulk.into(),
        idempotency_key: "bulk".into(),
        ..letter(accepted)
    };
    books.accepted(api.submit(bulk).await?);

    for worker in ["worker-1", "worker-2"] {
        cluster.stack()?.start_worker(worker)?;
    }
    submit_up_to(&api, &mut books, count).await?;
    read_stubbornly(&mut books, count, &api).await?;
    drained(cluster.nats_url()?).await?;
    let duplicates = balanced(&books, &cluster, count)?;
    assert!(duplicates.is_empty(), "{duplicates:#?}");
    cluster.finish().await
}

#[tokio::test]
async fn a_full_store_loses_nothing() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).storing_at_most(ByteSize(STORE));
    let mut cluster = unhurried(setup).start_with(1).await?;
    let (api, count) = (cluster.api(0)?, messages(MESSAGES));
    let mut books = Books::default();
    submit_up_to(&api, &mut books, count / 2).await?;
    broker::fill(cluster.nats_url()?).await?;
    refuses(
        &submit_until_refused(&api, &mut books).await?,
        "QUEUE_FULL",
        "max_file_store",
    );
    println!("full, {} arrived", cluster.ledger()?.len());

    // No event and no schedule can be stored. What can be sent is sent, and its worker dies unsettled.
    everything_in_hand_arrives(&cluster, &books).await?;
    flush_all(&cluster.stack()?.redis().url).await?;
    tokio::time::sleep(RENEWAL).await;
    cluster.kill("worker-1").await?;
    cluster.stack()?.start_worker("worker-2")?;
    tokio::time::sleep(2 * ACK_WAIT).await;
    refuses(
        &submit_until_refused(&api, &mut books).await?,
        "QUEUE_FULL",
        "max_file_store",
    );

    let server = &mut cluster.stack()?.nats_mut()[0];
    server.set_max_file(ByteSize(4 * STORE));
    // A server that is killed forgets acknowledgements, and Redis has just forgotten what would make up for that.
    server.restart().await?;
    go_on(&cluster, &mut books, count).await?;
    end(cluster, &books, count).await
}

/// Ingest hears some seconds later that a nats-server is full. What is to be sent later and is refused before that may be stored all
/// the same, with others in whose middle storage filled up.
#[tokio::test]
async fn a_full_store_leaves_in_doubt_what_is_to_be_sent_later() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).storing_at_most(ByteSize(STORE));
    let cluster = unhurried(setup).start_with(0).await?;
    let (api, url) = (cluster.api(0)?, cluster.nats_url()?);
    let later = SystemClock.now().checked_add(LATER)?;
    let letter_for_later = || SubmitRequest {
        send_at: Some(api::timestamp_to_wire(later)),
        ..tests::letter("customer@gmail.example")
    };
    eventually("a refusal comes in time", PATIENCE, async || {
        broker::make_room(url, u64::from(u32::MAX)).await.ok();
        tokio::time::sleep(ASKED_EVERY).await;
        if api.submit(letter_for_later()).await.is_err() {
            // It has not heard yet that there is room.
            return Ok(None);
        }
        broker::fill(url).await?;
        match api.submit(letter_for_later()).await {
            // Ingest knew by then.
            Err(refused) if refused.message().contains("max_file_store") => Ok(None),
            Err(refused) => Ok(Some(refused)),
            // Something made room meanwhile.
            Ok(_) => Ok(None),
        }
    })
    .await
    .map(|refused| refuses(&refused, "QUEUE_UNACKNOWLEDGED", "idempotency key"))?;
    broker::make_room(url, u64::from(u32::MAX)).await?;
    cluster.finish().await
}

#[tokio::test]
async fn a_full_disk_loses_nothing() -> anyhow::Result<()> {
    if !Disk::is_possible() {
        println!("skipped: a disk to be filled is mounted, which needs root");
        return Ok(());
    }
    let disk = Disk::new(DISK, Order::Any)?;
    let setup = Setup::new(PROGRAM).storing_in(vec![disk.store()]);
    let mut cluster = unhurried(setup).start_with(1).await?;
    let (api, count) = (cluster.api(0)?, messages(MESSAGES));
    let mut books = Books::default();
    submit_up_to(&api, &mut books, count / 2).await?;
    disk.fill()?;
    println!("full, {} arrived", cluster.ledger()?.len());
    cannot_write(&disk, &api, &mut books).await?;
    println!("{} arrived", cluster.ledger()?.len());

    disk.make_room()?;
    // Room alone does not help a server that has failed to write.
    tokio::time::sleep(ASKED_EVERY).await;
    refuses(
        &submit_until_refused(&api, &mut books).await?,
        "QUEUE_NOT_WRITABLE",
        "restart",
    );
    cluster.stack()?.nats_mut()[0].restart().await?;
    go_on(&cluster, &mut books, count).await?;
    eventually("every job is settled", PATIENCE, async || {
        let unsettled = broker::unsettled(cluster.nats_url()?).await?;
        Ok((unsettled == 0).then_some(()))
    })
    .await?;
    // What the nats-server settled and could not remove, the next start of a worker does.
    cluster.stack()?.start_worker("worker-2")?;
    cluster.logged("worker-2", "delivery working").await?;
    end(cluster, &books, count).await
}

/// A cluster that is still sending when its queue is full.
fn unhurried(setup: Setup) -> Setup {
    setup.saying_anything().configured(|config| {
        config.nats.ack_wait = format!("{}s", ACK_WAIT.as_secs());
        config.delivery.retry_delays = vec![RETRY.into()];
        config.delivery.limits.connections = CONNECTIONS;
        config.delivery.limits.rate = RATE.into();
        // Nothing is parked, to come back minutes later.
        config.delivery.window = 50_000;
    })
}

/// Waits until everything accepted has arrived that its provider takes at the first attempt, or, where that is more than the
/// worker's window holds, until no more comes.
async fn everything_in_hand_arrives(cluster: &Cluster, books: &Books) -> anyhow::Result<()> {
    let taken = (0..books.accepted_count())
        .filter(|number| !is_greylisted(*number))
        .count();
    let before = arrived(cluster)?;
    let (mut known, mut since) = (before, Instant::now());
    eventually(
        "mail arrives though the queue is full",
        PATIENCE * 3,
        async || {
            let arrived = arrived(cluster)?;
            if arrived != known {
                (known, since) = (arrived, Instant::now());
            }
            let is_over = arrived > before && since.elapsed() > QUIET;
            Ok((arrived >= taken || is_over).then_some(()))
        },
    )
    .await?;
    println!("{known} arrived of {taken}");
    Ok(())
}

/// How many letters stand in mailboxes.
fn arrived(cluster: &Cluster) -> anyhow::Result<usize> {
    let entries = cluster.ledger()?.into_iter();
    let accepted = entries.filter(|entry| entry.outcome == Outcome::Accepted);
    Ok(accepted.count())
}

/// Waits until a call is refused because the nats-server cannot write. Those before it wait for an acknowledgement, or find
/// the room that jobs left which were settled.
async fn cannot_write(disk: &Disk, api: &Api, books: &mut Books) -> anyhow::Result<()> {
    eventually("the refusal names the disk", PATIENCE, async || {
        disk.fill()?;
        let next = letter(books.accepted_count());
        match tokio::time::timeout(CALL, api.submit(next)).await {
            Ok(Err(refused)) if refused.message().contains("disk") => {
                refuses(&refused, "QUEUE_NOT_WRITABLE", "restart the nats-server");
                return Ok(Some(()));
            }
            Ok(Ok(response)) => books.accepted(response),
            _ => {}
        }
        Ok(None)
    })
    .await
}

/// The rest of a run whose queue has room again.
async fn go_on(cluster: &Cluster, books: &mut Books, count: usize) -> anyhow::Result<()> {
    let api = cluster.api(0)?;
    submit_up_to(&api, books, count).await?;
    read_stubbornly(books, count, &api).await
}

async fn end(cluster: Cluster, books: &Books, count: usize) -> anyhow::Result<()> {
    drained(cluster.nats_url()?).await?;
    let duplicates = balanced(books, &cluster, count)?;
    assert!(duplicates.len() <= CONNECTIONS as usize, "{duplicates:#?}");
    cluster.finish().await
}

/// Letter number `number`, always under the same key.
fn letter(number: usize) -> SubmitRequest {
    let provider = if is_greylisted(number) {
        "outlook"
    } else {
        "gmail"
    };
    let to = format!("customer{number}@{provider}.example");
    keyed(&to, &format!("letter/{number}"))
}

/// Whether a letter's provider defers it once.
fn is_greylisted(number: usize) -> bool {
    number.is_multiple_of(4)
}

/// Submits the next letters, one after the other, until one is refused.
async fn submit_until_refused(api: &Api, books: &mut Books) -> anyhow::Result<Status> {
    eventually("a letter is refused", PATIENCE, async || {
        loop {
            match api.submit(letter(books.accepted_count())).await {
                Ok(response) => books.accepted(response),
                Err(refused) => return Ok(Some(refused)),
            }
        }
    })
    .await
}

/// Submits what is missing of the first `count` letters, however often each is refused.
async fn submit_up_to(api: &Api, books: &mut Books, count: usize) -> anyhow::Result<()> {
    let letters = (books.accepted_count()..count).map(letter);
    submit_stubbornly(api, letters, |answer| books.accepted(answer.response)).await
}

/// Whether an answer has this reason, says when to come back and names `what`.
fn refuses(refused: &Status, reason: &str, what: &str) {
    let details = refused.get_error_details();
    let told = details.error_info().map(|info| info.reason.as_str());
    assert_eq!(told, Some(reason), "{refused:?}");
    assert!(refused.message().contains(what), "{refused:?}");
    assert!(details.retry_info().is_some(), "{refused:?}");
}

//! Redis is killed, stopped for a while, and made to forget everything once a second, while two workers send to a provider with a
//! limit: the limit holds to within 2 %, sending goes on at 70 % of it or more, and nothing is lost.

use std::time::Duration;

use jiff::Timestamp;
use model::{Clock as _, SystemClock};
use rustix::process::Signal;
use tests::{Books, Cluster, Setup, flush_all, letter, submit_all};

use super::PROGRAM;

const MESSAGES: usize = 4600;
/// Sent before Redis is struck: by then each worker knows of the other. In its first 12 s a Redis may be one that was wiped.
const BEFORE: usize = 1500;
const RATE: f64 = 100.0;
const CONNECTIONS: u32 = 10;
/// How much a limit may be exceeded.
const TOLERANCE: f64 = 1.02;
/// How much of it must be used from when Redis is struck, over [`MEASURED`]: through the fault and its end, and while
/// both workers have more than they may send. Afterwards one of them is done first, and the other keeps to its share.
const USED: f64 = 0.7;
/// Seconds.
const MEASURED: f64 = 20.0;
/// Windows over which the limit must hold.
const WINDOWS: [u64; 3] = [1, 5, 10];
/// By how much, in seconds, the time from the token to the arrival may differ between messages on a busy machine.
const JITTER: f64 = 0.1;
/// Windows begin so many seconds after the first arrival. Before, tokens wait for connections that are being made, and
/// nothing has befallen Redis.
const STARTING: f64 = 2.0;
const PATIENCE: Duration = Duration::from_secs(240);

#[derive(Clone, Copy)]
enum Fault {
    /// Killed, and never seen again.
    Dies,
    /// Stopped for longer than any of its keys is needed, and then well again.
    Stops,
    /// Made to forget everything, every second.
    Forgets,
}

#[tokio::test]
async fn limits_hold_when_redis_dies() -> anyhow::Result<()> {
    hold_through(Fault::Dies).await
}

#[tokio::test]
async fn limits_hold_when_redis_stops() -> anyhow::Result<()> {
    hold_through(Fault::Stops).await
}

#[tokio::test]
async fn limits_hold_when_redis_forgets() -> anyhow::Result<()> {
    hold_through(Fault::Forgets).await
}

async fn hold_through(fault: Fault) -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM)
        .configured(|config| {
            // A site keeps a fortieth, so nothing is parked: what is measured is the limit and not how soon jobs are back.
            config.delivery.window = 100_000;
            config.delivery.limits.rate = format!("{RATE}/s");
            config.delivery.limits.connections = CONNECTIONS;
            config.delivery.limits.messages_per_connection = 50;
        })
        .saying_anything();
    let mut cluster = setup.start_with(2).await?;
    let api = cluster.api(0)?;
    let mut events = api.events().await?;
    let mut books = Books::default();
    let letters = (0..MESSAGES).map(|number| letter(&format!("customer@d{number}.gmail.example")));
    submit_all(&api, letters, |answer| books.accepted(answer)).await?;
    books
        .read_until_ended(BEFORE, &mut events, PATIENCE)
        .await?;

    let began = SystemClock.now();
    let end = books.read_until_ended(MESSAGES, &mut events, PATIENCE);
    tokio::select! {
        ended = end => ended?,
        struck = strike(&mut cluster, fault) => { let never: anyhow::Result<()> = struck; never? }
    }
    let ledger = cluster.ledger()?;
    let mut times: Vec<f64> = ledger
        .iter()
        .map(|entry| {
            entry
                .time
                .duration_since(Timestamp::UNIX_EPOCH)
                .as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let since = began.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64();
    let arrived = times
        .iter()
        .filter(|time| (since..since + MEASURED).contains(*time))
        .count();
    let used = arrived as f64 / MEASURED / RATE;
    println!("{:.0} % of the limit used", used * 100.0);
    let started = times.partition_point(|time| time - times[0] < STARTING);
    check_limit(&times[started..]);
    assert!(used >= USED, "{used}");

    let reconciled = books.reconcile(ledger);
    assert!(reconciled.faults.is_empty(), "{:#?}", reconciled.faults);
    assert!(
        reconciled.duplicates.is_empty(),
        "{:#?}",
        reconciled.duplicates
    );
    cluster.finish().await
}

/// Does to Redis what it has to suffer, until this future is dropped.
async fn strike(cluster: &mut Cluster, fault: Fault) -> anyhow::Result<()> {
    let seconds = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
    match fault {
        Fault::Dies => cluster.stack()?.redis().child().signal(Signal::KILL)?,
        Fault::Stops => {
            cluster.stack()?.redis().child().signal(Signal::STOP)?;
            seconds(14).await;
            cluster.stack()?.redis().child().signal(Signal::CONT)?;
        }
        Fault::Forgets => loop {
            flush_all(&cluster.stack()?.redis().url).await?;
            seconds(1).await;
        },
    }
    std::future::pending().await
}

/// In no window has more arrived than the limit allows: a burst of one second's worth, and the rate.
fn check_limit(times: &[f64]) {
    for window in WINDOWS {
        let window = window as f64;
        let allowed = (RATE + RATE * (window + JITTER)) * TOLERANCE;
        let mut first = 0;
        for (last, time) in times.iter().enumerate() {
            while time - times[first] > window {
                first += 1;
            }
            let count = last - first + 1;
            assert!(
                count as f64 <= allowed,
                "{count} in {window} s, {allowed} allowed"
            );
        }
    }
}

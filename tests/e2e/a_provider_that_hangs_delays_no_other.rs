//! Providers fall silent in every state of the dialogue, one defers everything and one turns every connection away, all in one
//! lane: mail to others goes on at its usual pace, and the one that turns away is left alone.

use anyhow::ensure;
use mailsim::config::Policy;
use tests::{Setup, bulk, provider, submit_all};
use tokio::time::Instant;

use super::PROGRAM;
use super::pace::Pair;

/// Where a provider falls silent.
const STATES: [&str; 10] = [
    "connect", "greeting", "ehlo", "starttls", "tls", "mail", "rcpt", "data", "content", "dot",
];
/// For each provider: enough for all its connections, and for some to wait.
const MESSAGES: usize = 300;
/// Nobody waits for a silent provider to be noticed, which takes five seconds.
const AT_ONCE: f64 = 3000.0;
/// Connections that the one that turns away may see before it is left alone, and afterwards one in so many seconds: five try at
/// once, then one after 1, 2, 4, 4 s and so on. Dialled for every job, it sees some forty, by all connections at once some twenty.
const TURNED_AWAY: u64 = 8;
const SECONDS_EACH: u64 = 3;
#[tokio::test]
async fn a_provider_that_hangs_delays_no_other() -> anyhow::Result<()> {
    let setup = Setup::new(PROGRAM).tenant("globex").configured(|config| {
        config.nats.lanes = 1;
        let silent = STATES.map(|state| {
            let mut silent = provider(state);
            silent.manners = vec![format!("{state}: hang")];
            silent
        });
        let mut defers = provider("defers");
        defers.policy = Policy::Defer;
        let mut closed = provider("closed");
        closed.manners = vec!["greeting: close 421 4.3.2 come back later".into()];
        config.mailsim.providers = silent.into();
        let others = [defers, closed, provider("free")];
        config.mailsim.providers.extend(others);
    });
    let pair = Pair::start(setup).await?;
    let (cluster, began) = (&pair.troubled, Instant::now());
    let acme = cluster.api(0)?;
    for name in STATES.into_iter().chain(["defers", "closed"]) {
        let letters = (0..MESSAGES).map(|number| bulk(&format!("customer{number}@{name}.example")));
        submit_all(&acme, letters, drop).await?;
    }
    let mut waits = pair.time("soon").await?;
    cluster
        .logged("worker-1", "site is slow, jobs parked")
        .await?;
    waits.extend(pair.time("later").await?);
    let worst = waits.troubled.iter().copied().fold(0.0, f64::max);
    pair.ensure_undelayed("while others hang", waits)?;
    ensure!(worst <= AT_ONCE, "{worst:.1} ms");
    let dialled = cluster.log("worker-1")?;
    let dialled = dialled
        .lines()
        .filter(|line| line.contains("no connection"));
    let dialled = dialled
        .filter(|line| line.contains("closed.example"))
        .count() as u64;
    let seconds = began.elapsed().as_secs();
    println!("{dialled} connections were turned away within {seconds} s");
    let most = TURNED_AWAY + seconds / SECONDS_EACH;
    ensure!((1..=most).contains(&dialled), "{dialled}, {most} at most");
    pair.finish().await
}

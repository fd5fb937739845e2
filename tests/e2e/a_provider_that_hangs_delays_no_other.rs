//! Providers fall silent in every state of the dialogue, one defers everything and one turns every connection away, all in one
//! lane: mail to others goes on at its usual pace, and the one that turns away is left alone.

use anyhow::{Context as _, ensure};
use mailsim::config::Policy;
use tests::meter::median;
use tests::{Cluster, Setup, bulk, provider, submit_all};
use tokio::time::Instant;

use super::{PROGRAM, pace};

/// Where a provider falls silent.
const STATES: [&str; 10] = [
    "connect", "greeting", "ehlo", "starttls", "tls", "mail", "rcpt", "data", "content", "dot",
];
/// For each provider: enough for all its connections, and for some to wait.
const MESSAGES: usize = 300;
const RUNS: usize = 3;
/// Nobody waits for a silent provider to be noticed, which takes five seconds.
const AT_ONCE: f64 = 3000.0;
/// Connections that the one that turns away may see before it is left alone, and afterwards one in so many seconds: five try at
/// once, then one after 1, 2, 4, 4 s and so on. Dialled for every job, it sees some forty, by all connections at once some twenty.
const TURNED_AWAY: u64 = 8;
const SECONDS_EACH: u64 = 3;
/// What a machine that does other things adds to any message, in milliseconds: what is looked for is seconds.
const NOISE: f64 = 1000.0;

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
    let mut cluster = setup.start_with(1).await?;
    to_others(&cluster, "warm", 1).await?;
    let usual = to_others(&cluster, "usual", RUNS).await?;
    let acme = cluster.api(0)?;
    let began = Instant::now();
    for name in STATES.into_iter().chain(["defers", "closed"]) {
        let letters = (0..MESSAGES).map(|number| bulk(&format!("customer{number}@{name}.example")));
        submit_all(&acme, letters, drop).await?;
    }
    let mut meanwhile = to_others(&cluster, "soon", RUNS).await?;
    cluster
        .logged("worker-1", "site is slow, jobs parked")
        .await?;
    meanwhile.extend(to_others(&cluster, "later", RUNS).await?);
    let worst = meanwhile.iter().copied().fold(0.0, f64::max);
    let usual = median(usual).context("nothing was measured")?;
    let meanwhile = median(meanwhile).context("nothing was measured")?;
    println!("p99 {usual:.1} ms, and {meanwhile:.1} ms while others hang");
    ensure!(
        meanwhile <= usual * 1.5 + NOISE,
        "{meanwhile:.1} ms against {usual:.1}"
    );
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
    cluster.take("worker-1")?.kill().await?;
    cluster.finish().await
}

async fn to_others(cluster: &Cluster, name: &str, runs: usize) -> anyhow::Result<Vec<f64>> {
    pace::p99_to_free(cluster, 1, name, runs, bulk).await
}

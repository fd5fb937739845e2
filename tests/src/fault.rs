//! When faults strike: at random, but again at the same moments under the same seed.

use std::str::FromStr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// How many messages a test of faults sends: `POSTRIDER_TEST_MESSAGES`, or `small` where that is not set.
pub fn messages(small: usize) -> usize {
    number("POSTRIDER_TEST_MESSAGES").unwrap_or(small)
}

/// How long a stopped process stands still: `POSTRIDER_TEST_STANDSTILL` seconds, or `short` where that is not set.
pub fn standstill(short: Duration) -> Duration {
    number("POSTRIDER_TEST_STANDSTILL").map_or(short, Duration::from_secs)
}

/// How long what was accepted is waited for: `POSTRIDER_TEST_PATIENCE` seconds, or `long` where that is not set.
pub fn patience(long: Duration) -> Duration {
    number("POSTRIDER_TEST_PATIENCE").map_or(long, Duration::from_secs)
}

/// `count` different moments of a run, each as the number of messages that are done by then, in order. The run is cut
/// into `count` equal parts; a fault strikes somewhere in the first three quarters of each. Prints the seed;
/// `POSTRIDER_TEST_SEED` repeats a run.
pub fn moments(count: usize, messages: usize) -> Vec<usize> {
    let seed = number("POSTRIDER_TEST_SEED").unwrap_or_else(rand::random::<u32>);
    println!("POSTRIDER_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed.into());
    let part = messages / count;
    (0..count)
        .map(|index| index * part + random.random_range(part / 20..part * 3 / 4))
        .collect()
}

/// The number that an environment variable holds; none where it is not set.
pub fn number<T: FromStr>(variable: &str) -> Option<T> {
    runtime::environment(variable)?.parse().ok()
}

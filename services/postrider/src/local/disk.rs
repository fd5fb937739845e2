//! How much of its disk a nats-server of ours may use, and what that leaves for the streams' limits.

use std::path::Path;

use anyhow::{Context as _, bail};
use model::ByteSize;

/// Below it nothing useful can be stored.
const LEAST: u64 = 64 << 20;

/// Three quarters of what is free on the disk of `dir`, and of what `dir` holds already.
pub(super) fn max_file(dir: &Path) -> anyhow::Result<ByteSize> {
    let disk = rustix::fs::statvfs(dir)
        .with_context(|| format!("ask how much is free below {}", dir.display()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let room = free.saturating_add(occupied(dir)) / 4 * 3;
    if room < LEAST {
        bail!(
            "{} has room for {} MiB, and a nats-server needs {}: free some, or choose a directory on a larger disk",
            dir.display(),
            room >> 20,
            LEAST >> 20
        );
    }
    Ok(ByteSize(room))
}

/// Limits of ready jobs and of events in the same proportion, which together take at most half of `max_file`.
pub(super) fn fit(ready: ByteSize, events: ByteSize, max_file: ByteSize) -> (ByteSize, ByteSize) {
    let (half, wanted) = (max_file.0 / 2, ready.0.saturating_add(events.0));
    if wanted <= half {
        return (ready, events);
    }
    let scaled = |size: ByteSize| {
        let share = u128::from(size.0) * u128::from(half) / u128::from(wanted);
        ByteSize(u64::try_from(share).unwrap_or(half))
    };
    let fitted = (scaled(ready), scaled(events));
    tracing::warn!(
        ready_bytes = %fitted.0,
        event_bytes = %fitted.1,
        "disk is small, nats.ready_bytes and nats.event_bytes are lowered"
    );
    fitted
}

/// The octets of all files below `dir`; what cannot be read counts as nothing.
fn occupied(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => occupied(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_into_half_of_the_storage_stays() {
        let (ready, events) = (ByteSize(400), ByteSize(100));
        assert_eq!(fit(ready, events, ByteSize(1000)), (ready, events));
    }

    #[test]
    fn what_does_not_fit_shrinks_in_proportion() {
        let fitted = fit(ByteSize(800), ByteSize(200), ByteSize(1000));
        assert_eq!(fitted, (ByteSize(400), ByteSize(100)));
    }
}

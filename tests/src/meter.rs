//! What processes cost: CPU time and memory, of whole process trees, as the kernel counts them.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;

/// Clock ticks of a second in /proc, on every Linux.
const TICKS: f64 = 100.0;

/// One line of /proc/<pid>/stat.
#[derive(Debug, Clone, Copy)]
struct Stat {
    parent: u32,
    /// Ticks of the process itself.
    own: u64,
    /// Ticks of the children it has waited for, and of theirs.
    waited: u64,
}

/// CPU time that processes and all below them have used, with those that ended and were waited for.
pub fn cpu(roots: &[u32]) -> anyhow::Result<Duration> {
    let all = processes()?;
    let ticks: u64 = tree(&all, roots)
        .filter_map(|pid| all.get(&pid))
        .map(|stat| stat.own + stat.waited)
        .sum();
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS))
}

/// CPU time of the children this process has waited for.
pub fn cpu_of_ended() -> anyhow::Result<Duration> {
    Ok(Duration::from_secs_f64(this()?.waited as f64 / TICKS))
}

/// CPU time of this process alone.
pub fn cpu_of_this() -> anyhow::Result<Duration> {
    Ok(Duration::from_secs_f64(this()?.own as f64 / TICKS))
}

fn this() -> anyhow::Result<Stat> {
    let line = std::fs::read_to_string("/proc/self/stat").context("read /proc/self/stat")?;
    parse(&line).context("read the fields of /proc/self/stat")
}

/// Memory of processes and all below them in MB; what several share is shared out among them (Pss).
pub fn memory_mb(roots: &[u32]) -> anyhow::Result<f64> {
    let all = processes()?;
    let kilobytes: f64 = tree(&all, roots).map(|pid| pss(pid).unwrap_or(0.0)).sum();
    Ok(kilobytes / 1000.0)
}

/// The middle of `values`, or the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some(f64::midpoint(values[low], values[high]))
}

/// The value below which `part` of them lie.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let index = (part * values.len() as f64).ceil() as usize;
    values
        .get(index.saturating_sub(1).min(last))
        .copied()
        .unwrap_or_default()
}

/// The processes of `roots` and all below them.
fn tree(all: &HashMap<u32, Stat>, roots: &[u32]) -> impl Iterator<Item = u32> {
    let mut found: Vec<u32> = roots.to_vec();
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        let children = all.iter().filter(|(_, stat)| stat.parent == parent);
        found.extend(children.map(|(pid, _)| *pid));
        next += 1;
    }
    found.into_iter()
}

fn processes() -> anyhow::Result<HashMap<u32, Stat>> {
    let entries = std::fs::read_dir("/proc").context("read /proc")?;
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // A process may end between the list and the look.
    let stat = |pid: u32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, parse(&line)?))
    };
    Ok(pids.filter_map(stat).collect())
}

/// The fields behind the name, which stands in parentheses and may hold anything (proc(5)).
fn parse(line: &str) -> Option<Stat> {
    let (_, fields) = line.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own: ticks(11)? + ticks(12)?,
        waited: ticks(13)? + ticks(14)?,
    })
}

/// The most memory a process has had resident since it began, in MiB: no sample misses it.
pub fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    Ok(status(pid, "VmHWM:")? / 1024.0)
}

/// Memory a process has resident now, in MiB.
pub fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    Ok(status(pid, "VmRSS:")? / 1024.0)
}

/// Units of 1,024 octets, from the line of /proc/<pid>/status that begins with `field`.
fn status(pid: u32, field: &str) -> anyhow::Result<f64> {
    let file = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    number.with_context(|| format!("read {field} of {file}"))
}

fn pss(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

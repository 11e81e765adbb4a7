//! Reads what this process uses: CPU time, memory, open files.

use std::fs;
use std::time::Duration;

use super::cgroup::Cgroup;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// The CPU time that all threads have used, user and system together, to the nanosecond.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The bytes of memory that are resident.
pub fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The bytes of memory that are resident and come from no file: what nobody but the process itself can give back.
pub fn anonymous_bytes() -> Option<u64> {
    // The kernel sums the first up anew; the second is off by some pages for every CPU.
    kilobytes("/proc/self/smaps_rollup", "Anonymous:")
        .or_else(|| kilobytes("/proc/self/status", "RssAnon:"))
}

/// The bytes of memory that the process could still take: what the machine has available, and what its control group
/// leaves it.
pub fn available_bytes() -> Option<u64> {
    let left = |group: Cgroup| {
        // What is kept of files, such as the models that were just read, counts as used and is free to take.
        let used = group.memory_usage_bytes()?;
        let used = used.saturating_sub(group.file_cache_bytes().unwrap_or(0));
        Some(group.memory_limit_bytes()?.saturating_sub(used))
    };
    [
        meminfo("MemAvailable:"),
        Cgroup::of_process().and_then(left),
    ]
    .into_iter()
    .flatten()
    .min()
}

/// The bytes of memory that there are for the process at all.
pub fn total_bytes() -> Option<u64> {
    let limit = Cgroup::of_process().and_then(|group| group.memory_limit_bytes());
    [meminfo("MemTotal:"), limit].into_iter().flatten().min()
}

/// The most memory that was ever resident.
pub fn peak_bytes() -> Option<u64> {
    kilobytes("/proc/self/status", "VmHWM:")
}

/// Lets [`peak_bytes`] begin anew, where the system can do that.
pub fn reset_peak() {
    // "5" is the kernel's word for it; without, the peak of all models so far is told, which is no less careful.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Asks the kernel to end this process before any other where memory runs out.
pub fn be_the_first_to_go() {
    // Everybody may raise it. Where it cannot be written, the kernel takes the one with the most memory, as it would.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
}

/// The bytes of address space that can be written to and are the process's own, stacks and what is only set aside
/// included: what `RLIMIT_DATA` counts.
pub fn data_bytes() -> Option<u64> {
    kilobytes("/proc/self/status", "VmData:")
}

fn meminfo(field: &str) -> Option<u64> {
    kilobytes("/proc/meminfo", field)
}

/// The bytes in a line such as `MemTotal: 16384 kB`.
fn kilobytes(file: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes << 10)
}

/// How many file descriptors are open.
pub fn open_files() -> Option<u64> {
    // The folder's own descriptor is among those it lists.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

/// Raises the limit on open file descriptors as far as the process may, and tells it; `None` if there is none.
pub fn raise_open_files_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        // Such as where a container's rules forbid the call.
        Err(_) => limit.current,
    }
}

/// When the process started, in seconds since 1970.
pub fn start_time_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name stands in parentheses and may itself hold spaces; field 22 is the 20th behind it.
    let ticks: f64 = stat
        .rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    Some(boot + ticks / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_plausible() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(anonymous_bytes().is_some_and(|bytes| bytes > 1 << 16));
        assert!(open_files().is_some_and(|files| files >= 3));
        assert!(start_time_seconds().is_some_and(|seconds| seconds > 1.7e9));
        let before = cpu_time();
        assert!((0..1_000_000u64).map(std::hint::black_box).sum::<u64>() > 0);
        assert!(cpu_time() > before);
    }
}

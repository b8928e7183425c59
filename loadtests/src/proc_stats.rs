//! What Linux says of a process: processor time and memory, children included.

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// Processor time and memory of a process and its descendants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since the start of each process that is alive now.
    pub cpu: Duration,
    /// Resident memory.
    pub rss_bytes: u64,
}

/// Usage of the process `pid` and all its descendants.
///
/// # Errors
/// The process does not exist.
pub fn usage(pid: u32) -> anyhow::Result<Usage> {
    usage_with(pid, &descendants(pid))
}

/// Usage of the process `pid` and of `children`, which are known: to look for them takes longer than a short measurement has.
///
/// # Errors
/// The process `pid` does not exist.
pub fn usage_with(pid: u32, children: &[u32]) -> anyhow::Result<Usage> {
    let mut total = usage_of_one(pid).with_context(|| format!("reading /proc/{pid}"))?;
    for &child in children {
        // One that ended meanwhile has no usage any more.
        if let Ok(usage) = usage_of_one(child) {
            total.cpu += usage.cpu;
            total.rss_bytes += usage.rss_bytes;
        }
    }
    Ok(total)
}

/// All processes below `pid`.
#[must_use]
pub fn descendants(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = processes().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&above) = found.get(next) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        next += 1;
    }
    found.remove(0);
    found
}

/// Whether every thread of `pid` has ended, so that the kernel has closed its sockets. A process that its parent has not
/// waited for yet is ended too.
#[must_use]
pub fn has_ended(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks.flatten().all(|task| {
        fs::read_to_string(task.path().join("stat")).ok().and_then(|stat| Some(fields(&stat)?.0 == "Z")).unwrap_or(true)
    })
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(pid: u32) -> Option<u32> {
    Some(fields(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?.1)
}

/// State and parent from a `stat` line: the name before them may hold spaces and parentheses.
fn fields(stat: &str) -> Option<(&str, u32)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    Some((fields.next()?, fields.next()?.parse().ok()?))
}

fn usage_of_one(pid: u32) -> anyhow::Result<Usage> {
    // `schedstat` counts in nanoseconds where `stat` counts in hundredths of a second; it exists for each thread alone.
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        if let Ok(text) = fs::read_to_string(task.path().join("schedstat")) {
            nanoseconds += text.split_whitespace().next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(Usage { cpu: Duration::from_nanos(nanoseconds), rss_bytes: resident(&status) })
}

/// `VmRSS` of a `status` file; 0 for a process without memory, as one that has ended is.
fn resident(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|value| value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_confuse() {
        assert_eq!(fields("12 (a) b) (c) S 7 12 12"), Some(("S", 7)));
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   36520 kB\n"), 36520 * 1024);
        assert_eq!(resident("Name:\tx\n"), 0);
    }

    #[test]
    fn work_of_this_process_is_seen() {
        let before = usage(std::process::id()).unwrap();
        let mut sum = 0u64;
        while usage(std::process::id()).unwrap().cpu < before.cpu + Duration::from_millis(20) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(usage(std::process::id()).unwrap().rss_bytes > 1 << 20);
    }

    #[test]
    fn a_child_is_a_descendant_until_it_is_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(descendants(std::process::id()).contains(&child.id()));
        assert!(!has_ended(child.id()));
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !has_ended(child.id()) && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(has_ended(child.id()));
        child.wait().unwrap();
        assert!(!descendants(std::process::id()).contains(&child.id()));
    }
}

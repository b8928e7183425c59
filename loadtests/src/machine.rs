//! The machine that figures were taken on: without it they mean little.

use std::fs;

use serde::Serialize;

/// What bears on a measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Processor cores.
    pub cpus: usize,
    /// Their model.
    pub cpu_model: String,
    /// Memory.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Load average of the last minute before the run: above 0 the machine had other work.
    pub load_average: f64,
}

impl Machine {
    /// This machine, now. What it does not tell is empty or 0.
    #[must_use]
    pub fn here() -> Self {
        Self {
            cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            cpu_model: value_of("/proc/cpuinfo", "model name").unwrap_or_default(),
            memory_bytes: value_of("/proc/meminfo", "MemTotal")
                .and_then(|value| value.strip_suffix("kB")?.trim().parse::<u64>().ok())
                .map_or(0, |kibibytes| kibibytes * 1024),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            load_average: fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|text| text.split_whitespace().next()?.parse().ok())
                .unwrap_or(0.0),
        }
    }
}

/// The first `NAME : VALUE` of a file of /proc.
fn value_of(path: &str, name: &str) -> Option<String> {
    fs::read_to_string(path).ok()?.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

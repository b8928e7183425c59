//! Which processes a cluster is: kept in its state folder from the moment they start.

use std::io;
use std::path::PathBuf;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use super::settings::Place;

/// A process, by more than its number: numbers are given away again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Identity {
    pid: u32,
    /// Clock ticks between the machine's boot and the process's start.
    started: u64,
}

/// How far a start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Phase {
    /// Lives only as long as the `up` that starts it.
    Starting,
    /// Stays until `down`.
    Ready,
}

/// What is known about a cluster that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Boot of the machine that the identities belong to.
    pub boot: String,
    /// How far it has come.
    pub phase: Phase,
    /// The `unshare` that holds the namespaces open for its child.
    pub outer: Identity,
    /// Process 1 of the namespaces, by its number outside.
    pub init: Identity,
    /// Port of the relay on the caller's loopback.
    pub port: u16,
    /// Knative was taken from here.
    pub knative_dir: Option<PathBuf>,
}

// === impl Identity ===

impl Identity {
    /// The running process of a number; `None` when there is none, or only its remains.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let (state, started) = parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, started })
    }

    /// Number of the process.
    pub(super) fn pid(self) -> u32 {
        self.pid
    }

    /// Whether exactly this process runs.
    pub(super) fn is_running(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// SIGKILL, if exactly this process runs.
    pub(super) fn kill(self) -> io::Result<()> {
        let number = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = number.filter(|_| self.is_running()) else { return Ok(()) };
        match rustix::process::kill_process(pid, Signal::KILL) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

// === impl Record ===

impl Record {
    const FILE: &str = "cluster.json";

    /// The record in a state folder; `None` when nothing was started, or what is there is unreadable.
    pub(super) fn load(place: &Place) -> Option<Self> {
        let text = std::fs::read_to_string(place.path(Self::FILE)).ok()?;
        serde_json::from_str(&text).inspect_err(|error| tracing::warn!(%error, "unreadable record: ignored")).ok()
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// When the state folder cannot be written.
    pub(super) fn save(&self, place: &Place) -> io::Result<()> {
        let draft = place.path("cluster.json.new");
        std::fs::write(&draft, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(draft, place.path(Self::FILE))
    }

    /// Whether its process 1 runs.
    pub(super) fn is_alive(&self) -> bool {
        self.boot == boot_id() && self.init.is_running()
    }

    /// Kills all of it: the kernel takes everything in a process namespace along with its process 1.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn kill(&self) -> io::Result<()> {
        if self.boot != boot_id() {
            return Ok(());
        }
        // Only the inner one while it lives: its parent then reaps it and ends by itself. Killed together, process 1 would stay as
        // a zombie until that of this machine takes care of it.
        if self.init.is_running() { self.init.kill() } else { self.outer.kill() }
    }
}

/// Changes with every boot of the machine.
pub(super) fn boot_id() -> String {
    // Absent only where /proc is: there no process is found either.
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The running children of a process.
pub(super) fn children(parent: u32) -> Vec<Identity> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|pid| parent_of(*pid) == Some(parent)).filter_map(Identity::of).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    after_name(&stat)?.nth(1)?.parse().ok()
}

/// State and start of a process out of `/proc/PID/stat` (see proc(5)).
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = after_name(stat)?;
    let state = fields.next()?.chars().next()?;
    // The state is field 3, the start is field 22.
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// The fields from the third on. The second is the program's name, which may contain anything.
fn after_name(stat: &str) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    Some(stat.rsplit_once(')')?.1.split_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "4242 (a) S 9 (x) Z 17 4242 4242 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777123 8192 2 18446744073709551615";

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        assert_eq!(parse_stat(STAT), Some(('Z', 777_123)));
        assert_eq!(after_name(STAT).and_then(|mut fields| fields.nth(1)), Some("17"));
    }

    #[test]
    fn what_is_no_stat_line_is_no_process() {
        for text in ["", "1", "1 (x)", "1 (x) S 1 2 3", "1 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 word"] {
            assert_eq!(parse_stat(text), None, "{text}");
        }
    }

    #[test]
    fn a_process_is_known_by_its_start_too() {
        let own = Identity::of(std::process::id()).unwrap();
        assert!(own.is_running());
        let other = Identity { started: own.started + 1, ..own };
        assert!(!other.is_running());
        other.kill().expect("a number that was given away again is left alone");
    }

    #[test]
    fn a_dead_child_is_none() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while Identity::of(child.id()).is_some() {
            assert!(std::time::Instant::now() < deadline, "`true` does not end");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.wait().unwrap();
    }

    #[test]
    fn children_are_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = children(std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.iter().any(|identity| identity.pid() == child.id()));
    }

    #[test]
    fn a_record_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new("a", Some(folder.path())).unwrap();
        assert_eq!(Record::load(&place), None);
        let identity = Identity { pid: 1, started: 2 };
        let record = Record {
            boot: "another boot".into(),
            phase: Phase::Ready,
            outer: identity,
            init: identity,
            port: 4,
            knative_dir: None,
        };
        record.save(&place).unwrap();
        assert_eq!(Record::load(&place), Some(record.clone()));
        assert!(!record.is_alive(), "of an earlier boot");
        record.kill().expect("does nothing");
    }
}

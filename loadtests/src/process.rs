//! Processes that a scenario starts: announced addresses, and an end that is always waited for.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use parking_lot::{Condvar, Mutex};
use poolctl_runtime::announce;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use crate::affinity::{self, Core};

/// How long a process may take to stop after SIGTERM before it is killed: above every drain time configured here.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// Lines of its log that are kept to explain a failure.
const LOG_LINES_KEPT: usize = 40;

/// How long the log of an ended process may take to end too: what it started may still hold it open.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

/// A process that ends with this value: asked by SIGTERM, then killed, always waited for.
#[derive(Debug)]
pub struct Process {
    name: String,
    command_line: String,
    child: Child,
    /// What it announced, once that is complete; closed when its standard output ends.
    announced: watch::Receiver<Option<Addresses>>,
    log: Arc<Log>,
}

/// The end of what a process wrote to standard error.
#[derive(Debug, Default)]
struct Log {
    tail: Mutex<Tail>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<String>,
    whole: bool,
}

/// Where a process listens, as it announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Where it takes requests.
    pub ready: SocketAddr,
    /// Its admin port, if it has one.
    pub admin: Option<SocketAddr>,
    /// Its metrics port, if it has one of its own.
    pub metrics: Option<SocketAddr>,
}

impl Process {
    /// Starts `command`, pinned to `core` where one is given. What it writes to standard error is kept for error messages.
    ///
    /// # Errors
    /// It could not be started or pinned.
    pub fn start(name: &str, mut command: Command, core: Option<Core>) -> anyhow::Result<Self> {
        let command_line = describe(&command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A thread's pinning is inherited by what it starts: pinned from the first instruction, all threads alike.
        let spawned = std::thread::spawn(move || {
            if let Some(core) = core {
                affinity::pin_this_thread(core)?;
            }
            command.spawn().map_err(anyhow::Error::from)
        });
        let mut child = spawned
            .join()
            .map_err(|_| anyhow::anyhow!("the thread that starts {name} panicked"))?
            .with_context(|| format!("starting {command_line}"))?;

        let log = Arc::new(Log::default());
        let (announce, announced) = watch::channel(None);
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || read_announcements(stdout, &announce));
        }
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            std::thread::spawn(move || log.fill(stderr));
        }
        Ok(Self { name: name.to_owned(), command_line, child, announced, log })
    }

    /// What was started, for people to repeat.
    #[must_use]
    pub fn command_line(&self) -> &str {
        &self.command_line
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines it wrote to standard error; of a process that was found ended, or was stopped, up to its end.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.log.tail.lock().lines.iter().fold(String::new(), |text, line| text + "\n  " + line)
    }

    /// Waits for the line that announces `ready`, which is the last, and gives all that were announced.
    ///
    /// # Errors
    /// It ended or was silent for `patience`; the message has the end of its log.
    pub async fn ready(&mut self, patience: Duration) -> anyhow::Result<Addresses> {
        let announced = tokio::time::timeout(patience, self.announced.wait_for(Option::is_some)).await;
        match announced.map(|all| all.ok().and_then(|all| *all)) {
            Ok(Some(addresses)) => Ok(addresses),
            Ok(None) => {
                let status = self.stop()?;
                bail!("{} ended with {status} before it was ready; its log ends with:{}", self.name, self.log_tail())
            }
            Err(_) => {
                bail!("{} was not ready within {patience:?}; its log ends with:{}", self.name, self.log_tail())
            }
        }
    }

    /// Waits until something accepts connections at `addr`: for servers that announce nothing.
    ///
    /// # Errors
    /// It ended, or nothing did within `patience`; the message has the end of its log.
    pub async fn accepting(&mut self, addr: SocketAddr, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        while tokio::net::TcpStream::connect(addr).await.is_err() {
            if let Some(status) = self.ended()? {
                bail!("{} ended with {status}; its log ends with:{}", self.name, self.log_tail());
            }
            if Instant::now() > deadline {
                bail!("{} took no connection at {addr} within {patience:?}:{}", self.name, self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// The system did not say.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Asks it to stop and waits; kills it when it does not. Returns its exit status.
    ///
    /// # Errors
    /// The system refused the signal or the wait.
    pub fn stop(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        // The child is ours and not yet waited for, so the number cannot belong to another process.
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).with_context(|| format!("stopping {}", self.name))?;
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill()?;
        let status = self.child.wait()?;
        self.log.wait_until_whole();
        Ok(status)
    }

    /// The exit status of a process that has ended, once its log has been read.
    fn ended(&mut self) -> anyhow::Result<Option<std::process::ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.log.wait_until_whole();
        }
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("stopping {} (pid {}) failed: {error:#}", self.name, self.child.id());
        }
    }
}

impl Log {
    /// Reads to the end and keeps the last lines.
    fn fill(&self, stream: impl Read) {
        for line in lines(stream) {
            let lines = &mut self.tail.lock().lines;
            if lines.len() == LOG_LINES_KEPT {
                lines.pop_front();
            }
            lines.push_back(line);
        }
        self.tail.lock().whole = true;
        self.ended.notify_all();
    }

    fn wait_until_whole(&self) {
        let mut tail = self.tail.lock();
        self.ended.wait_while_for(&mut tail, |tail| !tail.whole, LOG_PATIENCE);
    }
}

/// Reads to the end, so that the process is never stopped by a full pipe; what follows the last announcement is dropped.
fn read_announcements(stream: impl Read, announce: &watch::Sender<Option<Addresses>>) {
    let (mut admin, mut metrics) = (None, None);
    for line in lines(stream) {
        admin = announce::parse("admin", &line).or(admin);
        metrics = announce::parse("metrics", &line).or(metrics);
        if let Some(ready) = announce::parse("ready", &line) {
            announce.send_replace(Some(Addresses { ready, admin, metrics }));
        }
    }
}

/// The lines of a stream to its end; what is not UTF-8 in them is replaced.
fn lines(stream: impl Read) -> impl Iterator<Item = String> {
    let lines = BufReader::new(stream).split(b'\n').map_while(Result::ok);
    lines.map(|line| String::from_utf8_lossy(&line).into_owned())
}

/// The command line, for people.
#[must_use]
pub fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("a shell", command, None).unwrap()
    }

    #[tokio::test]
    async fn announced_addresses_are_found_among_other_lines() {
        let mut process =
            shell("echo hello; echo admin http://127.0.0.1:1; echo ready http://127.0.0.1:2; exec sleep 60");
        let addresses = process.ready(SOON).await.unwrap();
        assert_eq!(addresses.ready, "127.0.0.1:2".parse().unwrap());
        assert_eq!(addresses.admin, Some("127.0.0.1:1".parse().unwrap()));
        assert_eq!(addresses.metrics, None);
    }

    #[tokio::test]
    async fn a_process_that_ends_early_explains_itself() {
        let mut process = shell("echo the reason >&2; exit 3");
        let error = process.ready(SOON).await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("the reason"), "{error}");
    }

    /// The reader may be behind when the process has ended: here it has much to read.
    #[tokio::test]
    async fn the_log_of_an_ended_process_is_read_to_its_end() {
        let mut process = shell("seq 100000 >&2; echo the last words >&2; exit 3");
        let error = process.ready(SOON).await.unwrap_err().to_string();
        assert!(error.ends_with("the last words"), "{error}");
    }

    #[test]
    fn a_log_that_outlives_its_process_is_not_waited_for() {
        let mut process = shell("sleep 60 & echo $! >&2");
        let deadline = Instant::now() + SOON;
        while process.is_running().unwrap() || process.log_tail().is_empty() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert!(process.stop().unwrap().success());
        let left = process.log_tail().trim().parse().ok().and_then(Pid::from_raw).unwrap();
        kill_process(left, Signal::KILL).unwrap();
    }

    /// Neither stops the process nor fills the memory.
    #[tokio::test]
    async fn what_follows_the_announcements_is_read_and_not_kept() {
        const WRITTEN: u64 = 128 << 20;
        let line = "x".repeat(1000);
        let mut process = shell(&format!("echo ready http://127.0.0.1:2; yes {line} | head -c {WRITTEN}"));
        process.ready(SOON).await.unwrap();
        let deadline = Instant::now() + SOON * 6;
        while process.is_running().unwrap() {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let resident = crate::proc_stats::usage(std::process::id()).unwrap().rss_bytes;
        assert!(resident < WRITTEN / 2, "{resident} bytes");
    }

    #[test]
    fn dropping_ends_the_process() {
        let process = shell("exec sleep 60");
        let pid = process.pid();
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

//! Processes that a scenario starts: announced addresses, and an end that is always waited for.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use parking_lot::Mutex;
use poolctl_runtime::announce;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::affinity::{self, Core};

/// How long a process may take to stop after SIGTERM before it is killed: above every drain time configured here.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// Lines of its log that are kept to explain a failure.
const LOG_LINES_KEPT: usize = 40;

/// A process that ends with this value: asked by SIGTERM, then killed, always waited for.
#[derive(Debug)]
pub struct Process {
    name: String,
    command_line: String,
    child: Child,
    lines: UnboundedReceiver<String>,
    log: Arc<Mutex<VecDeque<String>>>,
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

        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (line, lines) = unbounded_channel();
        if let Some(stdout) = child.stdout.take() {
            // Nobody waits for lines after the last announced address.
            each_line(stdout, move |text| drop(line.send(text)));
        }
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            each_line(stderr, move |text| {
                let mut log = log.lock();
                if log.len() == LOG_LINES_KEPT {
                    log.pop_front();
                }
                log.push_back(text);
            });
        }
        Ok(Self { name: name.to_owned(), command_line, child, lines, log })
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

    /// The last lines it wrote to standard error.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.log.lock().iter().fold(String::new(), |text, line| text + "\n  " + line)
    }

    /// Waits for the line that announces `ready`, which is the last, and gives all that were announced.
    ///
    /// # Errors
    /// It ended or was silent for `patience`; the message has the end of its log.
    pub async fn ready(&mut self, patience: Duration) -> anyhow::Result<Addresses> {
        let mut admin = None;
        let mut metrics = None;
        let search = async {
            while let Some(line) = self.lines.recv().await {
                admin = announce::parse("admin", &line).or(admin);
                metrics = announce::parse("metrics", &line).or(metrics);
                if let Some(ready) = announce::parse("ready", &line) {
                    return Some(Addresses { ready, admin, metrics });
                }
            }
            None
        };
        match tokio::time::timeout(patience, search).await {
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
            if let Some(status) = self.child.try_wait()? {
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
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        // The child is ours and not yet waited for, so the number cannot belong to another process.
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).with_context(|| format!("stopping {}", self.name))?;
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill()?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("stopping {} (pid {}) failed: {error:#}", self.name, self.child.id());
        }
    }
}

fn each_line(stream: impl Read + Send + 'static, mut take: impl FnMut(String) + Send + 'static) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            match line {
                Ok(line) => take(line),
                Err(_) => break,
            }
        }
    });
}

/// Runs `command`, pinned to `core`, to its end and gives what it wrote to standard output.
///
/// # Errors
/// It could not be started or pinned, or failed; the message has its standard error.
pub async fn output(mut command: Command, core: Core) -> anyhow::Result<String> {
    let line = describe(&command);
    let run = tokio::task::spawn_blocking(move || {
        let pinned = std::thread::spawn(move || {
            affinity::pin_this_thread(core)?;
            command.stdin(Stdio::null()).output().map_err(anyhow::Error::from)
        });
        pinned.join().map_err(|_| anyhow::anyhow!("the thread that runs it panicked"))?
    });
    let output = run.await.context("waiting for it")?.with_context(|| format!("running {line}"))?;
    if !output.status.success() {
        bail!("{line} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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
    }

    #[test]
    fn dropping_ends_the_process() {
        let process = shell("exec sleep 60");
        let pid = process.pid();
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

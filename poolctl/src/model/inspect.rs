//! Asks `model-wrapper inspect` what models are.
//!
//! It runs as a process of its own because loading a model runs a native library on bytes that somebody else wrote: a
//! crash there must cost one model its readiness, not the whole stack its life.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use poolctl_api::ModelFormat;
use poolctl_cluster::local::ProcessGroup;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStdout, Command};

/// Longest that one model may take to load. A model of some gigabytes loads in seconds; one that takes longer than this
/// could not be brought up for a waiting request either.
const TIMEOUT_PER_MODEL: Duration = Duration::from_secs(60);

/// Longest answer for one model. Metadata may hold the characters of an alphabet or the labels of a classifier.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;

/// What is kept of the messages of a process that failed.
const MAX_MESSAGE_BYTES: u64 = 8 * 1024;

/// What a model is.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// Digest of its bytes, `sha256:HEX`.
    pub digest: String,
    /// Files beside the model that it is made of too, relative to its folder.
    pub external: Vec<PathBuf>,
    /// Its metadata, as `GET /v2/models/NAME` answers it.
    pub metadata: serde_json::Value,
}

/// Asks a `model-wrapper` program.
#[derive(Clone, Debug)]
pub struct Inspector {
    /// The program.
    pub wrapper: PathBuf,
    /// Environment on top of this process's own.
    pub environment: BTreeMap<String, String>,
    /// Longest that one model may take.
    pub timeout: Duration,
}

/// What models are, or why each cannot be loaded.
pub type Answers = BTreeMap<PathBuf, Result<Inspection, String>>;

/// The models that one run answered for, and why it answered for no more.
struct Run {
    answers: Answers,
    ended: Result<(), String>,
}

/// One line of output.
#[derive(Deserialize)]
struct Line {
    path: PathBuf,
    digest: Option<String>,
    #[serde(default)]
    external: Vec<PathBuf>,
    metadata: Option<serde_json::Value>,
    error: Option<String>,
}

// === impl Inspector ===

impl Inspector {
    /// An inspector that runs `wrapper`.
    #[must_use]
    pub fn new(wrapper: PathBuf, environment: BTreeMap<String, String>) -> Self {
        Self { wrapper, environment, timeout: TIMEOUT_PER_MODEL }
    }

    /// What the models at `paths` are, or why each cannot be loaded.
    ///
    /// One process inspects them in turn. Where it dies, the model that it was at is the culprit, and another process
    /// goes on behind it.
    pub async fn inspect(&self, format: ModelFormat, paths: Vec<PathBuf>) -> Answers {
        let mut found = Answers::new();
        let mut left = paths;
        while !left.is_empty() {
            let run = self.run(format, &left).await;
            found.extend(run.answers);
            left.retain(|path| !found.contains_key(path));
            if let (false, Err(reason)) = (left.is_empty(), run.ended) {
                found.insert(left.remove(0), Err(reason));
            }
        }
        found
    }

    async fn run(&self, format: ModelFormat, paths: &[PathBuf]) -> Run {
        let mut processes = match self.spawn(format, paths) {
            Ok(processes) => processes,
            Err(error) => {
                let reason = format!("{} could not be started: {error}", self.wrapper.display());
                return Run { answers: Answers::new(), ended: Err(reason) };
            }
        };
        let leader = processes.leader();
        let (stdout, stderr) = (leader.stdout.take(), leader.stderr.take());
        let messages = tokio::spawn(async move {
            let mut text = String::new();
            if let Some(stderr) = stderr {
                let mut stderr = BufReader::new(stderr);
                // the rest is read and dropped, so that the process never waits for us
                let _ = (&mut stderr).take(MAX_MESSAGE_BYTES).read_to_string(&mut text).await;
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            }
            text
        });
        let lines = BufReader::new(stdout.expect("stdout is piped"));
        let mut reading = pin!(self.read(lines));
        let (answers, ended) = tokio::select! {
            read = reading.as_mut() => read,
            // with what it started gone too, all that it answered is in the pipe
            _ = processes.ended() => reading.await,
        };
        // it is at its end, or it hangs
        let status = processes.kill().await;
        let messages = messages.await.unwrap_or_default();
        let ended = ended.and_then(|()| match status {
            Ok(status) if answers.len() < paths.len() => {
                let last = messages.lines().rfind(|line| !line.trim().is_empty());
                let detail = last.map(|line| format!(": {}", line.trim())).unwrap_or_default();
                Err(format!("the model server ended while it loaded the model ({status}){detail}"))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(format!("the model server could not be waited for: {error}")),
        });
        Run { answers, ended }
    }

    /// What it answers until its end, or until an answer is late or is none.
    async fn read(&self, mut lines: BufReader<ChildStdout>) -> (Answers, Result<(), String>) {
        let mut answers = Answers::new();
        loop {
            let mut line = Vec::new();
            let mut bounded = (&mut lines).take(MAX_LINE_BYTES);
            let ended = match tokio::time::timeout(self.timeout, bounded.read_until(b'\n', &mut line)).await {
                Err(_) => Err(format!("it did not load within {} s", self.timeout.as_secs_f64())),
                Ok(Err(error)) => Err(format!("its inspection could not be read: {error}")),
                Ok(Ok(0)) => Ok(()),
                Ok(Ok(_)) => match parse(&line) {
                    Ok((path, answer)) => {
                        answers.insert(path, answer);
                        continue;
                    }
                    Err(reason) => Err(reason),
                },
            };
            return (answers, ended);
        }
    }

    fn spawn(&self, format: ModelFormat, paths: &[PathBuf]) -> std::io::Result<ProcessGroup> {
        let mut command = Command::new(&self.wrapper);
        // it holds the other end of its stdin: should this process be killed, it ends too
        command.args(["inspect", "--exit-on-stdin-close", "--format", format.as_str()]).args(paths);
        command.envs(&self.environment);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ProcessGroup::spawn(&mut command)
    }
}

fn parse(line: &[u8]) -> Result<(PathBuf, Result<Inspection, String>), String> {
    let line: Line = serde_json::from_slice(line)
        .map_err(|error| format!("the model server's answer to an inspection cannot be read: {error}"))?;
    let answer = match (line.error, line.digest, line.metadata) {
        (Some(error), ..) => Err(error),
        (None, Some(digest), Some(metadata)) => Ok(Inspection { digest, external: line.external, metadata }),
        (None, ..) => Err("the model server gave neither metadata nor an error".to_owned()),
    };
    Ok((line.path, answer))
}

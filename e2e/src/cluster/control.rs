//! Talking to the supervisor of a running cluster, over a socket in the cluster's private `/run`.
//!
//! From outside it is reached through process 1's root folder, whatever the length of the state folder's path. One request per
//! connection, one line of JSON each way; after [`Request::Dial`] was granted, the connection is the dialled one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::record::Identity;

/// The socket, as the processes inside see it.
pub(super) const SOCKET: &str = "/run/kferving/control.sock";

/// Longest line: the status of every component with the ends of their logs is some kilobytes.
pub(super) const LONGEST_LINE: u64 = 1 << 20;

/// A part of the control plane that is started is waited for until it is ready; all else is immediate.
const ANSWER_DEADLINE: Duration = Duration::from_secs(200);

/// What the supervisor is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Request {
    /// How every component is.
    Status,
    /// Stop one; it stays away until it is started.
    Stop(String),
    /// Start one that was stopped or has died.
    Start(String),
    /// Connect this connection to an address inside.
    Dial(SocketAddr),
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Response {
    /// To [`Request::Status`].
    Status(Vec<ComponentStatus>),
    /// It was done.
    Done,
    /// It could not be done.
    Failed(String),
}

/// How a component is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentStatus {
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: ComponentState,
    /// The file with what it printed.
    pub log: PathBuf,
}

/// What a component does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComponentState {
    /// It runs; its process id inside.
    Running(u32),
    /// It was stopped.
    Stopped,
    /// It ended by itself: how, and what it printed last.
    Dead(String),
}

/// Asks the supervisor of the cluster with this process 1.
///
/// # Errors
/// When the cluster cannot be reached, or it answers that it could not do it.
pub(super) async fn ask(init: Identity, request: &Request) -> anyhow::Result<Response> {
    let (response, _) = converse(init, request).await?;
    Ok(response)
}

/// A connection to an address inside the cluster: of a pod, a Service or the node.
///
/// # Errors
/// When the cluster cannot be reached, or the address refuses.
pub(super) async fn dial(init: Identity, address: SocketAddr) -> anyhow::Result<UnixStream> {
    let (_, stream) = converse(init, &Request::Dial(address)).await?;
    Ok(stream)
}

async fn converse(init: Identity, request: &Request) -> anyhow::Result<(Response, UnixStream)> {
    let path = format!("/proc/{}/root{SOCKET}", init.pid());
    let mut stream =
        UnixStream::connect(&path).await.with_context(|| format!("the cluster does not listen at {path}"))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    // Exactly one line is read: after a granted dial, what follows belongs to the caller.
    let answer = tokio::time::timeout(ANSWER_DEADLINE, read_line(&mut stream));
    let answer = answer.await.with_context(|| format!("the cluster gives no answer within {ANSWER_DEADLINE:?}"))??;
    match serde_json::from_str(&answer).with_context(|| format!("the cluster answers {answer:?}"))? {
        Response::Failed(reason) => bail!(reason),
        response => Ok((response, stream)),
    }
}

/// A line, and not a byte more.
async fn read_line(stream: &mut UnixStream) -> anyhow::Result<String> {
    let mut line = Vec::new();
    loop {
        let byte = stream.read_u8().await.context("the cluster closed the connection")?;
        if byte == b'\n' {
            return String::from_utf8(line).context("the cluster's answer is no text");
        }
        anyhow::ensure!((line.len() as u64) < LONGEST_LINE, "the cluster's answer is longer than {LONGEST_LINE} bytes");
        line.push(byte);
    }
}

/// The request of a connection that was just accepted. What the caller sends after it, it sends after our answer.
pub(super) async fn receive(stream: &mut UnixStream) -> anyhow::Result<Request> {
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST_LINE)).read_line(&mut line).await?;
    serde_json::from_str(&line).with_context(|| format!("{line:?} is no request"))
}

/// Answers a request.
pub(super) async fn answer(stream: &mut UnixStream, response: &Response) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    Ok(stream.write_all(&line).await?)
}

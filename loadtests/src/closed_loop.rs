//! The closed-loop generator: a fixed number of connections, each sending as soon as it is answered.
//!
//! It measures capacity and the latency of an unqueued request, which is how peers publish theirs. It hides queueing by
//! design: scenarios about latency under load use [`crate::open_loop`].

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::affinity::{self, Core};
use crate::http1::{Connection, Keep};
use crate::record::Recorder;

/// What a closed loop does.
#[derive(Clone, Debug)]
pub struct ClosedLoop {
    /// Server.
    pub addr: SocketAddr,
    /// Head and body of every request.
    pub request: Bytes,
    /// Connections.
    pub concurrency: usize,
    /// How long.
    pub duration: Duration,
    /// The core that the load comes from; `None` for any.
    pub core: Option<Core>,
}

/// What it saw.
#[derive(Clone, Debug)]
pub struct Load {
    /// Latency and errors.
    pub recorder: Recorder,
    /// From the first request to the end of the last.
    pub elapsed: Duration,
}

impl ClosedLoop {
    /// Runs on one thread of its own, so that it can be pinned and pays for no work stealing.
    ///
    /// # Errors
    /// The thread could not be started or pinned, or a connection could not be opened.
    pub async fn run(self) -> anyhow::Result<Load> {
        let (report, result) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("closed-loop".to_owned()).spawn(move || {
            // The receiver is gone only when the run was given up.
            let _ = report.send(self.run_here());
        })?;
        result.await.context("the load thread panicked")?
    }

    fn run_here(self) -> anyhow::Result<Load> {
        if let Some(core) = self.core {
            affinity::pin_this_thread(core)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut connections = Vec::new();
            for _ in 0..self.concurrency {
                connections.push(Connection::open(self.addr).await.with_context(|| format!("{}", self.addr))?);
            }
            let start = Instant::now();
            let end = start + self.duration;
            let mut loops = JoinSet::new();
            for connection in connections {
                loops.spawn(drive(connection, self.addr, self.request.clone(), end));
            }
            let mut recorder = Recorder::default();
            while let Some(one) = loops.join_next().await {
                recorder.merge(&one.context("a connection's task panicked")?);
            }
            Ok(Load { recorder, elapsed: start.elapsed() })
        })
    }
}

async fn drive(connection: Connection, addr: SocketAddr, request: Bytes, end: Instant) -> Recorder {
    let mut recorder = Recorder::default();
    let mut connection = Some(connection);
    while Instant::now() < end {
        let mut open = match connection.take() {
            Some(open) => open,
            None => match Connection::open(addr).await {
                Ok(open) => open,
                Err(failure) => {
                    recorder.error(failure.name());
                    // A server that takes no connections is not hammered with attempts.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
        };
        let sent = Instant::now();
        match open.exchange(&request, Keep::Nothing).await {
            Ok(answer) => {
                if answer.status == 200 {
                    recorder.success(answer.done - sent);
                } else {
                    recorder.error(&answer.status.to_string());
                }
                connection = answer.reusable.then_some(open);
            }
            Err(failure) => recorder.error(failure.name()),
        }
    }
    recorder
}

#[cfg(test)]
mod tests;

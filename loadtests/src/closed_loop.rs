//! The closed-loop generator: a fixed number of connections, each sending as soon as it is answered.
//!
//! It measures capacity and the latency of an unqueued request, which is how peers publish theirs. It hides queueing by
//! design: scenarios about latency under load use [`crate::open_loop`].

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::affinity::{self, Core};
use crate::http1::{Connection, Keep};
use crate::record::Recorder;

/// Where a closed loop's load comes from and goes to.
#[derive(Clone, Debug)]
pub struct ClosedLoop {
    /// Server.
    pub addr: SocketAddr,
    /// Head and body of every request.
    pub request: Bytes,
    /// Connections.
    pub concurrency: usize,
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
    /// Runs for so long, on one thread of its own, so that it can be pinned and pays for no work stealing. Each connection asks
    /// at least once.
    ///
    /// # Errors
    /// The thread could not be started or pinned, or a connection could not be opened.
    pub async fn run(self, duration: Duration) -> anyhow::Result<Load> {
        on_a_thread(self.core, move || async move {
            let connections = self.open().await?;
            self.drive_all(connections, duration).await
        })
        .await
    }

    /// Opens its connections.
    pub(crate) async fn open(&self) -> anyhow::Result<Vec<Connection>> {
        let mut connections = Vec::with_capacity(self.concurrency);
        for _ in 0..self.concurrency {
            connections.push(Connection::open(self.addr).await.with_context(|| self.addr.to_string())?);
        }
        Ok(connections)
    }

    /// Drives connections for a while.
    async fn drive_all(&self, connections: Vec<Connection>, duration: Duration) -> anyhow::Result<Load> {
        let start = Instant::now();
        let mut loops = JoinSet::new();
        for connection in connections {
            loops.spawn(drive(connection, self.addr, self.request.clone(), start + duration));
        }
        let mut recorder = Recorder::default();
        while let Some(one) = loops.join_next().await {
            recorder.merge(&one.context("a connection's task panicked")?);
        }
        Ok(Load { recorder, elapsed: start.elapsed() })
    }
}

/// Does work on a thread and a runtime of its own, pinned to `core` where one is given.
pub(crate) async fn on_a_thread<T: Send + 'static, F: Future<Output = anyhow::Result<T>>>(
    core: Option<Core>,
    work: impl FnOnce() -> F + Send + 'static,
) -> anyhow::Result<T> {
    let here = move || {
        if let Some(core) = core {
            affinity::pin_this_thread(core)?;
        }
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work())
    };
    let (report, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("closed-loop".to_owned()).spawn(move || {
        // The receiver is gone only when the run was given up.
        let _ = report.send(here());
    })?;
    result.await.context("the load thread panicked")?
}

async fn drive(connection: Connection, addr: SocketAddr, request: Bytes, end: Instant) -> Recorder {
    let mut recorder = Recorder::default();
    let mut connection = Some(connection);
    loop {
        ask(&mut connection, addr, &request).await.record(&mut recorder);
        if Instant::now() >= end {
            return recorder;
        }
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With 200, after so long.
    Answered(Duration),
    /// With another status, or with no answer: the name under which a report counts it.
    Failed(String),
}

impl Ended {
    pub(crate) fn record(&self, recorder: &mut Recorder) {
        match self {
            Self::Answered(after) => recorder.success(*after),
            Self::Failed(name) => recorder.error(name),
        }
    }
}

/// One exchange, over `connection` or a new one; leaves there what the next may use.
pub(crate) async fn ask(connection: &mut Option<Connection>, addr: SocketAddr, request: &Bytes) -> Ended {
    let mut open = match connection.take() {
        Some(open) => open,
        None => match Connection::open(addr).await {
            Ok(open) => open,
            Err(failure) => {
                // A server that takes no connections is not hammered with attempts.
                tokio::time::sleep(Duration::from_millis(10)).await;
                return Ended::Failed(failure.name().to_owned());
            }
        },
    };
    let sent = Instant::now();
    match open.exchange(request, Keep::Nothing).await {
        Ok(answer) => {
            *connection = answer.reusable.then_some(open);
            if answer.status == 200 {
                Ended::Answered(answer.done - sent)
            } else {
                Ended::Failed(answer.status.to_string())
            }
        }
        Err(failure) => Ended::Failed(failure.name().to_owned()),
    }
}

#[cfg(test)]
mod tests;

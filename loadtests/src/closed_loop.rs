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

/// What a closed loop does. Each connection asks at least once.
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
        on_a_thread(self.core, move || async move {
            let connections = self.open().await?;
            Ok(self.drive_all(connections, self.duration).await?.0)
        })
        .await
    }

    /// As [`Self::run`], but after `warm_up` on the same connections, for both ends of a fresh one work in small pieces at
    /// first. `begin` is called between the two.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_warm<T: Send + 'static>(
        self,
        warm_up: Duration,
        begin: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<(T, Load)> {
        on_a_thread(self.core, move || async move {
            let connections = self.open().await?;
            let (_, connections) = self.drive_all(connections, warm_up).await?;
            let begun = begin();
            Ok((begun, self.drive_all(connections, self.duration).await?.0))
        })
        .await
    }

    async fn open(&self) -> anyhow::Result<Vec<Option<Connection>>> {
        let mut connections = Vec::new();
        for _ in 0..self.concurrency {
            connections.push(Some(Connection::open(self.addr).await.with_context(|| format!("{}", self.addr))?));
        }
        Ok(connections)
    }

    /// Drives connections for a while. Those that can be used again come back.
    async fn drive_all(
        &self,
        connections: Vec<Option<Connection>>,
        duration: Duration,
    ) -> anyhow::Result<(Load, Vec<Option<Connection>>)> {
        let start = Instant::now();
        let mut loops = JoinSet::new();
        for connection in connections {
            loops.spawn(drive(connection, self.addr, self.request.clone(), start + duration));
        }
        let (mut recorder, mut connections) = (Recorder::default(), Vec::new());
        while let Some(one) = loops.join_next().await {
            let (seen, connection) = one.context("a connection's task panicked")?;
            recorder.merge(&seen);
            connections.push(connection);
        }
        Ok((Load { recorder, elapsed: start.elapsed() }, connections))
    }
}

async fn on_a_thread<T: Send + 'static, F: Future<Output = anyhow::Result<T>>>(
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

async fn drive(
    mut connection: Option<Connection>,
    addr: SocketAddr,
    request: Bytes,
    end: Instant,
) -> (Recorder, Option<Connection>) {
    let mut recorder = Recorder::default();
    loop {
        connection = ask(connection, addr, &request, &mut recorder).await;
        if Instant::now() >= end {
            return (recorder, connection);
        }
    }
}

/// One exchange, over `connection` or a new one; gives the connection that the next may use.
async fn ask(
    connection: Option<Connection>,
    addr: SocketAddr,
    request: &Bytes,
    recorder: &mut Recorder,
) -> Option<Connection> {
    let mut open = match connection {
        Some(open) => open,
        None => match Connection::open(addr).await {
            Ok(open) => open,
            Err(failure) => {
                recorder.error(failure.name());
                // A server that takes no connections is not hammered with attempts.
                tokio::time::sleep(Duration::from_millis(10)).await;
                return None;
            }
        },
    };
    let sent = Instant::now();
    match open.exchange(request, Keep::Nothing).await {
        Ok(answer) => {
            if answer.status == 200 {
                recorder.success(answer.done - sent);
            } else {
                recorder.error(&answer.status.to_string());
            }
            answer.reusable.then_some(open)
        }
        Err(failure) => {
            recorder.error(failure.name());
            None
        }
    }
}

#[cfg(test)]
mod tests;

//! The open-loop generator: requests leave when they are due, whether earlier ones were answered or not.
//!
//! A generator that waits for answers sends less while the server stalls and so never measures the stall (coordinated
//! omission). Here the schedule is fixed beforehand, a thread of its own keeps it, and latency counts from the time that
//! was intended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::http1::{self, Answer, Connection, Failure, Keep};
use crate::outcome::Outcome;

/// What is asked, and where.
#[derive(Clone, Debug)]
pub struct Target {
    /// Server.
    pub addr: SocketAddr,
    /// Head and body of the request.
    pub request: Bytes,
    /// How much of an answer is kept.
    pub keep: Keep,
    /// The client's own patience; a server's deadline should be shorter.
    pub patience: Duration,
}

/// One planned request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shot {
    /// When, from the start of the run.
    pub at: Duration,
    /// Index of its target.
    pub target: usize,
}

/// Sends every shot of `plan` (sorted by time) when it is due and reports each outcome to `observe`, in the order of their
/// ends. It returns once all have ended.
///
/// Connections are reused, the warmest first, and opened when none is free: there are as many as requests in flight.
/// Idle ones are closed with the run.
pub async fn run(plan: Vec<Shot>, targets: &[Target], start: Instant, mut observe: impl FnMut(Outcome)) {
    let targets: Arc<[Lane]> = targets.iter().cloned().map(Lane::new).collect();
    // Room for every shot: neither the pacer nor an answer ever waits for whoever reads.
    let room = plan.len().max(1);
    let (due, mut dues) = mpsc::channel(room);
    let pacer = std::thread::spawn(move || keep_time(&plan, start, &due));
    let (ended, mut ends) = mpsc::channel(room);
    let spawner = tokio::spawn(async move {
        while let Some(shot) = dues.recv().await {
            let ended = ended.clone();
            let targets = Arc::clone(&targets);
            tokio::spawn(async move {
                if let Some(lane) = targets.get(shot.target) {
                    // The receiver is gone only when the run was given up.
                    let _ = ended.send(lane.fire(shot, start).await).await;
                }
            });
        }
    });
    while let Some(outcome) = ends.recv().await {
        observe(outcome);
    }
    // Both have ended: the last sender of outcomes lives in the spawner, whose own sender is the pacer.
    let _ = spawner.await;
    let _ = pacer.join();
}

/// The system's sleep is exact to tens of microseconds; tokio's timer to a millisecond, which would be a tenth of a cold start.
fn keep_time(plan: &[Shot], start: Instant, due: &mpsc::Sender<Shot>) {
    for shot in plan {
        let wait = (start + shot.at).saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        if due.try_send(*shot).is_err() {
            return;
        }
    }
}

/// A target with its idle connections.
#[derive(Debug)]
struct Lane {
    target: Target,
    idle: Mutex<Vec<Connection>>,
}

impl Lane {
    const fn new(target: Target) -> Self {
        Self { target, idle: Mutex::new(Vec::new()) }
    }

    async fn fire(&self, shot: Shot, start: Instant) -> Outcome {
        let sent = start.elapsed();
        let result = http1::within(self.target.patience, self.exchange()).await;
        Outcome::ended(shot, sent, start, result)
    }

    async fn exchange(&self) -> Result<Answer, Failure> {
        let mut connection = match self.checkout() {
            Some(connection) => connection,
            None => Connection::open(self.target.addr).await?,
        };
        let answer = connection.exchange(&self.target.request, self.target.keep).await?;
        if answer.reusable {
            self.idle.lock().push(connection);
        }
        Ok(answer)
    }

    fn checkout(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        while let Some(connection) = idle.pop() {
            if !connection.is_stale() {
                return Some(connection);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;

//! How many requests run at the same time, as the replica itself and the gateway say.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::scrape::{self, Page};
use crate::status::Status;

/// Rest between two rounds of looks: the herd needs the machine too.
const EVERY: Duration = Duration::from_millis(1);

/// Looks at the replica's own gauge for each at the status, which costs the stack more.
const LOOKS_PER_STATUS: u32 = 8;

/// The wrapper's gauge of requests that hold a place.
const IN_FLIGHT: &str = "kferving_wrapper_in_flight_requests";

/// The most that was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Peaks {
    /// How often the replica's own gauge was read.
    pub(super) looks: u64,
    /// Requests in flight by the wrapper's gauge.
    pub(super) by_wrapper: u32,
    /// Requests in flight on one replica by the gateway's account.
    pub(super) by_gateway: u32,
    /// Replicas of the model at the same time.
    pub(super) replicas: usize,
}

impl Peaks {
    /// The most in flight by either account.
    pub(super) fn in_flight(&self) -> u32 {
        self.by_wrapper.max(self.by_gateway)
    }
}

/// A look at the model's replicas every few milliseconds.
pub(super) struct Watch {
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<Peaks>>,
}

impl Watch {
    /// Starts looking.
    pub(super) fn start(admin: SocketAddr, model: &'static str) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(look(admin, model, stopped)) }
    }

    /// Ends looking.
    pub(super) async fn end(self) -> anyhow::Result<Peaks> {
        // The task has ended by itself only when it failed, which it then returns.
        let _ = self.stop.send(());
        self.task.await.context("the watch panicked")?
    }
}

async fn look(admin: SocketAddr, model: &str, mut stopped: oneshot::Receiver<()>) -> anyhow::Result<Peaks> {
    let mut peaks = Peaks::default();
    let mut status_page = Page::new(admin, Status::PATH);
    let mut replica_page: Option<(u32, Page)> = None;
    while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
        let status = Status::read(&mut status_page).await?;
        let replicas: Vec<_> = status.replicas_of(model).collect();
        peaks.replicas = peaks.replicas.max(replicas.len());
        for replica in replicas {
            peaks.by_gateway = peaks.by_gateway.max(replica.in_flight);
            let Some(pid) = replica.pid else { continue };
            if replica_page.as_ref().is_none_or(|(known, _)| *known != pid) {
                replica_page = scrape::find(pid, IN_FLIGHT).await.map(|page| (pid, page));
            }
            let Some((_, page)) = &mut replica_page else { continue };
            for _ in 0..LOOKS_PER_STATUS {
                // A replica that is going away may not answer any more.
                let Ok(samples) = page.samples(IN_FLIGHT).await else { break };
                peaks.looks += 1;
                peaks.by_wrapper = peaks.by_wrapper.max(samples.into_iter().fold(0.0, f64::max) as u32);
            }
        }
        tokio::time::sleep(EVERY).await;
    }
    Ok(peaks)
}

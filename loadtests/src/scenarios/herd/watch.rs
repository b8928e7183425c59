//! How many requests run at the same time, as the replica itself and the gateway say.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::scrape;
use crate::status::Status;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(3);

/// The wrapper's gauge of requests that hold a place.
const IN_FLIGHT: &str = "kferving_wrapper_in_flight_requests";

/// The most that was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Peaks {
    /// Times that the replica's own gauge was read.
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
    let mut metrics: Option<(u32, SocketAddr)> = None;
    while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
        let status = Status::ask(admin).await?;
        let replicas: Vec<_> = status.replicas_of(model).collect();
        peaks.replicas = peaks.replicas.max(replicas.len());
        for replica in replicas {
            peaks.by_gateway = peaks.by_gateway.max(replica.in_flight);
            let Some(pid) = replica.pid else { continue };
            if metrics.is_none_or(|(known, _)| known != pid) {
                metrics = scrape::find(pid, IN_FLIGHT).await.map(|addr| (pid, addr));
            }
            let Some((_, addr)) = metrics else { continue };
            // A replica that is going away may not answer any more.
            if let Ok(page) = scrape::page(addr).await {
                peaks.looks += 1;
                let most = scrape::samples(&page, IN_FLIGHT).into_iter().fold(0.0, f64::max);
                peaks.by_wrapper = peaks.by_wrapper.max(most as u32);
            }
        }
        tokio::time::sleep(EVERY).await;
    }
    Ok(peaks)
}

//! The stream to the autoscaler: demand up, replicas down.

mod session;
mod snapshot;

use std::path::PathBuf;
use std::time::Duration;

use prometheus::IntCounter;
use tokio::sync::mpsc;
use tokio::time::Instant;

use autoscaler_demand::replica_fault::Kind as FaultKind;
use autoscaler_demand::{Held, ReplicaFault};
use poolctl_runtime::Shutdown;

use crate::gateway::Gateway;
use crate::model::ModelKey;
use crate::replica::ReplicaId;
use session::SessionEnd;

/// Where the autoscaler listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DemandTarget {
    /// A Unix socket of this machine.
    Unix(PathBuf),
    /// `http://HOST:PORT`.
    Tcp(String),
}

impl DemandTarget {
    fn uri(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix://{}", path.display()),
            Self::Tcp(url) => url.clone(),
        }
    }
}

/// Immediate messages that may wait for the stream. More of them say nothing that the next snapshot does not.
const URGENT_BOUND: usize = 1024;

/// The first pause before a reconnect; each further one is twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// The longest pause before a reconnect: short against the panic window of scaling.
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

/// What must not wait for the next snapshot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Urgent {
    Held { key: ModelKey, held: u32 },
    Fault(ReplicaFault),
}

/// What was wrong with a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Unreachable,
    Misdirected,
}

/// Where serving threads leave immediate messages. It never waits: what finds no room is in the next snapshot.
#[derive(Clone)]
pub(crate) struct Outbox {
    sender: mpsc::Sender<Urgent>,
    dropped: IntCounter,
}

impl Outbox {
    pub(crate) fn new(dropped: IntCounter) -> (Self, mpsc::Receiver<Urgent>) {
        let (sender, receiver) = mpsc::channel(URGENT_BOUND);
        (Self { sender, dropped }, receiver)
    }

    pub(crate) fn held(&self, key: &ModelKey, held: usize) {
        self.leave(Urgent::Held { key: key.clone(), held: u32::try_from(held).unwrap_or(u32::MAX) });
    }

    pub(crate) fn fault(&self, id: &ReplicaId, fault: Fault) {
        let kind = match fault {
            Fault::Unreachable => FaultKind::Unreachable,
            Fault::Misdirected => FaultKind::Misdirected,
        };
        self.leave(Urgent::Fault(ReplicaFault {
            revision: id.revision.clone(),
            uid: id.uid.clone(),
            kind: kind.into(),
        }));
    }

    fn leave(&self, urgent: Urgent) {
        if self.sender.try_send(urgent).is_err() {
            self.dropped.inc();
        }
    }
}

impl Urgent {
    fn into_message(self, sequence: &mut u64) -> autoscaler_demand::gateway_message::Kind {
        use autoscaler_demand::gateway_message::Kind;
        match self {
            Self::Held { key, held } => {
                *sequence += 1;
                Kind::Held(Held { sequence: *sequence, namespace: key.namespace, model: key.name, held })
            }
            Self::Fault(fault) => Kind::Fault(fault),
        }
    }
}

impl Gateway {
    /// Keeps a demand stream to the autoscaler at `target` until shutdown, in the background of the current runtime.
    ///
    /// While the autoscaler is away the last known replicas stay in use. A gateway has one such stream: further calls do
    /// nothing but log.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect_demand(&self, target: DemandTarget, gateway_id: impl Into<String>, shutdown: Shutdown) {
        let Some(mut urgent) = self.inner.take_urgent() else {
            tracing::error!("this gateway is connected to an autoscaler already");
            return;
        };
        let inner = self.inner.clone();
        let gateway_id = gateway_id.into();
        tokio::spawn(async move {
            let mut target = target.clone();
            let configured = target.clone();
            let mut backoff = FIRST_BACKOFF;
            while !shutdown.is_requested() {
                // What piled up meanwhile is older than the snapshot that opens the stream.
                while urgent.try_recv().is_ok() {}
                let opened = Instant::now();
                let end = session::run(&inner, &target, &gateway_id, &mut urgent, &shutdown).await;
                inner.metrics.demand_connected.set(0);
                if opened.elapsed() > LONGEST_BACKOFF {
                    backoff = FIRST_BACKOFF;
                }
                match end {
                    SessionEnd::Shutdown => return,
                    // Not at once: while a leader is elected, two may each name the other.
                    SessionEnd::Redirected(Some(leader)) => target = leader,
                    SessionEnd::Redirected(None) => {}
                    SessionEnd::Lost(error) => {
                        tracing::warn!(target = target.uri(), error, "the demand stream ended: reconnecting");
                        target = configured.clone();
                    }
                }
                tokio::select! {
                    () = shutdown.requested() => return,
                    () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(LONGEST_BACKOFF),
                }
            }
        });
    }
}

//! One demand stream, from Hello to its end.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use autoscaler_demand::autoscaler_message::Kind as Told;
use autoscaler_demand::demand_client::DemandClient;
use autoscaler_demand::gateway_message::Kind as Tell;
use autoscaler_demand::{AutoscalerMessage, GatewayMessage, Hello, KnownReplica, ModelState, RemovalAck, ReplicaAdded};
use gateway_policy::Device;
use poolctl_runtime::Shutdown;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::snapshot::Snapshots;
use super::{DemandTarget, Urgent};
use crate::error::Reason;
use crate::gateway::Inner;
use crate::model::{ModelKey, Trouble};
use crate::replica::{Activation, Origin, ReplicaId, ReplicaSpec, Terms};

/// How often the whole demand is sent.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);

/// Longest wait for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Silence after which the autoscaler is asked whether it is still there, and how long it has to say so: one that is stopped,
/// or whose machine is gone, ends no stream, and another may lead already.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Messages on their way into the stream.
const OUTGOING_BOUND: usize = 256;

/// How a stream ended.
pub(super) enum SessionEnd {
    Shutdown,
    /// To the leader's address, if there is a leader.
    Redirected(Option<DemandTarget>),
    Lost(String),
}

/// One stream.
struct Session<'a> {
    inner: &'a Arc<Inner>,
    outgoing: mpsc::Sender<GatewayMessage>,
    /// Replicas that the autoscaler named in this stream.
    announced: HashSet<ReplicaId>,
}

pub(super) async fn run(
    inner: &Arc<Inner>,
    target: &DemandTarget,
    gateway_id: &str,
    urgent: &mut mpsc::Receiver<Urgent>,
    shutdown: &Shutdown,
) -> SessionEnd {
    tokio::select! {
        () = shutdown.requested() => SessionEnd::Shutdown,
        end = converse(inner, target, gateway_id, urgent) => end.map_or_else(SessionEnd::Lost, SessionEnd::Redirected),
    }
}

/// Talks until the stream ends; `Ok` when it was redirected.
async fn converse(
    inner: &Arc<Inner>,
    target: &DemandTarget,
    gateway_id: &str,
    urgent: &mut mpsc::Receiver<Urgent>,
) -> Result<Option<DemandTarget>, String> {
    let endpoint = Endpoint::from_shared(target.uri()).map_err(|error| format!("bad address: {error}"))?;
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
    let endpoint = endpoint.http2_keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE);
    let channel = endpoint.connect().await.map_err(|error| describe(&error))?;
    let (outgoing, messages) = mpsc::channel(OUTGOING_BOUND);
    let mut session = Session { inner, outgoing, announced: HashSet::new() };
    session.tell(session.hello(gateway_id)).await?;
    let mut sequence = 0;
    let mut snapshots = Snapshots::new(inner);
    session.tell(Tell::Snapshot(snapshots.next(inner, &mut sequence))).await?;
    let mut client = DemandClient::new(channel);
    let response = client.report(ReceiverStream::new(messages)).await.map_err(|status| status.to_string())?;
    let mut incoming = response.into_inner();
    inner.metrics.demand_connected.set(1);
    let mut tick = tokio::time::interval_at(Instant::now() + SNAPSHOT_INTERVAL, SNAPSHOT_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            message = incoming.message() => match message {
                Ok(Some(AutoscalerMessage { kind: Some(told) })) => {
                    if let Some(redirect) = session.hear(told).await? {
                        return Ok(redirect);
                    }
                }
                Ok(Some(AutoscalerMessage { kind: None })) => tracing::debug!("a demand message of an unknown kind"),
                Ok(None) => return Err("the autoscaler ended it".to_owned()),
                Err(status) => return Err(status.to_string()),
            },
            Some(message) = urgent.recv() => session.tell(message.into_message(&mut sequence)).await?,
            _ = tick.tick() => session.tell(Tell::Snapshot(snapshots.next(inner, &mut sequence))).await?,
        }
    }
}

fn describe(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

impl Session<'_> {
    async fn tell(&self, kind: Tell) -> Result<(), String> {
        let message = GatewayMessage { kind: Some(kind) };
        self.outgoing.send(message).await.map_err(|_| "the stream is closed".to_owned())
    }

    fn hello(&self, gateway_id: &str) -> Tell {
        let known =
            |spec: ReplicaSpec| KnownReplica { revision: spec.id.revision, uid: spec.id.uid, claim_id: spec.claim_id };
        Tell::Hello(Hello {
            gateway_id: gateway_id.to_owned(),
            epoch: self.inner.epoch,
            replicas: self.inner.claimed().into_iter().map(known).collect(),
        })
    }

    /// Acts on a message; `Some` when the stream is redirected.
    async fn hear(&mut self, told: Told) -> Result<Option<Option<DemandTarget>>, String> {
        match told {
            Told::Welcome(welcome) => {
                tracing::debug!(leader = welcome.leader_id, synced = welcome.synced, "the autoscaler says welcome");
                if welcome.synced {
                    self.inner.retain_claimed(&self.announced);
                }
            }
            Told::Redirect(redirect) => {
                let leader = (!redirect.leader.is_empty()).then(|| target_of(&redirect.leader));
                return Ok(Some(leader));
            }
            Told::Added(added) => self.add(added),
            Told::Removing(removing) => {
                self.remove(&removing.revision, &removing.uid);
                self.tell(Tell::RemovalAck(RemovalAck { revision: removing.revision, uid: removing.uid })).await?;
            }
            Told::Gone(gone) => self.remove(&gone.revision, &gone.uid),
            Told::Model(state) => self.note_state(state),
        }
        Ok(None)
    }

    fn add(&mut self, added: ReplicaAdded) {
        let (key, spec, terms) = match spec_of(added) {
            Ok(parsed) => parsed,
            Err(error) => {
                tracing::error!(error, "the autoscaler announced a replica that cannot be used");
                return;
            }
        };
        self.announced.insert(spec.id.clone());
        self.inner.add_claimed(key, spec, terms);
    }

    fn remove(&mut self, revision: &str, uid: &str) {
        let id = ReplicaId { revision: revision.to_owned(), uid: uid.to_owned() };
        self.announced.remove(&id);
        self.inner.remove_claimed(&id);
    }

    fn note_state(&self, state: ModelState) {
        let table = self.inner.table.load();
        let Some(model) = table.get(&state.namespace, &state.model) else { return };
        model.set_trouble((!state.reason.is_empty()).then(|| Trouble {
            reason: Reason::of_unavailable(&state.reason),
            message: state.message,
            retry_after: (state.retry_after_ms > 0).then(|| Duration::from_millis(state.retry_after_ms)),
        }));
    }
}

/// A leader's address: a URL, or HOST:PORT.
fn target_of(leader: &str) -> DemandTarget {
    match leader.strip_prefix("unix://") {
        Some(path) => DemandTarget::Unix(path.into()),
        None if leader.contains("://") => DemandTarget::Tcp(leader.to_owned()),
        None => DemandTarget::Tcp(format!("http://{leader}")),
    }
}

fn spec_of(added: ReplicaAdded) -> Result<(ModelKey, ReplicaSpec, Terms), String> {
    let addr: SocketAddr = added.address.parse().map_err(|_| format!("address {:?} is not IP:PORT", added.address))?;
    let device: Device = added.device.parse().map_err(|error: gateway_policy::ParseDeviceError| error.to_string())?;
    let activation = added.phases.map(|phases| Activation {
        backoff: Duration::from_micros(phases.backoff_us),
        claim: Duration::from_micros(phases.claim_us),
        specialize: Duration::from_micros(phases.specialize_us),
        load: Duration::from_micros(phases.load_us),
    });
    let spec = ReplicaSpec {
        id: ReplicaId { revision: added.revision, uid: added.uid },
        origin: Origin::Claimed,
        claim_id: added.claim_id,
        name: added.name,
        addr,
        device,
        digest: added.digest,
        activation,
    };
    let terms = Terms { cost: added.cost, concurrency: added.concurrency };
    Ok((ModelKey { namespace: added.namespace, name: added.model }, spec, terms))
}

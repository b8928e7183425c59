//! A gateway's end of the demand stream, with its replicas and its clients' requests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use autoscaler_demand::autoscaler_message::Kind as Told;
use autoscaler_demand::demand_client::DemandClient;
use autoscaler_demand::gateway_message::Kind;
use autoscaler_demand::{
    AutoscalerMessage, GatewayMessage, Held, Hello, KnownReplica, ModelDemand, ModelState, RemovalAck, ReplicaAdded,
    Snapshot, VariantDemand,
};
use parking_lot::Mutex;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use crate::stack::{NAMESPACE, PATIENCE};

/// What the gateway knows. It survives the autoscaler, as a gateway's process does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) synced: bool,
    pub(crate) replicas: BTreeMap<String, ReplicaAdded>,
    /// Replicas that it was asked to stop using.
    pub(crate) removed: Vec<String>,
    pub(crate) models: BTreeMap<String, ModelState>,
    /// How often it was told that a model is in trouble.
    pub(crate) troubles: usize,
}

/// A gateway that speaks the demand protocol and forwards nothing.
#[derive(Clone)]
pub(crate) struct FakeGateway {
    known: Arc<watch::Sender<Known>>,
    demand: Arc<Mutex<BTreeMap<String, ModelDemand>>>,
    connection: Arc<Mutex<Option<Connection>>>,
    id: &'static str,
}

struct Connection {
    streams: JoinHandle<()>,
    up: Option<Up>,
}

/// The sending side of the stream that is open.
struct Up {
    messages: mpsc::Sender<GatewayMessage>,
    sequence: u64,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.streams.abort();
    }
}

impl Up {
    fn send(&mut self, kind: impl FnOnce(u64) -> Kind) {
        self.sequence += 1;
        // An error means that the stream has ended: the next one begins with a snapshot.
        let _ = self.messages.try_send(message(kind(self.sequence)));
    }
}

fn message(kind: Kind) -> GatewayMessage {
    GatewayMessage { kind: Some(kind) }
}

impl FakeGateway {
    pub(crate) fn new(id: &'static str) -> Self {
        Self { known: Arc::default(), demand: Arc::default(), connection: Arc::default(), id }
    }

    /// Opens a stream, as after a start or when the old one broke, and again whenever it is sent away.
    pub(crate) async fn connect(&self, socket: &Path) {
        self.known.send_modify(|known| known.synced = false);
        let channel = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap().connect().await.unwrap();
        let streams = {
            let gateway = self.clone();
            tokio::spawn(async move {
                loop {
                    gateway.stream(DemandClient::new(channel.clone())).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        };
        *self.connection.lock() = Some(Connection { streams, up: None });
    }

    /// Closes the stream; what is known stays.
    pub(crate) fn disconnect(&self) {
        *self.connection.lock() = None;
    }

    /// One stream, until it ends.
    async fn stream(&self, mut client: DemandClient<Channel>) {
        let (up, messages) = mpsc::channel(1024);
        let reported =
            |added: ReplicaAdded| KnownReplica { revision: added.revision, uid: added.uid, claim_id: added.claim_id };
        let replicas = self.known().replicas.into_values().map(reported).collect();
        let hello = Hello { gateway_id: self.id.to_owned(), epoch: 1, replicas };
        up.try_send(message(Kind::Hello(hello))).unwrap();
        let Ok(reply) = client.report(ReceiverStream::new(messages)).await else { return };
        let mut down = reply.into_inner();
        match &mut *self.connection.lock() {
            Some(connection) => connection.up = Some(Up { messages: up.clone(), sequence: 0 }),
            None => return,
        }
        let mut named = Vec::new();
        let mut report = tokio::time::interval(Duration::from_millis(200));
        loop {
            tokio::select! {
                received = down.message() => match received {
                    Ok(Some(AutoscalerMessage { kind: Some(kind) })) => self.take(kind, &mut named, &up),
                    _ => return,
                },
                _ = report.tick() => self.report(),
            }
        }
    }

    fn take(&self, kind: Told, named: &mut Vec<String>, up: &mpsc::Sender<GatewayMessage>) {
        match kind {
            Told::Welcome(welcome) if welcome.synced => self.known.send_modify(|known| {
                known.replicas.retain(|uid, _| named.contains(uid));
                known.synced = true;
            }),
            Told::Welcome(_) | Told::Redirect(_) => {}
            Told::Added(added) => {
                named.push(added.uid.clone());
                self.known.send_modify(|known| {
                    known.replicas.insert(added.uid.clone(), added);
                });
            }
            Told::Removing(removing) => {
                self.known.send_modify(|known| {
                    known.replicas.remove(&removing.uid);
                    known.removed.push(removing.uid.clone());
                });
                let ack = RemovalAck { revision: removing.revision, uid: removing.uid };
                let _ = up.try_send(message(Kind::RemovalAck(ack)));
            }
            Told::Gone(gone) => self.known.send_modify(|known| {
                known.replicas.remove(&gone.uid);
            }),
            Told::Model(state) => self.known.send_modify(|known| {
                known.troubles += usize::from(!state.reason.is_empty());
                known.models.insert(state.model.clone(), state);
            }),
        }
    }

    /// From now on this many requests wait for, or run on, a replica of the model.
    pub(crate) fn wants(&self, model: &str, requests: u32) {
        let demand = ModelDemand {
            namespace: NAMESPACE.to_owned(),
            model: model.to_owned(),
            held: requests,
            in_flight: 0,
            arrivals: u64::from(requests),
            average_concurrency: f64::from(requests),
            variants: vec![VariantDemand { device: "cpu".to_owned(), in_flight: 0, service_times: Vec::new() }],
        };
        self.demand.lock().insert(model.to_owned(), demand);
    }

    /// A request came and there is no replica: says so at once.
    pub(crate) fn hold(&self, model: &str) {
        self.wants(model, 1);
        let (namespace, model) = (NAMESPACE.to_owned(), model.to_owned());
        self.send(|sequence| Kind::Held(Held { sequence, namespace, model, held: 1 }));
    }

    fn report(&self) {
        let known = self.known();
        let mut models: Vec<_> = self.demand.lock().values().cloned().collect();
        for model in &mut models {
            // Held requests run as soon as there is a replica.
            if known.replicas.values().any(|added| added.model == model.model) {
                model.in_flight = std::mem::take(&mut model.held);
                model.variants[0].in_flight = model.in_flight;
            }
        }
        self.send(|sequence| Kind::Snapshot(Snapshot { sequence, models }));
    }

    fn send(&self, kind: impl FnOnce(u64) -> Kind) {
        if let Some(Connection { up: Some(up), .. }) = &mut *self.connection.lock() {
            up.send(kind);
        }
    }

    /// What is known once `condition` holds.
    pub(crate) async fn until(&self, what: &str, condition: impl FnMut(&Known) -> bool) -> Known {
        let mut known = self.known.subscribe();
        let waited = tokio::time::timeout(PATIENCE, known.wait_for(condition)).await;
        match waited {
            Ok(known) => known.unwrap().clone(),
            Err(_) => panic!("{what}: not within {PATIENCE:?}; known: {:?}", *self.known.borrow()),
        }
    }

    pub(crate) async fn until_served(&self, model: &str) -> ReplicaAdded {
        let mut found = None;
        self.until(&format!("a replica for {model}"), |known| {
            found = known.replicas.values().find(|added| added.model == model).cloned();
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    pub(crate) fn known(&self) -> Known {
        self.known.borrow().clone()
    }
}

/// A listener on a Unix socket in `directory`, and its path.
pub(crate) fn listen(directory: &Path) -> (PathBuf, UnixListener) {
    static SOCKETS: AtomicUsize = AtomicUsize::new(0);
    let path = directory.join(format!("demand-{}.sock", SOCKETS.fetch_add(1, Ordering::Relaxed)));
    let listener = UnixListener::bind(&path).unwrap();
    (path, listener)
}

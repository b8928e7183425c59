//! A gateway's end of the demand stream, with its replicas and its clients' requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use autoscaler_demand::autoscaler_message::Kind;
use autoscaler_demand::demand_client::DemandClient;
use autoscaler_demand::{
    AutoscalerMessage, GatewayMessage, Held, Hello, KnownReplica, ModelDemand, ModelState, RemovalAck, ReplicaAdded,
    Snapshot, VariantDemand, gateway_message,
};
use parking_lot::Mutex;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use crate::stack::{NAMESPACE, PATIENCE};

/// What the gateway knows. It survives the autoscaler, as a gateway's process does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) synced: bool,
    pub(crate) replicas: BTreeMap<String, ReplicaAdded>,
    /// Replicas that it was asked to stop using.
    pub(crate) removed: Vec<String>,
    pub(crate) models: BTreeMap<String, ModelState>,
}

/// A gateway that speaks the demand protocol and forwards nothing.
#[derive(Clone)]
pub(crate) struct FakeGateway {
    known: Arc<watch::Sender<Known>>,
    demand: Arc<Mutex<BTreeMap<String, ModelDemand>>>,
    stream: Arc<Mutex<Option<Stream>>>,
    id: &'static str,
}

struct Stream {
    up: mpsc::Sender<GatewayMessage>,
    sequence: u64,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn up(kind: gateway_message::Kind) -> GatewayMessage {
    GatewayMessage { kind: Some(kind) }
}

impl FakeGateway {
    pub(crate) fn new(id: &'static str) -> Self {
        Self { known: Arc::default(), demand: Arc::default(), stream: Arc::default(), id }
    }

    /// Opens a stream, as after a start or when the old one broke.
    pub(crate) async fn connect(&self, socket: &std::path::Path) {
        let uri = format!("unix://{}", socket.display());
        let channel = Endpoint::from_shared(uri).unwrap().connect().await.unwrap();
        let (up_sender, up_receiver) = mpsc::channel(1024);
        let reported =
            |added: ReplicaAdded| KnownReplica { revision: added.revision, uid: added.uid, claim_id: added.claim_id };
        let replicas = self.known().replicas.into_values().map(reported).collect();
        let hello = Hello { gateway_id: self.id.to_owned(), epoch: 1, replicas };
        up_sender.send(up(gateway_message::Kind::Hello(hello))).await.unwrap();
        self.known.send_modify(|known| known.synced = false);
        let reply = DemandClient::new(channel).report(ReceiverStream::new(up_receiver)).await.unwrap();
        let mut down = reply.into_inner();
        let reader = {
            let (gateway, acks) = (self.clone(), up_sender.clone());
            tokio::spawn(async move {
                let mut named = Vec::new();
                while let Ok(Some(AutoscalerMessage { kind: Some(kind) })) = down.message().await {
                    gateway.take(kind, &mut named, &acks).await;
                }
            })
        };
        let reporter = {
            let gateway = self.clone();
            tokio::spawn(async move {
                loop {
                    gateway.report();
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            })
        };
        *self.stream.lock() = Some(Stream { up: up_sender, sequence: 0, tasks: vec![reader, reporter] });
    }

    /// Closes the stream; what is known stays.
    pub(crate) fn disconnect(&self) {
        *self.stream.lock() = None;
    }

    async fn take(&self, kind: Kind, named: &mut Vec<String>, acks: &mpsc::Sender<GatewayMessage>) {
        match kind {
            Kind::Welcome(welcome) if welcome.synced => self.known.send_modify(|known| {
                known.replicas.retain(|uid, _| named.contains(uid));
                known.synced = true;
            }),
            Kind::Welcome(_) | Kind::Redirect(_) => {}
            Kind::Added(added) => {
                named.push(added.uid.clone());
                self.known.send_modify(|known| {
                    known.replicas.insert(added.uid.clone(), added);
                });
            }
            Kind::Removing(removing) => {
                self.known.send_modify(|known| {
                    known.replicas.remove(&removing.uid);
                    known.removed.push(removing.uid.clone());
                });
                let ack = RemovalAck { revision: removing.revision, uid: removing.uid };
                let _ = acks.send(up(gateway_message::Kind::RemovalAck(ack))).await;
            }
            Kind::Gone(gone) => self.known.send_modify(|known| {
                known.replicas.remove(&gone.uid);
            }),
            Kind::Model(state) => self.known.send_modify(|known| {
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
        if let Some(stream) = &mut *self.stream.lock() {
            stream.sequence += 1;
            let held =
                Held { sequence: stream.sequence, namespace: NAMESPACE.to_owned(), model: model.to_owned(), held: 1 };
            let _ = stream.up.try_send(up(gateway_message::Kind::Held(held)));
        }
    }

    fn report(&self) {
        let known = self.known.borrow().clone();
        let mut models: Vec<_> = self.demand.lock().values().cloned().collect();
        for model in &mut models {
            // Held requests run as soon as there is a replica.
            if known.replicas.values().any(|added| added.model == model.model) {
                model.in_flight = std::mem::take(&mut model.held);
                model.variants[0].in_flight = model.in_flight;
            }
        }
        if let Some(stream) = &mut *self.stream.lock() {
            stream.sequence += 1;
            let snapshot = Snapshot { sequence: stream.sequence, models };
            let _ = stream.up.try_send(up(gateway_message::Kind::Snapshot(snapshot)));
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

/// A free path for a Unix socket, and its listener.
pub(crate) fn listen(directory: &std::path::Path, name: &str) -> (std::path::PathBuf, UnixListener) {
    let path = directory.join(format!("{name}-{:?}.sock", Instant::now()).replace(['{', '}', ' ', ':', ','], ""));
    let listener = UnixListener::bind(&path).unwrap();
    (path, listener)
}

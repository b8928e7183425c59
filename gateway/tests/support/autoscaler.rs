//! An autoscaler that records what it is told and says what the test wants.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use autoscaler_demand::autoscaler_message::Kind as Told;
use autoscaler_demand::demand_server::{Demand, DemandServer};
use autoscaler_demand::gateway_message::Kind as Tell;
use autoscaler_demand::{AutoscalerMessage, GatewayMessage, ReplicaAdded, Welcome};
use futures::Stream;
use parking_lot::Mutex;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

#[derive(Default)]
struct Shared {
    heard: Mutex<Vec<Tell>>,
    streams: Mutex<Vec<mpsc::Sender<Result<AutoscalerMessage, Status>>>>,
}

/// Serves the demand stream on a Unix socket.
pub struct FakeAutoscaler {
    pub socket: PathBuf,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Service(Arc<Shared>);

#[tonic::async_trait]
impl Demand for Service {
    type ReportStream = Pin<Box<dyn Stream<Item = Result<AutoscalerMessage, Status>> + Send>>;

    async fn report(
        &self,
        request: Request<Streaming<GatewayMessage>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let (sender, receiver) = mpsc::channel(1024);
        self.0.streams.lock().push(sender);
        let shared = Arc::clone(&self.0);
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(message)) = incoming.next().await {
                shared.heard.lock().extend(message.kind);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl FakeAutoscaler {
    pub fn start(socket: PathBuf) -> Self {
        let shared = Arc::new(Shared::default());
        let listener = UnixListener::bind(&socket).unwrap();
        let service = DemandServer::new(Service(Arc::clone(&shared)));
        let server = tokio::spawn(async move {
            let incoming = UnixListenerStream::new(listener);
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        Self { socket, shared, server }
    }

    /// What gateways said so far.
    pub fn heard(&self) -> Vec<Tell> {
        self.shared.heard.lock().clone()
    }

    /// Says something to every gateway.
    pub async fn say(&self, told: Told) {
        let streams = self.shared.streams.lock().clone();
        for stream in streams {
            // A stream that ended has nobody to tell.
            let _ = stream.send(Ok(AutoscalerMessage { kind: Some(told.clone()) })).await;
        }
    }

    pub async fn welcome(&self, synced: bool) {
        self.say(Told::Welcome(Welcome { leader_id: "fake".to_owned(), synced })).await;
    }

    /// Announces a replica of `model`.
    pub async fn add(&self, model: &str, uid: &str, addr: SocketAddr, concurrency: u32) {
        self.say(Told::Added(added(model, uid, addr, concurrency))).await;
    }

    /// Ends all streams.
    pub fn hang_up(&self) {
        self.shared.streams.lock().clear();
    }
}

impl Drop for FakeAutoscaler {
    fn drop(&mut self) {
        self.server.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

pub fn added(model: &str, uid: &str, addr: SocketAddr, concurrency: u32) -> ReplicaAdded {
    ReplicaAdded {
        namespace: "vision".to_owned(),
        model: model.to_owned(),
        revision: format!("vision/{model}-cpu-00001"),
        digest: "sha256:00".to_owned(),
        uid: uid.to_owned(),
        claim_id: format!("claim-{uid}"),
        name: format!("wrapper-{uid}"),
        address: addr.to_string(),
        device: "cpu".to_owned(),
        concurrency,
        cost: 1.0,
        phases: Some(autoscaler_demand::ActivationPhases {
            backoff_us: 500_000,
            claim_us: 1000,
            specialize_us: 2000,
            load_us: 3000,
        }),
    }
}

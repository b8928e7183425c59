//! The gRPC side of the demand stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use autoscaler_demand::demand_server::{Demand, DemandServer};
use autoscaler_demand::gateway_message::Kind;
use autoscaler_demand::{AutoscalerMessage, GatewayMessage, Hello, Redirect, autoscaler_message};
use autoscaler_policy::claim::Event;
use autoscaler_policy::{ModelKey, Uid};
use futures::{Stream, StreamExt, stream};
use poolctl_cluster::Cluster;
use poolctl_runtime::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use super::reports::model_reports;
use super::{Freshness, Outbox, SessionId};
use crate::admin::ReplicaAdmin;
use crate::autoscaler::{Autoscaler, Shared};

/// A gateway must say hello within this time after it has opened a stream.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest message taken: a snapshot of 10,000 models in two variants with all ten size classes has about 6 MB.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Time after which a quiet connection is probed, so that the stream of a gateway whose machine is gone ends.
const KEEPALIVE: Duration = Duration::from_secs(10);

type Messages = Pin<Box<dyn Stream<Item = Result<AutoscalerMessage, Status>> + Send>>;

impl<C: Cluster, A: ReplicaAdmin> Autoscaler<C, A> {
    /// Serves gateways on `incoming` (Unix or TCP connections) until `shutdown`.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn serve_demand<I, IO>(&self, incoming: I, shutdown: Shutdown) -> Result<(), tonic::transport::Error>
    where
        I: Stream<Item = io::Result<IO>> + Send,
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let service =
            DemandServer::new(DemandService { shared: Arc::clone(self.shared()), shutdown: shutdown.clone() })
                .max_decoding_message_size(MAX_MESSAGE_BYTES);
        tonic::transport::Server::builder()
            .tcp_nodelay(true)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, shutdown.requested())
            .await
    }
}

struct DemandService<C, A> {
    shared: Arc<Shared<C, A>>,
    shutdown: Shutdown,
}

#[tonic::async_trait]
impl<C: Cluster, A: ReplicaAdmin> Demand for DemandService<C, A> {
    type ReportStream = Messages;

    async fn report(&self, request: Request<Streaming<GatewayMessage>>) -> Result<Response<Messages>, Status> {
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded(format!("no hello within {HELLO_TIMEOUT:?}")))??;
        let Some(GatewayMessage { kind: Some(Kind::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first message of a stream must be Hello"));
        };
        if hello.gateway_id.is_empty() {
            return Err(Status::invalid_argument("gateway_id is empty: expected a name that is unique among gateways"));
        }
        let Some(outbox) = open(&self.shared, hello) else {
            let redirect = autoscaler_message::Kind::Redirect(Redirect { leader: String::new() });
            let message = AutoscalerMessage { kind: Some(redirect) };
            return Ok(Response::new(stream::iter([Ok(message)]).boxed()));
        };
        let Outbox { session, messages, ended } = outbox;
        let shared = Arc::clone(&self.shared);
        let stopping = self.shutdown.requested();
        tokio::spawn(async move {
            // The session is closed even where reading panics, so that removals never wait for it.
            let session = OpenSession { shared, id: session };
            tokio::select! {
                () = read(&session, &mut incoming) => {}
                () = ended.cancelled() => {}
                () = stopping => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(messages).map(Ok).boxed()))
    }
}

/// A session of a stream that is being read; dropped, it is closed.
struct OpenSession<C: Cluster, A: ReplicaAdmin> {
    shared: Arc<Shared<C, A>>,
    id: SessionId,
}

impl<C: Cluster, A: ReplicaAdmin> Drop for OpenSession<C, A> {
    fn drop(&mut self) {
        self.shared.lead(|leader, tasks| leader.gateway_left(self.id, tasks));
    }
}

fn open<C: Cluster, A: ReplicaAdmin>(shared: &Arc<Shared<C, A>>, hello: Hello) -> Option<Outbox> {
    shared.metrics.messages.with_label_values(&["hello"]).inc();
    shared.lead(|leader, tasks| leader.gateway_joined(hello, tasks))
}

async fn read<C: Cluster, A: ReplicaAdmin>(session: &OpenSession<C, A>, incoming: &mut Streaming<GatewayMessage>) {
    loop {
        match incoming.message().await {
            Ok(Some(message)) => session.take(message),
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(%status, "a gateway's stream broke");
                return;
            }
        }
    }
}

impl<C: Cluster, A: ReplicaAdmin> OpenSession<C, A> {
    fn take(&self, message: GatewayMessage) {
        let Shared { metrics, clock, .. } = &*self.shared;
        let count = |kind: &str| metrics.messages.with_label_values(&[kind]).inc();
        match message.kind {
            Some(Kind::Snapshot(snapshot)) => {
                count("snapshot");
                let reports = model_reports(&snapshot.models);
                self.shared.lead(|leader, tasks| {
                    let now = clock.now();
                    if let Freshness::Fresh(gateway) = leader.gateways.heard(self.id, snapshot.sequence, now) {
                        leader.snapshot(&gateway, &reports, tasks);
                    }
                });
            }
            Some(Kind::Held(held)) => {
                count("held");
                self.shared.lead(|leader, tasks| {
                    let now = clock.now();
                    if let Freshness::Fresh(gateway) = leader.gateways.heard(self.id, held.sequence, now) {
                        leader.held(&gateway, &ModelKey::new(&held.namespace, &held.model), held.held, tasks);
                    }
                });
            }
            Some(Kind::RemovalAck(ack)) => {
                count("removal-ack");
                self.shared.lead(|leader, tasks| leader.removal_acked(self.id, &Uid::from(ack.uid), tasks));
            }
            Some(Kind::Fault(fault)) => {
                count("fault");
                let uid = Uid::from(fault.uid);
                self.shared.lead(|leader, tasks| leader.apply(Event::Fault { uid }, tasks));
            }
            Some(Kind::Hello(_)) | None => {
                count("refused");
                tracing::warn!("a gateway sent a second hello, or a message of a kind unknown to this version");
            }
        }
    }
}

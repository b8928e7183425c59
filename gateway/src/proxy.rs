//! What happens to a request once hyper has parsed it: find what it asks for, then answer or forward it.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use gateway_policy::deadline::{GRPC_TIMEOUT, effective_timeout};
use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;

use crate::body::ResponseBody;
use crate::catalogue;
use crate::error::Error;
use crate::gateway::Worker;
use crate::grpc;
use crate::inference::{Inference, Source, Wake};
use crate::model::Model;
use crate::respond::{Protocol, refusal};
use crate::route::{Action, GrpcMethod, Route};
use crate::strict_http::Violation;
use crate::table::Table;
use crate::upload::Payload;

/// How long a gRPC message may take to arrive: until the model's name is read from it, no model's timeout is known.
const UNNAMED_TIMEOUT: Duration = Duration::from_secs(60);

/// The answer to a request, made already or still to come.
///
/// A pointer in either case: hyper moves this future several times before it first polls it, and the future of a whole
/// request with it if it were in here.
pub(crate) enum Answering {
    /// Taken when it was given.
    Made(Option<Box<Response<ResponseBody>>>),
    Coming(Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>>),
}

impl Future for Answering {
    type Output = Response<ResponseBody>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<ResponseBody>> {
        match &mut *self {
            Self::Made(response) => response.take().map_or(Poll::Pending, |response| Poll::Ready(*response)),
            Self::Coming(response) => response.as_mut().poll(cx),
        }
    }
}

impl Answering {
    fn made(response: Response<ResponseBody>) -> Self {
        Self::Made(Some(Box::new(response)))
    }
}

impl Worker {
    /// Answers one request of the client at `caller`.
    pub(crate) fn answer(self: &Arc<Self>, request: Request<Incoming>, caller: IpAddr) -> Answering {
        if let Some(violation) = Violation::in_request(&request) {
            return Answering::made(self.refuse(&Error::Http(violation), Protocol::Rest));
        }
        let (parts, incoming) = request.into_parts();
        let protocol = protocol_of(&parts);
        self.dispatch(parts, incoming, protocol, caller)
            .unwrap_or_else(|error| Answering::made(self.refuse(&error, protocol)))
    }

    /// Refuses a request that is about no model.
    fn refuse(&self, error: &Error, protocol: Protocol) -> Response<ResponseBody> {
        self.inner.metrics.count_unrouted(error.http_status(), error.reason().as_str());
        refusal(error, protocol)
    }

    /// An error here is one of routing: of no model.
    fn dispatch(
        self: &Arc<Self>,
        parts: Parts,
        incoming: Incoming,
        protocol: Protocol,
        caller: IpAddr,
    ) -> Result<Answering, Error> {
        let started = self.inner.clock.now();
        let (model, wake) = {
            let table = self.inner.table.load();
            let scope = table.scope_of(host_of(&parts));
            let namespace = self.inner.settings.namespace.as_deref();
            let (name, action) = match Route::of(&parts.method, parts.uri.path())? {
                Route::Model { name, action } => (name, action),
                Route::Grpc(method) => {
                    let worker = Arc::clone(self);
                    return Ok(Answering::Coming(Box::pin(async move {
                        let answered = worker.dispatch_grpc(method, parts, incoming, caller).await;
                        answered.unwrap_or_else(|error| worker.refuse(&error, protocol))
                    })));
                }
                route => return catalogue::answer(route, &table, scope, namespace).map(Answering::made),
            };
            let model = table.resolve(scope, name, namespace)?;
            let wake = match action {
                Action::Infer => Wake::Yes,
                Action::Inspect => Wake::Look,
                Action::Metadata | Action::Ready | Action::Status => match catalogue::of_model(model, action) {
                    Some(response) => return Ok(Answering::made(response)),
                    None => Wake::No,
                },
            };
            (Arc::clone(model), wake)
        };
        let inference = Inference { worker: Arc::clone(self), model, parts, protocol, wake, caller, started };
        Ok(Answering::Coming(Box::pin(inference.answer(Source::Body(incoming)))))
    }

    async fn dispatch_grpc(
        self: &Arc<Self>,
        method: GrpcMethod,
        parts: Parts,
        incoming: Incoming,
        caller: IpAddr,
    ) -> Result<Response<ResponseBody>, Error> {
        let started = self.inner.clock.now();
        let asked = parts.headers.get(GRPC_TIMEOUT).map(HeaderValue::as_bytes);
        let patience =
            effective_timeout(None, asked, UNNAMED_TIMEOUT).map_err(|error| Error::BadRequest(error.to_string()))?;
        let reading = Payload::read(incoming, self);
        let payload = tokio::time::timeout(patience, reading).await.map_err(|_| Error::Deadline(patience))??;
        let named = match method {
            GrpcMethod::ServerLive | GrpcMethod::ServerReady => return Ok(grpc::flag(true)),
            GrpcMethod::ServerMetadata => return Ok(grpc::server_metadata()),
            GrpcMethod::ModelReady | GrpcMethod::ModelMetadata | GrpcMethod::ModelInfer => {
                grpc::model_name(&payload.first_bytes())?
            }
        };
        let model = {
            let table: &Table = &self.inner.table.load();
            let scope = table.scope_of(host_of(&parts));
            Arc::clone(table.resolve(scope, &named, self.inner.settings.namespace.as_deref())?)
        };
        match method {
            GrpcMethod::ModelReady => return Ok(grpc::flag(is_ready(&model))),
            GrpcMethod::ModelMetadata => {
                if let Some(response) = model.route().metadata.as_ref().map(grpc::model_metadata) {
                    return Ok(response);
                }
            }
            _ => {}
        }
        let wake = if method == GrpcMethod::ModelInfer { Wake::Yes } else { Wake::No };
        let protocol = Protocol::Grpc;
        let inference = Inference { worker: Arc::clone(self), model, parts, protocol, wake, caller, started };
        Ok(inference.answer(Source::Read(payload)).await)
    }
}

/// Whether a request to the model would be served.
pub(crate) fn is_ready(model: &Model) -> bool {
    let route = model.route();
    let servable = !route.variants.is_empty() || !model.routing().is_empty();
    route.unavailable.is_none() && servable
}

fn protocol_of(parts: &Parts) -> Protocol {
    let is_grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    if parts.headers.get(CONTENT_TYPE).is_some_and(is_grpc) { Protocol::Grpc } else { Protocol::Rest }
}

/// The host that the client asked: of `:authority` over HTTP/2, of `Host` otherwise.
fn host_of(parts: &Parts) -> Option<&str> {
    match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => parts.headers.get(HOST).and_then(|host| host.to_str().ok()),
    }
}

//! What happens to a request once hyper has parsed it: find what it asks for, then answer or forward it.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use gateway_policy::deadline::{GRPC_TIMEOUT, REQUEST_TIMEOUT};
use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};

use crate::body::ResponseBody;
use crate::catalogue::{self, Indexed};
use crate::error::Error;
use crate::extent::Extent;
use crate::gateway::Worker;
use crate::grpc;
use crate::inference::{AskedTimeouts, Inference, Wake};
use crate::model::Model;
use crate::respond::{Protocol, refusal};
use crate::route::{Action, GrpcMethod, Route};
use crate::strict_http::Violation;
use crate::table::Table;
use crate::upload::{Payload, Source};

/// How the messages of a gRPC request that are compressed are (gRPC over HTTP/2, `Message-Encoding`).
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

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

/// What a request is about.
enum Found {
    Model(Arc<Model>, Wake),
    /// A method of gRPC, whose message names the model.
    Grpc(GrpcMethod),
    /// The index of the repository, whose request may have a body.
    Index,
    /// Nothing that takes a replica.
    Answer(Box<Response<ResponseBody>>),
}

impl Worker {
    /// Answers one request of the client at `caller`.
    pub(crate) fn answer(self: &Arc<Self>, request: Request<Source>, caller: IpAddr) -> Answering {
        if let Some(violation) = Violation::in_request(&request) {
            return Answering::made(self.refuse(&Error::Http(violation), Protocol::Rest));
        }
        let (parts, body) = request.into_parts();
        let said = Said::by(&parts.headers);
        let protocol = said.protocol();
        let started = self.inner.clock.now();
        match self.find(&parts, &said) {
            Ok(Found::Model(model, wake)) => {
                let (worker, asked) = (Arc::clone(self), said.timeouts());
                let is_stream = false;
                let inference = Inference { worker, model, parts, asked, protocol, wake, is_stream, caller, started };
                Answering::Coming(Box::pin(inference.answer(body, None)))
            }
            Ok(Found::Grpc(method)) => {
                let worker = Arc::clone(self);
                Answering::Coming(Box::pin(async move {
                    let answered = worker.dispatch_grpc(method, parts, body, caller).await;
                    answered.unwrap_or_else(|error| worker.refuse(&error, protocol))
                }))
            }
            Ok(Found::Index) => {
                let worker = Arc::clone(self);
                Answering::Coming(Box::pin(async move {
                    let answered = worker.index(&parts, body, caller).await;
                    answered.unwrap_or_else(|error| worker.refuse(&error, protocol))
                }))
            }
            Ok(Found::Answer(response)) => Answering::Made(Some(response)),
            Err(error) => Answering::made(self.refuse(&error, protocol)),
        }
    }

    /// Refuses a request that is about no model.
    fn refuse(&self, error: &Error, protocol: Protocol) -> Response<ResponseBody> {
        self.inner.metrics.count_unrouted(error.http_status(), error.reason().as_str());
        refusal(error, protocol)
    }

    /// An error here is one of routing: of no model.
    fn find(&self, parts: &Parts, said: &Said<'_>) -> Result<Found, Error> {
        let table = self.inner.table.load();
        let scope = table.scope_of(said.host(&parts.uri));
        let namespace = self.inner.settings.namespace.as_deref();
        let (name, version, action) = match Route::of(&parts.method, parts.uri.path())? {
            Route::Model { name, version, action } => (name, version, action),
            Route::Grpc(method) => return Ok(Found::Grpc(method)),
            Route::RepositoryIndex => return Ok(Found::Index),
            route => {
                let answer = catalogue::answer(route, &table, scope, namespace)?;
                return Ok(Found::Answer(Box::new(answer)));
            }
        };
        let model = table.resolve(scope, name, namespace)?;
        catalogue::check_version(model, version)?;
        let wake = match action {
            Action::Infer => Wake::Yes,
            // What a static replica is, nobody knows; a variant's are KFerving's own.
            Action::Foreign { wake, .. } if model.route().variants.is_empty() => wake,
            Action::Foreign { verb, .. } => return Err(Error::NotServed { model: model.key.to_string(), verb }),
            Action::Metadata | Action::Ready | Action::Status => match catalogue::of_model(model, version, action) {
                Some(response) => return Ok(Found::Answer(Box::new(response))),
                None => Wake::No,
            },
        };
        Ok(Found::Model(Arc::clone(model), wake))
    }

    /// Answers `POST /v2/repository/index`.
    async fn index(&self, parts: &Parts, body: Source, caller: IpAddr) -> Result<Response<ResponseBody>, Error> {
        let _permit = self.inner.admit(caller)?;
        let said = Said::by(&parts.headers);
        let extent = Extent::of_body(self.inner.settings.limits.max_body_bytes);
        let payload = self.read_unnamed(&said.timeouts(), body, extent).await?;
        let only_ready = catalogue::only_ready(&payload.first_bytes())?;
        Ok(catalogue::index(&self.indexed(said.host(&parts.uri), only_ready)))
    }

    fn indexed(&self, host: Option<&str>, only_ready: bool) -> Vec<Indexed> {
        let table = self.inner.table.load();
        catalogue::indexed(&table, table.scope_of(host), self.inner.settings.namespace.as_deref(), only_ready)
    }

    /// Reads the body of a request before it is known which model it is for, if any.
    async fn read_unnamed(&self, asked: &AskedTimeouts, body: Source, extent: Extent) -> Result<Payload, Error> {
        let patience = asked.effective(UNNAMED_TIMEOUT)?;
        let reading = Payload::read(body, extent, self);
        tokio::time::timeout(patience, reading).await.map_err(|_| Error::Deadline(patience))?
    }

    async fn dispatch_grpc(
        self: &Arc<Self>,
        method: GrpcMethod,
        parts: Parts,
        body: Source,
        caller: IpAddr,
    ) -> Result<Response<ResponseBody>, Error> {
        let started = self.inner.clock.now();
        // Before the body is read: that too takes room.
        let permit = self.inner.admit(caller)?;
        let said = Said::by(&parts.headers);
        let asked = said.timeouts();
        let limit = self.inner.settings.limits.max_body_bytes;
        let is_stream = method == GrpcMethod::ModelStreamInfer;
        let extent = if is_stream { Extent::of_messages(limit) } else { Extent::of_body(limit) };
        let payload = self.read_unnamed(&asked, body, extent).await?;
        let encoding = parts.headers.get(GRPC_ENCODING);
        let target = match method {
            GrpcMethod::ServerLive | GrpcMethod::ServerReady => return Ok(grpc::flag(true)),
            GrpcMethod::ServerMetadata => return Ok(grpc::server_metadata()),
            GrpcMethod::RepositoryIndex => {
                let only_ready = grpc::only_ready(&payload.first_bytes(), encoding)?;
                let host = said.host(&parts.uri);
                return Ok(grpc::repository_index(self.indexed(host, only_ready)));
            }
            GrpcMethod::RepositoryControl => return Err(catalogue::fixed_repository()),
            GrpcMethod::ModelReady
            | GrpcMethod::ModelMetadata
            | GrpcMethod::ModelInfer
            | GrpcMethod::ModelStreamInfer => grpc::target(&payload.first_bytes(), encoding)?,
        };
        let version = target.version.as_deref();
        let found = {
            let table: &Table = &self.inner.table.load();
            let scope = table.scope_of(said.host(&parts.uri));
            let model = table.resolve(scope, &target.model, self.inner.settings.namespace.as_deref());
            model.and_then(|model| catalogue::check_version(model, version).map(|()| Arc::clone(model)))
        };
        let model = match found {
            // As Triton answers: its clients poll this call until a model has come.
            Err(Error::ModelNotFound(_)) if method == GrpcMethod::ModelReady => return Ok(grpc::flag(false)),
            found => found?,
        };
        match method {
            GrpcMethod::ModelReady if version.is_none() || catalogue::knows_versions(&model) => {
                return Ok(grpc::flag(model.unready().is_none()));
            }
            GrpcMethod::ModelMetadata => {
                if let Some(response) = model.route().metadata.as_ref().map(grpc::model_metadata) {
                    return Ok(response);
                }
            }
            _ => {}
        }
        let wakes = matches!(method, GrpcMethod::ModelInfer | GrpcMethod::ModelStreamInfer);
        let wake = if wakes { Wake::Yes } else { Wake::No };
        let (worker, protocol) = (Arc::clone(self), Protocol::Grpc);
        let inference = Inference { worker, model, parts, asked, protocol, wake, is_stream, caller, started };
        Ok(inference.answer(Source::Read(payload), permit).await)
    }
}

/// What a request's headers say of how to handle it. Of a header that comes more than once, the first counts.
///
/// Found in one pass: each look-up of a name would hash it.
#[derive(Default)]
struct Said<'a> {
    content_type: Option<&'a HeaderValue>,
    host: Option<&'a HeaderValue>,
    timeout: Option<&'a HeaderValue>,
    grpc_timeout: Option<&'a HeaderValue>,
}

impl<'a> Said<'a> {
    fn by(headers: &'a HeaderMap) -> Self {
        let mut said = Self::default();
        for (name, value) in headers {
            let field = match name {
                name if *name == HOST => &mut said.host,
                name if *name == CONTENT_TYPE => &mut said.content_type,
                name if name.as_str() == REQUEST_TIMEOUT => &mut said.timeout,
                name if name.as_str() == GRPC_TIMEOUT => &mut said.grpc_timeout,
                _ => continue,
            };
            field.get_or_insert(value);
        }
        said
    }

    fn protocol(&self) -> Protocol {
        let is_grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
        if self.content_type.is_some_and(is_grpc) { Protocol::Grpc } else { Protocol::Rest }
    }

    fn timeouts(&self) -> AskedTimeouts {
        AskedTimeouts { http: self.timeout.cloned(), grpc: self.grpc_timeout.cloned() }
    }

    /// The host that the client asked: of `:authority` over HTTP/2, of `Host` otherwise.
    fn host(&self, uri: &'a Uri) -> Option<&'a str> {
        match uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => self.host.and_then(|host| host.to_str().ok()),
        }
    }
}

//! The gRPC service.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use gateway_policy::REASON_HEADER;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use model_wrapper_protocol::{
    InferError, Limits,
    grpc::{
        self, ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
        ModelReadyResponse, ModelStreamInferResponse, RepositoryIndexRequest, RepositoryIndexResponse,
        RepositoryModelLoadRequest, RepositoryModelLoadResponse, RepositoryModelUnloadRequest,
        RepositoryModelUnloadResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest,
        ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
        grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer, SERVICE_NAME},
        repository_index_response::ModelIndex,
    },
};
use tokio::time::Instant;
use tonic::{Status, codec::CompressionEncoding};
use tower::Service as _;

use super::{
    body::{FrontBody, Place},
    catalogue::{self, EXTENSIONS, SERVER_NAME, SERVER_VERSION},
    deadline,
    error::{grpc_status, no_call, text},
    infer::{check_target, identity},
    metrics::{FrontMetrics, Protocol},
    respond::server_timing,
    route::Target,
};
use crate::serving::{HeldMemory, Readiness, ServedModel, Serving, Timings};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The calls of the service that do something here: a model is neither loaded nor unloaded by one.
const METHODS: [&str; 8] = [
    "ModelInfer",
    "ModelStreamInfer",
    "ModelMetadata",
    "ModelReady",
    "RepositoryIndex",
    "ServerLive",
    "ServerReady",
    "ServerMetadata",
];

/// Whether a request is gRPC's.
pub(super) fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    let rest = kind.and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"));
    // gRPC-Web is another protocol, and HTTP/1 has no place for a status that comes last.
    request.version() == http::Version::HTTP_2 && rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

/// What was found out about an inference by its headers, before its message was read.
#[derive(Clone)]
struct Admitted {
    served: Arc<ServedModel>,
    /// Longest that one run may take.
    timeout: Duration,
    /// Taken already by a unary call; a stream's messages take it.
    place: Place,
    /// Of what has come.
    memory: HeldMemory,
}

/// The service; cheap to clone.
#[derive(Clone)]
pub(super) struct Grpc {
    serving: Serving,
    metrics: FrontMetrics,
}

impl Grpc {
    pub(super) fn new(serving: Serving, metrics: FrontMetrics) -> Self {
        Self { serving, metrics }
    }

    /// Answers a call. A wrong revision is 421 as in REST, which the gateway acts on whatever the protocol.
    pub(super) async fn call(&self, request: Request<Incoming>) -> Result<Response<FrontBody>, InferError> {
        let path = request.uri().path();
        if path.ends_with("/ModelInfer") {
            let measured = self.metrics.begin(Protocol::Grpc);
            let answer = self.admitted(request, true).await;
            match &answer {
                Ok(response) => match failure(response.headers()) {
                    None => measured.answered(),
                    Some(reason) => measured.failed(reason),
                },
                Err(error) => measured.failed(error.reason()),
            }
            answer
        } else if path.ends_with("/ModelStreamInfer") {
            self.admitted(request, false).await
        } else {
            let answer = self.serve(request, catalogue::REQUEST_BYTES);
            match tokio::time::timeout(catalogue::REQUEST_TIME, answer).await {
                Ok(answer) => Ok(answer.map(|body| FrontBody::Grpc { body, place: Place::default() })),
                Err(_) => Ok(refuse(&InferError::DeadlineExceeded)),
            }
        }
    }

    /// Answers an inference, which is admitted by its headers: its revision, its deadline, a place.
    async fn admitted(&self, mut request: Request<Incoming>, unary: bool) -> Result<Response<FrontBody>, InferError> {
        let admitted = match self.admit(&request, unary) {
            Ok(admitted) => admitted,
            Err(error @ InferError::Misdirected { .. }) => return Err(error),
            Err(error) => return Ok(refuse(&error)),
        };
        let limit = admitted.served.max_body();
        let (timeout, place, memory) = (admitted.timeout, admitted.place.clone(), admitted.memory.clone());
        request.extensions_mut().insert(admitted);
        let call = self.serve(request.map(|body| Counted { body, memory }), limit);
        // A stream has the timeout for each of its messages.
        let response = if unary { tokio::time::timeout(timeout, call).await } else { Ok(call.await) };
        Ok(match response {
            Ok(response) => response.map(|body| FrontBody::Grpc { body, place }),
            Err(_) => refuse(&InferError::DeadlineExceeded),
        })
    }

    async fn serve<B>(&self, request: Request<B>, limit: usize) -> Response<tonic::body::Body>
    where
        B: Body + Send + 'static,
        B::Error: Into<BoxError> + Send + 'static,
    {
        let mut service = GrpcInferenceServiceServer::new(self.clone())
            .max_decoding_message_size(limit)
            .max_encoding_message_size(usize::MAX)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate);
        let uri = request.uri().clone();
        let mut response = service.call(request).await.unwrap_or_else(|never| match never {});
        resource_exhausted(&mut response, limit);
        unimplemented(&mut response, uri.path());
        response
    }

    fn admit(&self, request: &Request<Incoming>, unary: bool) -> Result<Admitted, InferError> {
        let headers = request.headers();
        let served = self.serving.admit(identity(headers)?)?;
        let timeout = deadline::timeout(headers, served.timeout())?;
        let place = Place::default();
        if unary {
            place.keep(Arc::new(served.acquire()?));
        }
        let memory = served.memory();
        Ok(Admitted { served, timeout, place, memory })
    }
}

/// A body whose bytes are counted as they come.
struct Counted {
    body: Incoming,
    memory: HeldMemory,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)?) else { return Poll::Ready(None) };
        let come = frame.data_ref().map_or(0, Bytes::len);
        // tonic answers with a status that it finds in a body's error.
        let counted = self.memory.grow(come).map_err(|error| BoxError::from(grpc_status(&error)));
        Poll::Ready(Some(counted.map(|()| frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn refuse(error: &InferError) -> Response<FrontBody> {
    grpc_status(error).into_http().map(|body| FrontBody::Grpc { body, place: Place::default() })
}

/// Why a unary call failed, by the headers of its response; none where it did not. What tonic refuses by itself has no reason
/// of ours: it is a message that cannot be decoded.
fn failure(headers: &HeaderMap) -> Option<String> {
    if headers.get("grpc-status").is_none_or(|status| status.as_bytes() == b"0") {
        return None;
    }
    let reason = headers.get(REASON_HEADER).and_then(|reason| reason.to_str().ok());
    Some(reason.unwrap_or("bad-request").to_owned())
}

/// tonic says OUT_OF_RANGE of a message above the limit; gRPC's own libraries, and this server elsewhere, RESOURCE_EXHAUSTED.
fn resource_exhausted(response: &mut Response<tonic::body::Body>, limit: usize) {
    let too_large = |status: &http::HeaderValue| status.as_bytes() == b"11";
    if response.headers().get("grpc-status").is_some_and(too_large) {
        let error = InferError::TooLarge { what: "the message", limit };
        *response = grpc_status(&error).into_http();
    }
}

/// tonic refuses a message in an unknown encoding, and says which it knows; the reason is ours. Of a call that is not there it
/// says nothing at all.
fn unimplemented(response: &mut Response<tonic::body::Body>, path: &str) {
    let headers = response.headers_mut();
    if headers.get("grpc-status").is_none_or(|status| status.as_bytes() != b"12") {
        return;
    }
    if headers.contains_key("grpc-accept-encoding") {
        let reason = InferError::UnsupportedEncoding(String::new()).reason();
        headers.insert(REASON_HEADER, http::HeaderValue::from_static(reason));
    } else if !headers.contains_key("grpc-message") {
        *response = no_call(path, SERVICE_NAME, &METHODS).into_http();
    }
}

/// Runs one message.
async fn infer(
    served: &ServedModel,
    message: ModelInferRequest,
    memory: &HeldMemory,
    deadline: Instant,
) -> Result<(ModelInferResponse, Timings), InferError> {
    check_target(served.metadata(), &target(&message.model_name, &message.model_version))?;
    let limits = Limits { max_body: served.max_body(), ..Limits::default() };
    let mut decoded = grpc::decode(message, &limits)?;
    decoded.request.check(served.metadata())?;
    memory.settle(&decoded.request)?;
    let id = decoded.request.id.take();
    let (response, timings) = served.infer(decoded.request, deadline).await?;
    memory.release();
    Ok((grpc::encode(&response, served.metadata(), id, decoded.form)?, timings))
}

/// Answers a message of a stream; an error is an answer too.
async fn answer_in_stream(
    Admitted { served, timeout, place, memory }: &Admitted,
    message: ModelInferRequest,
    metrics: &FrontMetrics,
) -> ModelStreamInferResponse {
    let measured = metrics.begin(Protocol::Grpc);
    let id = message.id.clone();
    let answer = async {
        let slot = place.take(|| served.acquire())?;
        infer(served, message, memory, Instant::now() + *timeout).await.inspect(|_| place.keep(slot))
    };
    let answer = answer.await;
    memory.release();
    match answer {
        Ok((response, _)) => {
            measured.answered();
            ModelStreamInferResponse { error_message: String::new(), infer_response: Some(response) }
        }
        Err(error) => {
            measured.failed(error.reason());
            // The id tells a caller with several messages under way which of them failed.
            let infer_response = Some(ModelInferResponse { id, ..ModelInferResponse::default() });
            ModelStreamInferResponse { error_message: text(&error), infer_response }
        }
    }
}

/// What [`Grpc::call`] left with an inference.
fn admitted<T>(request: &tonic::Request<T>) -> Result<Admitted, Status> {
    request.extensions().get().cloned().ok_or_else(|| Status::internal("the call was not admitted"))
}

fn target<'a>(name: &'a str, version: &'a str) -> Target<'a> {
    Target { model: name.into(), version: Some(version).filter(|version| !version.is_empty()).map(Into::into) }
}

#[tonic::async_trait]
impl GrpcInferenceService for Grpc {
    async fn server_live(
        &self,
        _: tonic::Request<ServerLiveRequest>,
    ) -> Result<tonic::Response<ServerLiveResponse>, Status> {
        Ok(tonic::Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: tonic::Request<ServerReadyRequest>,
    ) -> Result<tonic::Response<ServerReadyResponse>, Status> {
        Ok(tonic::Response::new(ServerReadyResponse { ready: self.serving.readiness() == Readiness::Ready }))
    }

    async fn model_ready(
        &self,
        request: tonic::Request<ModelReadyRequest>,
    ) -> Result<tonic::Response<ModelReadyResponse>, Status> {
        let request = request.get_ref();
        // A model that is not here is not ready, and no error: clients poll this call until a model has come.
        let found = catalogue::find(&self.serving, &target(&request.name, &request.version)).is_ok();
        Ok(tonic::Response::new(ModelReadyResponse { ready: found && self.serving.readiness() == Readiness::Ready }))
    }

    async fn server_metadata(
        &self,
        _: tonic::Request<ServerMetadataRequest>,
    ) -> Result<tonic::Response<ServerMetadataResponse>, Status> {
        Ok(tonic::Response::new(ServerMetadataResponse {
            name: SERVER_NAME.into(),
            version: SERVER_VERSION.into(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: tonic::Request<ModelMetadataRequest>,
    ) -> Result<tonic::Response<ModelMetadataResponse>, Status> {
        let request = request.get_ref();
        let served = catalogue::find(&self.serving, &target(&request.name, &request.version))
            .map_err(|error| grpc_status(&error))?;
        Ok(tonic::Response::new(grpc::metadata(served.metadata())))
    }

    async fn model_infer(
        &self,
        request: tonic::Request<ModelInferRequest>,
    ) -> Result<tonic::Response<ModelInferResponse>, Status> {
        let Admitted { served, timeout, memory, .. } = admitted(&request)?;
        let answer = infer(&served, request.into_inner(), &memory, Instant::now() + timeout).await;
        let (message, timings) = answer.map_err(|error| grpc_status(&error))?;
        let mut response = tonic::Response::new(message);
        if let Ok(value) = server_timing(timings).parse() {
            response.metadata_mut().insert("server-timing", value);
        }
        Ok(response)
    }

    type ModelStreamInferStream = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

    async fn model_stream_infer(
        &self,
        request: tonic::Request<tonic::Streaming<ModelInferRequest>>,
    ) -> Result<tonic::Response<Self::ModelStreamInferStream>, Status> {
        let admitted = admitted(&request)?;
        let metrics = self.metrics.clone();
        let answers = futures::stream::unfold(Some(request.into_inner()), move |messages| {
            let (admitted, metrics) = (admitted.clone(), metrics.clone());
            async move {
                let mut messages = messages?;
                let message = tokio::select! {
                    biased;
                    message = messages.next() => message?,
                    // What has come is answered, and nobody keeps the server by saying nothing.
                    refusal = admitted.served.refused() => return Some((Err(grpc_status(&refusal)), None)),
                };
                let answer = match message {
                    Ok(message) => Ok(answer_in_stream(&admitted, message, &metrics).await),
                    Err(status) => Err(status),
                };
                Some((answer, Some(messages)))
            }
        });
        Ok(tonic::Response::new(Box::pin(answers)))
    }

    async fn repository_index(
        &self,
        request: tonic::Request<RepositoryIndexRequest>,
    ) -> Result<tonic::Response<RepositoryIndexResponse>, Status> {
        let models = catalogue::indexed(&self.serving, request.get_ref().ready).map(|model| ModelIndex {
            name: model.name,
            version: model.version,
            state: model.state.into(),
            reason: model.reason.into(),
        });
        Ok(tonic::Response::new(RepositoryIndexResponse { models: models.into_iter().collect() }))
    }

    async fn repository_model_load(
        &self,
        _: tonic::Request<RepositoryModelLoadRequest>,
    ) -> Result<tonic::Response<RepositoryModelLoadResponse>, Status> {
        Err(grpc_status(&catalogue::fixed_model()))
    }

    async fn repository_model_unload(
        &self,
        _: tonic::Request<RepositoryModelUnloadRequest>,
    ) -> Result<tonic::Response<RepositoryModelUnloadResponse>, Status> {
        Err(grpc_status(&catalogue::fixed_model()))
    }
}

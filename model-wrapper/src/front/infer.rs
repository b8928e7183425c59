//! Inference over REST.

use std::sync::Arc;

use bytes::Bytes;
use gateway_policy::REVISION_HEADER;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use model_wrapper_protocol::{
    InferError, InferRequest, InferResponse, Limits, ModelMetadata, v1,
    v2::{self, OutputForms},
};
use tokio::time::Instant;

use super::{
    body::{self, Encoding, FrontBody},
    deadline, respond,
    route::Target,
};
use crate::serving::{ServedModel, Serving, Timings};

/// What a body is read as.
#[derive(Clone, Copy)]
pub(super) enum Form {
    V1,
    V2 { header_length: Option<usize> },
}

/// A decoded request and what its answer needs to know.
enum Decoded {
    V1(v1::V1Request),
    V2(v2::V2Request),
}

impl Decoded {
    fn request(&self) -> &InferRequest {
        match self {
            Self::V1(decoded) => &decoded.request,
            Self::V2(decoded) => &decoded.request,
        }
    }
}

/// The model that the request is for, by its revision and its target. The body is not looked at.
pub(super) fn admit(
    serving: &Serving,
    headers: &HeaderMap,
    target: &Target<'_>,
) -> Result<Arc<ServedModel>, InferError> {
    let served = serving.admit(identity(headers)?)?;
    check_target(served.metadata(), target)?;
    Ok(served)
}

/// The revision that the request is for, where it says one.
pub(super) fn identity(headers: &HeaderMap) -> Result<Option<&str>, InferError> {
    let text = headers.get(REVISION_HEADER).map(|value| value.to_str());
    text.transpose().map_err(|_| {
        InferError::BadRequest(format!("{REVISION_HEADER}: expected NAMESPACE/REVISION@DIGEST, got what is no text"))
    })
}

/// Whether this is the model meant.
pub(super) fn check_target(model: &ModelMetadata, target: &Target<'_>) -> Result<(), InferError> {
    if model.name != target.model {
        return Err(InferError::NotFound(format!(
            "model '{}' not found: this server serves '{}'",
            target.model, model.name
        )));
    }
    match &target.version {
        Some(version) if !model.versions.iter().any(|served| served == version) => Err(InferError::NotFound(format!(
            "model '{}' has no version '{version}': this server serves {}",
            model.name,
            model.versions.join(", ")
        ))),
        _ => Ok(()),
    }
}

/// The form of a V2 body, by its headers.
pub(super) fn v2_form(headers: &HeaderMap) -> Result<Form, InferError> {
    let header_length = headers.get(v2::HEADER_LENGTH).map(|value| {
        let length = value.to_str().ok().and_then(|text| text.parse().ok());
        length.ok_or_else(|| {
            InferError::BadRequest(format!(
                "Inference-Header-Content-Length: expected a number of bytes, got {value:?}"
            ))
        })
    });
    Ok(Form::V2 { header_length: header_length.transpose()? })
}

/// Runs an admitted request.
///
/// The order matters: whatever can be refused by the headers is, then a place is taken, and only then the body is read, so that
/// a refused caller need not have sent it.
pub(super) async fn run(
    served: Arc<ServedModel>,
    request: Request<Incoming>,
    form: Form,
) -> Result<Response<FrontBody>, InferError> {
    let limits = Limits { max_body: served.max_body(), ..Limits::default() };
    let (head, body) = request.into_parts();
    let prepared = (|| {
        body::check_declared(&body, limits.max_body)?;
        let encoding = Encoding::of(&head.headers)?;
        let timeout = deadline::timeout(&head.headers, served.timeout())?;
        Ok((encoding, Instant::now() + timeout, served.acquire()?))
    })();
    let (encoding, deadline, slot) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            body::discard(&head.headers, body);
            return Err(error);
        }
    };
    let answer = tokio::time::timeout_at(deadline, async {
        let memory = served.memory();
        let body = body::read(body, limits.max_body, |bytes| memory.grow(bytes)).await?;
        let (model, decoding) = (Arc::clone(&served), memory.clone());
        let heavy = encoding != Encoding::Identity || text_length(&body, form) > OFFLOADED;
        let decoded = offload(heavy, move || {
            let body = encoding.decode(body, limits.max_body, &decoding)?;
            let decoded = decode(&body, form, model.metadata(), &limits)?;
            decoding.settle(decoded.request())?;
            Ok(decoded)
        })
        .await?;
        match decoded {
            Decoded::V1(v1::V1Request { layout: layout @ v1::V1Layout::Rows(0), .. }) => {
                Ok(respond::inferred(v1::encode(&InferResponse::default(), layout)?, Timings::default(), slot))
            }
            Decoded::V1(decoded) => {
                let (response, timings) = served.infer(decoded.request, deadline).await?;
                memory.release();
                let heavy = v1::extent(&response) > OFFLOADED;
                let body = offload(heavy, move || v1::encode(&response, decoded.layout)).await?;
                Ok(respond::inferred(body, timings, slot))
            }
            Decoded::V2(v2::V2Request { mut request, forms }) => {
                let id = request.id.take();
                let (response, timings) = served.infer(request, deadline).await?;
                memory.release();
                let body = encode_v2(response, &served, id, forms).await?;
                Ok(respond::inferred_v2(body, timings, slot))
            }
        }
    });
    answer.await.unwrap_or(Err(InferError::DeadlineExceeded))
}

fn decode(body: &Bytes, form: Form, model: &ModelMetadata, limits: &Limits) -> Result<Decoded, InferError> {
    match form {
        Form::V1 => v1::decode(body, model, limits).map(Decoded::V1),
        Form::V2 { header_length } => {
            let decoded = v2::decode(body, header_length, limits)?;
            decoded.request.check(model)?;
            Ok(Decoded::V2(decoded))
        }
    }
}

async fn encode_v2(
    response: InferResponse,
    served: &Arc<ServedModel>,
    id: Option<String>,
    forms: OutputForms,
) -> Result<v2::V2Body, InferError> {
    let heavy = forms.text_bytes(&response.outputs) > OFFLOADED;
    let model = Arc::clone(served);
    offload(heavy, move || v2::encode(&response, model.metadata(), id.as_deref(), &forms)).await
}

/// Bytes of text above which decoding and encoding leave the thread that serves the sockets: about a millisecond's work.
const OFFLOADED: usize = 256 << 10;

fn text_length(body: &Bytes, form: Form) -> usize {
    match form {
        Form::V2 { header_length: Some(length) } => length.min(body.len()),
        _ => body.len(),
    }
}

async fn offload<T: Send + 'static>(
    heavy: bool,
    work: impl FnOnce() -> Result<T, InferError> + Send + 'static,
) -> Result<T, InferError> {
    if !heavy {
        return work();
    }
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(InferError::Internal(format!("a worker failed: {error}"))))
}

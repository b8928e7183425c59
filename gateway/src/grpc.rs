//! The little of gRPC that the gateway needs to know: which model a message is for, and the answers that need no replica.
//!
//! Messages are those of `inference.GRPCInferenceService` of the Open Inference Protocol. Only the fields used here are
//! declared; the rest of a message is passed on unread.

use std::borrow::Cow;
use std::io::Read;

use bytes::{BufMut, BytesMut};
use flate2::read::{GzDecoder, ZlibDecoder};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use prost::Message;
use serde_json::Value;

use crate::body::ResponseBody;
use crate::catalogue::{EXTENSIONS, Indexed, SERVER_NAME, SERVER_VERSION};
use crate::error::Error;

/// Bytes before each message: a flag for compression and a length (gRPC over HTTP/2, `Length-Prefixed-Message`).
pub(crate) const PREFIX_BYTES: usize = 5;

/// Longest model name: that of a Kubernetes object. A version is not longer either.
const MAX_NAME_BYTES: usize = 253;

/// What is looked at of a compressed message: room for a name and a version of the longest kind, with keys and lengths.
const PEEKED_BYTES: u64 = 1024;

/// Key of the field `name` or `model_name`: number 1, length-delimited, in every request that names a model.
const NAME_KEY: u8 = 1 << 3 | 2;

/// Key of the field `version` or `model_version`: number 2, length-delimited, in every request that names a model.
const VERSION_KEY: u8 = 2 << 3 | 2;

/// The model that a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) model: String,
    /// Absent for any.
    pub(crate) version: Option<String>,
}

/// The model that the first message of a request names; `encoding` is the request's `grpc-encoding`.
///
/// Fields 1 and 2 are looked for at the start, where every encoder puts them, so that no tensor is ever parsed.
pub(crate) fn target(body: &[u8], encoding: Option<&HeaderValue>) -> Result<Target, Error> {
    let missing = || unreadable("does not begin with the model's name (field 1)");
    let message = message_of(body, encoding)?;
    let (key, rest) = message.split_first().ok_or_else(missing)?;
    if *key != NAME_KEY {
        return Err(missing());
    }
    let (model, rest) = text(rest, "model name")?;
    let version = match rest.split_first() {
        Some((key, rest)) if *key == VERSION_KEY => text(rest, "model version")?.0,
        _ => String::new(),
    };
    Ok(Target { model, version: Some(version).filter(|version| !version.is_empty()) })
}

/// Whether a `RepositoryIndexRequest` asks only for models that are ready.
pub(crate) fn only_ready(body: &[u8], encoding: Option<&HeaderValue>) -> Result<bool, Error> {
    let request = RepositoryIndexRequest::decode(&*message_of(body, encoding)?);
    Ok(request.map_err(|error| unreadable(&format!("is not an index request: {error}")))?.ready)
}

fn unreadable(what: &str) -> Error {
    Error::BadRequest(format!("the gRPC message {what}"))
}

/// The first message of a request, or as much of it as is there; of a compressed one, its beginning.
fn message_of<'a>(body: &'a [u8], encoding: Option<&HeaderValue>) -> Result<Cow<'a, [u8]>, Error> {
    if body.is_empty() {
        return Err(Error::BadRequest("the request ended without a gRPC message".to_owned()));
    }
    let (prefix, message) =
        body.split_at_checked(PREFIX_BYTES).ok_or_else(|| unreadable("is shorter than its length prefix"))?;
    match (prefix[0], encoding.map(HeaderValue::as_bytes)) {
        (0, _) => Ok(Cow::Borrowed(message)),
        (_, Some(b"gzip")) => beginning(GzDecoder::new(message)),
        // zlib's format, as in HTTP
        (_, Some(b"deflate")) => beginning(ZlibDecoder::new(message)),
        _ => {
            Err(unreadable("is compressed in a way that hides the model's name: send it as gzip, deflate or as it is"))
        }
    }
}

/// As much as is looked at of a compressed message. It may break off: long bodies are not there whole.
fn beginning(decoder: impl Read) -> Result<Cow<'static, [u8]>, Error> {
    let mut beginning = Vec::new();
    match decoder.take(PEEKED_BYTES).read_to_end(&mut beginning) {
        Err(error) if beginning.is_empty() => Err(unreadable(&format!("cannot be decompressed: {error}"))),
        _ => Ok(Cow::Owned(beginning)),
    }
}

/// The text of a field, from its length on, and what comes after it.
fn text<'a>(mut rest: &'a [u8], what: &str) -> Result<(String, &'a [u8]), Error> {
    let torn = || unreadable(&format!("has a {what} that is cut off"));
    let length = prost::encoding::decode_varint(&mut rest).map_err(|_| torn())?;
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_NAME_BYTES);
    let length = length.ok_or_else(|| unreadable(&format!("has a {what} longer than {MAX_NAME_BYTES} bytes")))?;
    let (text, rest) = rest.split_at_checked(length).ok_or_else(torn)?;
    let text = std::str::from_utf8(text).map_err(|_| unreadable(&format!("has a {what} that is not UTF-8")))?;
    Ok((text.to_owned(), rest))
}

/// `ServerLiveResponse`, `ServerReadyResponse` and `ModelReadyResponse`: one boolean.
#[derive(Clone, PartialEq, Message)]
struct Flag {
    #[prost(bool, tag = "1")]
    value: bool,
}

#[derive(Clone, PartialEq, Message)]
struct ServerMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(string, repeated, tag = "3")]
    extensions: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct ModelMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    versions: Vec<String>,
    #[prost(string, tag = "3")]
    platform: String,
    #[prost(message, repeated, tag = "4")]
    inputs: Vec<TensorMetadata>,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<TensorMetadata>,
}

#[derive(Clone, PartialEq, Message)]
struct RepositoryIndexRequest {
    #[prost(bool, tag = "2")]
    ready: bool,
}

#[derive(Clone, PartialEq, Message)]
struct RepositoryIndex {
    #[prost(message, repeated, tag = "1")]
    models: Vec<ModelIndex>,
}

#[derive(Clone, PartialEq, Message)]
struct ModelIndex {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(string, tag = "3")]
    state: String,
    #[prost(string, tag = "4")]
    reason: String,
}

/// The answer to `RepositoryIndex`. Its entries have no place for a namespace.
pub(crate) fn repository_index(indexed: Vec<Indexed>) -> Response<ResponseBody> {
    let entry =
        |Indexed { name, version, state, reason, .. }| ModelIndex { name, version, state: state.to_owned(), reason };
    answer(&RepositoryIndex { models: indexed.into_iter().map(entry).collect() })
}

/// An answer of one boolean.
pub(crate) fn flag(value: bool) -> Response<ResponseBody> {
    answer(&Flag { value })
}

/// The answer to `ServerMetadata`.
pub(crate) fn server_metadata() -> Response<ResponseBody> {
    answer(&ServerMetadata {
        name: SERVER_NAME.to_owned(),
        version: SERVER_VERSION.to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    })
}

/// The answer to `ModelMetadata`, from the recorded JSON of `GET /v2/models/NAME`.
pub(crate) fn model_metadata(recorded: &Value) -> Response<ResponseBody> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let tensors = |key: &str| {
        let tensor = |value: &Value| TensorMetadata {
            name: text(value, "name"),
            datatype: text(value, "datatype"),
            shape: list(value, "shape").iter().filter_map(Value::as_i64).collect(),
        };
        list(recorded, key).iter().map(tensor).collect()
    };
    answer(&ModelMetadata {
        name: text(recorded, "name"),
        versions: list(recorded, "versions").iter().filter_map(|version| version.as_str().map(str::to_owned)).collect(),
        platform: text(recorded, "platform"),
        inputs: tensors("inputs"),
        outputs: tensors("outputs"),
    })
}

/// A message and the trailers of success.
fn answer(message: &impl Message) -> Response<ResponseBody> {
    let length = message.encoded_len();
    let mut body = BytesMut::with_capacity(PREFIX_BYTES + length);
    body.put_u8(0);
    body.put_u32(length as u32);
    body.extend_from_slice(&message.encode_to_vec());
    let mut response = Response::new(ResponseBody::with_grpc_status(body.freeze()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The trailers of an answer that succeeded.
pub(crate) fn ok_trailers() -> http::HeaderMap {
    let mut trailers = http::HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

/// A message with its prefix, for tests elsewhere.
#[cfg(test)]
pub(crate) fn framed(message: &[u8]) -> bytes::Bytes {
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(message.len() as u32);
    body.extend_from_slice(message);
    body.freeze()
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::read::{GzEncoder, ZlibEncoder};

    use super::*;

    #[test]
    fn a_call_that_ends_without_a_message_is_told_so() {
        let refused = |body: &[u8]| target(body, None).unwrap_err().to_string();
        assert_eq!(refused(b""), "the request ended without a gRPC message");
        assert_eq!(refused(&[0; 3]), "the gRPC message is shorter than its length prefix");
    }

    #[test]
    fn the_name_is_read_without_the_rest() {
        let mut message = vec![NAME_KEY, 6];
        message.extend_from_slice(b"digits");
        message.extend_from_slice(&[0xff; 100]);
        assert_eq!(target(&framed(&message), None), Ok(Target { model: "digits".to_owned(), version: None }));
    }

    #[test]
    fn the_version_is_read_where_it_follows_the_name() {
        let cases: [(&[u8], Option<&str>); 3] =
            [(&[VERSION_KEY, 1, b'3', 0xff], Some("3")), (&[VERSION_KEY, 0], None), (&[], None)];
        for (rest, version) in cases {
            let body = framed(&[&[NAME_KEY, 1, b'm'], rest].concat());
            assert_eq!(target(&body, None), Ok(Target { model: "m".to_owned(), version: version.map(str::to_owned) }));
        }
    }

    /// A compressed message with its prefix.
    fn compressed(mut encoder: impl Read) -> Vec<u8> {
        let mut message = Vec::new();
        encoder.read_to_end(&mut message).unwrap();
        let mut body = framed(&message).to_vec();
        body[0] = 1;
        body
    }

    #[test]
    fn the_name_is_read_from_what_is_compressed() {
        let message = [&[NAME_KEY, 1, b'm', VERSION_KEY, 1, b'3'][..], &[7; 100_000]].concat();
        let expected = Target { model: "m".to_owned(), version: Some("3".to_owned()) };
        let gzip = compressed(GzEncoder::new(&message[..], Compression::default()));
        let deflate = compressed(ZlibEncoder::new(&message[..], Compression::default()));
        for (encoding, body) in [("gzip", gzip), ("deflate", deflate)] {
            let header = HeaderValue::from_static(encoding);
            assert_eq!(target(&body, Some(&header)), Ok(expected.clone()));
            assert_eq!(target(&body[..body.len() / 2], Some(&header)), Ok(expected.clone()), "the rest streams");
            let garbage = [&[1, 0, 0, 0, 20][..], &[0xff; 20]].concat();
            for (body, header) in [(&garbage, Some(&header)), (&body, None)] {
                assert!(matches!(target(body, header), Err(Error::BadRequest(_))), "{header:?}");
            }
        }
    }

    #[test]
    fn an_index_request_may_ask_for_what_is_ready() {
        assert_eq!(only_ready(&framed(&[]), None), Ok(false));
        assert_eq!(only_ready(&framed(&[NAME_KEY, 1, b'r', 2 << 3, 1]), None), Ok(true));
        assert!(matches!(only_ready(&framed(&[2 << 3]), None), Err(Error::BadRequest(_))));
    }

    #[test]
    fn what_names_no_model_is_a_bad_request() {
        let long = [&[NAME_KEY, 0xff, 0xff, 0xff, 0xff, 0x0f][..], b"x"].concat();
        let cases: [&[u8]; 9] = [
            b"",
            &[0, 0, 0],
            &[0, 0, 0, 0, 0],
            &framed(&[0x12, 1, b'x']),
            &framed(&[NAME_KEY, 6, b'd']),
            &framed(&[NAME_KEY, 0x80]),
            &framed(&long),
            &framed(&[NAME_KEY, 1, b'm', VERSION_KEY, 2, b'1']),
            &[1, 0, 0, 0, 3, NAME_KEY, 1, b'x'],
        ];
        for body in cases {
            assert!(matches!(target(body, None), Err(Error::BadRequest(_))), "{body:?}");
        }
    }
}

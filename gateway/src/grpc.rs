//! The little of gRPC that the gateway needs to know: which model a message is for, and the answers that need no replica.
//!
//! Messages are those of `inference.GRPCInferenceService` of the Open Inference Protocol. Only the fields used here are
//! declared; the rest of a message is passed on unread.

use bytes::{BufMut, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use prost::Message;
use serde_json::Value;

use crate::body::ResponseBody;
use crate::catalogue::{EXTENSIONS, SERVER_NAME, SERVER_VERSION};
use crate::error::Error;

/// Bytes before each message: a flag for compression and a length.
const PREFIX_BYTES: usize = 5;

/// Longest model name: that of a Kubernetes object.
const MAX_NAME_BYTES: usize = 253;

/// Key of the field `name` or `model_name`: number 1, length-delimited, in every request that names a model.
const NAME_KEY: u8 = 1 << 3 | 2;

/// The model that the first message of a request names.
///
/// Field 1 is looked for at the start, where every encoder puts it, so that no tensor is ever parsed.
pub(crate) fn model_name(body: &[u8]) -> Result<String, Error> {
    let unreadable = |what: &str| Error::BadRequest(format!("the gRPC message {what}"));
    let (prefix, message) =
        body.split_at_checked(PREFIX_BYTES).ok_or_else(|| unreadable("is shorter than its length prefix"))?;
    if prefix[0] != 0 {
        return Err(unreadable("is compressed, which hides the model's name: send it uncompressed"));
    }
    let missing = || unreadable("does not begin with the model's name (field 1)");
    let (key, rest) = message.split_first().ok_or_else(missing)?;
    if *key != NAME_KEY {
        return Err(missing());
    }
    let mut rest = rest;
    let length = prost::encoding::decode_varint(&mut rest).map_err(|_| missing())?;
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_NAME_BYTES);
    let length = length.ok_or_else(|| unreadable("has a model name longer than 253 bytes"))?;
    let name = rest.get(..length).ok_or_else(missing)?;
    std::str::from_utf8(name).map(str::to_owned).map_err(|_| unreadable("has a model name that is not UTF-8"))
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
    use super::*;

    #[test]
    fn the_name_is_read_without_the_rest() {
        let mut message = vec![NAME_KEY, 6];
        message.extend_from_slice(b"digits");
        message.extend_from_slice(&[0xff; 100]);
        assert_eq!(model_name(&framed(&message)), Ok("digits".to_owned()));
    }

    #[test]
    fn what_names_no_model_is_a_bad_request() {
        let long = [&[NAME_KEY, 0xff, 0xff, 0xff, 0xff, 0x0f][..], b"x"].concat();
        let cases: [&[u8]; 8] = [
            b"",
            &[0, 0, 0],
            &[0, 0, 0, 0, 0],
            &framed(&[0x12, 1, b'x']),
            &framed(&[NAME_KEY, 6, b'd']),
            &framed(&[NAME_KEY, 0x80]),
            &framed(&long),
            &[1, 0, 0, 0, 3, NAME_KEY, 1, b'x'],
        ];
        for body in cases {
            assert!(matches!(model_name(body), Err(Error::BadRequest(_))), "{body:?}");
        }
    }
}

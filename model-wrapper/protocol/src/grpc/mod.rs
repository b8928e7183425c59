//! The gRPC binding: generated messages and service, and the way between messages and tensors.

mod codec;
mod contents;
mod convert;

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod generated {
    tonic::include_proto!("inference");
}

pub use codec::{BoundedCodec, read};
pub use convert::{ContentsForm, GrpcRequest, decode, encode, metadata};
pub use generated::*;

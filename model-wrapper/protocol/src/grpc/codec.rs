//! A codec that looks before it decodes.

use std::marker::PhantomData;

use bytes::{Buf, Bytes};
use prost::{
    Message,
    encoding::{DecodeContext, decode_key, skip_field},
};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

/// Fields at the top of a message: an empty tensor takes two bytes on the wire and about two hundred in memory, so that the
/// bound on a message's bytes alone would let memory grow a hundredfold. No message of the service has more than a few per
/// tensor, and [`crate::Limits::max_tensors`] bounds those.
const MAX_FIELDS: usize = 4096;

/// protobuf, refused before it is decoded where it has an absurd number of fields.
#[derive(Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// The decoding half of [`BoundedCodec`].
#[derive(Debug)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        read(source.copy_to_bytes(source.remaining())).map(Some)
    }
}

/// Reads a message as [`BoundedCodec`] does.
pub fn read<U: Message + Default>(message: Bytes) -> Result<U, Status> {
    let malformed =
        |error: prost::DecodeError| Status::invalid_argument(format!("the message is not valid protobuf: {error}"));
    let mut rest = message.clone();
    let mut fields = 0;
    while rest.has_remaining() {
        fields += 1;
        if fields > MAX_FIELDS {
            return Err(Status::invalid_argument(format!("the message has more than {MAX_FIELDS} fields")));
        }
        let (tag, wire_type) = decode_key(&mut rest).map_err(malformed)?;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default()).map_err(malformed)?;
    }
    U::decode(message).map_err(malformed)
}

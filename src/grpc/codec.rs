//! Protocol buffers as tonic reads and writes them, with large messages worked on aside.

use std::any::TypeId;

use bytes::Buf;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use super::inference::ModelInferRequest;
use super::wire;
use crate::exchange::aside::aside;

/// What the generated service reads and writes its messages with.
#[derive(Debug, Default)]
pub struct InferenceCodec<T, U>(ProstCodec<T, U>);

/// One direction of the codec.
#[derive(Debug)]
pub struct Aside<C>(C);

impl<T, U> Codec for InferenceCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Aside<ProstEncoder<T>>;
    type Decoder = Aside<ProstDecoder<U>>;

    fn encoder(&mut self) -> Self::Encoder {
        Aside(self.0.encoder())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Aside(self.0.decoder())
    }
}

impl<T: Message> Encoder for Aside<ProstEncoder<T>> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let bytes = message.encoded_len();
        // Once, rather than by doubling.
        buffer.reserve(bytes);
        aside(bytes, || self.0.encode(message, buffer))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

impl<U: Message + Default + 'static> Decoder for Aside<ProstDecoder<U>> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The others are small, see the services' limits.
        let may_grow = TypeId::of::<U>() == TypeId::of::<ModelInferRequest>();
        aside(buffer.remaining(), || {
            if may_grow {
                wire::check(buffer.chunk())?;
            }
            self.0.decode(buffer)
        })
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

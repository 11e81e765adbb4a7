//! Reading single values: what rows, columns and tensor objects share.

use serde::de::value::MapDeserializer;
use serde::de::{DeserializeSeed, Deserializer, MapAccess};

use super::Context;
use super::fields::TextField;
use crate::oip::elements::TensorBuilder;
use crate::tensor::dtype::DataType;

/// Lets a visitor be handed to serde where a seed is wanted.
macro_rules! seeds {
    ($($seed:ty => $value:ty),* $(,)?) => {
        $(impl<'de> DeserializeSeed<'de> for $seed {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
                json.deserialize_any(self)
            }
        })*
    };
}
pub(super) use seeds;

/// Hands every kind of scalar to one method that takes a deserializer.
macro_rules! forward_scalars {
    ($method:ident) => {
        fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
            self.$method(value.into_deserializer())
        }

        fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
            self.$method(value.into_deserializer())
        }

        fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self::Value, E> {
            self.$method(value.into_deserializer())
        }

        fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
            self.$method(value.into_deserializer())
        }

        fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
            self.$method(value.into_deserializer())
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            self.$method(().into_deserializer())
        }
    };
}
pub(super) use forward_scalars;

/// Whether an object with this key stands for one `BYTES` element of the only input, rather than for named inputs.
pub fn is_base64(context: &Context<'_>, key: &str) -> bool {
    match context.signature.inputs.as_slice() {
        [input] => key == "b64" && input.dtype == DataType::Bytes && input.name != key,
        _ => false,
    }
}

/// Reads the value behind the key `b64`, which has been read already, as one element.
pub fn read_base64<'de, A: MapAccess<'de>>(
    context: &Context<'_>,
    builder: &mut TensorBuilder<'_>,
    depth: usize,
    map: &mut A,
) -> Result<(), A::Error> {
    let text = map.next_value_seed(TextField("'b64'"))?;
    builder.read(
        context,
        depth,
        MapDeserializer::new(std::iter::once(("b64", &*text))),
    )
}

/// One value for a builder.
pub struct Value<'a, 'n> {
    pub context: &'a Context<'a>,
    pub builder: &'a mut TensorBuilder<'n>,
    pub depth: usize,
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        self.builder.read(self.context, self.depth, json)
    }
}

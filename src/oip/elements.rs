//! Collects nested JSON lists into one typed buffer and the shape that the nesting implies.

use half::{bf16, f16};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::numbers::{Bool, FromJson, Scalar};
use super::request::{Context, Text, TextField};
use super::tokens;
use crate::error::{Error, Result};
use crate::tensor::dtype::DataType;
use crate::tensor::shape::{Dims, Shape};
use crate::tensor::value::{self, Element, NamedTensor, Tensor};

/// Builds one input from JSON values; every value is checked as it is read.
pub struct TensorBuilder<'n> {
    name: &'n str,
    dtype: DataType,
    elements: Elements,
    nesting: Nesting,
}

enum Elements {
    Bool(Vec<Bool>),
    UInt8(Vec<u8>),
    UInt16(Vec<u16>),
    UInt32(Vec<u32>),
    UInt64(Vec<u64>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp16(Vec<f16>),
    Bf16(Vec<bf16>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    Bytes(StringBuffer),
}

/// `BYTES` elements in the binary wire's form, and how many there are.
#[derive(Default)]
struct StringBuffer {
    data: Vec<u8>,
    count: usize,
}

/// Runs the same generic code on whatever element type the buffer has.
macro_rules! for_each_type {
    ($elements:expr, $buffer:ident => $typed:expr, $strings:ident => $text:expr) => {
        match $elements {
            Elements::Bool($buffer) => $typed,
            Elements::UInt8($buffer) => $typed,
            Elements::UInt16($buffer) => $typed,
            Elements::UInt32($buffer) => $typed,
            Elements::UInt64($buffer) => $typed,
            Elements::Int8($buffer) => $typed,
            Elements::Int16($buffer) => $typed,
            Elements::Int32($buffer) => $typed,
            Elements::Int64($buffer) => $typed,
            Elements::Fp16($buffer) => $typed,
            Elements::Bf16($buffer) => $typed,
            Elements::Fp32($buffer) => $typed,
            Elements::Fp64($buffer) => $typed,
            Elements::Bytes($strings) => $text,
        }
    };
}

impl Elements {
    fn new(dtype: DataType) -> Elements {
        match dtype {
            DataType::Bool => Elements::Bool(Vec::new()),
            DataType::UInt8 => Elements::UInt8(Vec::new()),
            DataType::UInt16 => Elements::UInt16(Vec::new()),
            DataType::UInt32 => Elements::UInt32(Vec::new()),
            DataType::UInt64 => Elements::UInt64(Vec::new()),
            DataType::Int8 => Elements::Int8(Vec::new()),
            DataType::Int16 => Elements::Int16(Vec::new()),
            DataType::Int32 => Elements::Int32(Vec::new()),
            DataType::Int64 => Elements::Int64(Vec::new()),
            DataType::Fp16 => Elements::Fp16(Vec::new()),
            DataType::Bf16 => Elements::Bf16(Vec::new()),
            DataType::Fp32 => Elements::Fp32(Vec::new()),
            DataType::Fp64 => Elements::Fp64(Vec::new()),
            DataType::Bytes => Elements::Bytes(StringBuffer::default()),
        }
    }
}

impl<'n> TensorBuilder<'n> {
    /// An empty builder for the input `name`.
    pub fn new(name: &'n str, dtype: DataType) -> Self {
        Self {
            name,
            dtype,
            elements: Elements::new(dtype),
            nesting: Nesting::default(),
        }
    }

    /// The same builder for an input whose name came last.
    pub fn named(self, name: &'n str) -> Self {
        Self { name, ..self }
    }

    /// Reads one JSON value that stands `depth` lists deep in this tensor.
    pub fn read<'de, D: Deserializer<'de>>(
        &mut self,
        context: &Context<'_>,
        depth: usize,
        json: D,
    ) -> Result<(), D::Error> {
        let (name, dtype, nesting) = (self.name, self.dtype, &mut self.nesting);
        for_each_type!(&mut self.elements,
            buffer => Nested { context, name, dtype, depth, nesting, sink: buffer }.deserialize(json),
            strings => Nested { context, name, dtype, depth, nesting, sink: strings }.deserialize(json))
    }

    /// Ends the outermost list, whose items were read one by one, with `count` items.
    pub fn close_outer_list(&mut self, count: usize) -> Result<()> {
        self.nesting
            .close(0, count)
            .map_err(|problem| problem.into_error(self.name))
    }

    /// The tensor in the shape that its nesting implies.
    pub fn finish(self) -> Result<NamedTensor> {
        let shape = Shape::new(self.nesting.dims())?;
        self.into_tensor(shape)
    }

    /// The tensor in a shape that the request states; the nesting must be flat or agree with it.
    pub fn finish_as(self, shape: Shape) -> Result<NamedTensor> {
        let dims = self.nesting.dims();
        let agrees = match dims.as_slice() {
            [count] => *count == shape.elements(),
            dims => dims == shape.dims(),
        };
        if !agrees {
            let got = match dims.as_slice() {
                [count] => format!("{count} elements"),
                dims => format!("lists nested as {}", Dims(dims)),
            };
            let (name, expected) = (self.name, shape.elements());
            return Err(Error::invalid(format!(
                "input '{name}': shape {shape} needs {expected} elements in data, flat or nested like the shape; got {got}"
            )));
        }
        self.into_tensor(shape)
    }

    fn into_tensor(self, shape: Shape) -> Result<NamedTensor> {
        let tensor = for_each_type!(self.elements,
            buffer => Tensor::from_vec(shape, buffer)?,
            strings => Tensor::new(DataType::Bytes, shape, strings.data.into())?);
        Ok(NamedTensor {
            name: self.name.to_owned(),
            tensor,
        })
    }
}

/// Where elements go.
trait Sink {
    fn len(&self) -> usize;
    /// Adds the element, or says that it would not fit without loss.
    fn push(&mut self, scalar: Scalar<'_>) -> Option<()>;
    /// Adds an element given as bytes, where the type has such.
    fn push_bytes(&mut self, bytes: &[u8]) -> Option<()>;
}

impl<T: FromJson + Element> Sink for Vec<T> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn push(&mut self, scalar: Scalar<'_>) -> Option<()> {
        Vec::push(self, T::from_json(scalar)?);
        Some(())
    }

    fn push_bytes(&mut self, _: &[u8]) -> Option<()> {
        None
    }
}

impl Sink for StringBuffer {
    fn len(&self) -> usize {
        self.count
    }

    fn push(&mut self, scalar: Scalar<'_>) -> Option<()> {
        match scalar {
            Scalar::Text(text) => self.push_bytes(text.as_bytes()),
            _ => None,
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> Option<()> {
        value::push_string(&mut self.data, bytes).ok()?;
        self.count += 1;
        Some(())
    }
}

/// Reads one value at `depth`: a scalar into the sink, or a list of values one level deeper.
struct Nested<'a, S> {
    context: &'a Context<'a>,
    name: &'a str,
    dtype: DataType,
    depth: usize,
    nesting: &'a mut Nesting,
    sink: &'a mut S,
}

impl<S: Sink> Nested<'_, S> {
    fn deeper(&mut self) -> Nested<'_, S> {
        Nested {
            context: self.context,
            name: self.name,
            dtype: self.dtype,
            depth: self.depth + 1,
            nesting: self.nesting,
            sink: self.sink,
        }
    }

    fn scalar<E: serde::de::Error>(&mut self, scalar: Scalar<'_>) -> Result<(), E> {
        self.room()?;
        match self.sink.push(scalar) {
            Some(()) => Ok(()),
            None => Err(self.mismatch(&scalar)),
        }
    }

    fn base64<E: serde::de::Error>(&mut self, text: &str) -> Result<(), E> {
        use base64::Engine;
        self.room()?;
        let decoded = base64::engine::general_purpose::STANDARD.decode(text);
        match decoded.ok().and_then(|bytes| self.sink.push_bytes(&bytes)) {
            Some(()) => Ok(()),
            None if self.dtype == DataType::Bytes => {
                Err(self.mismatch(&"text in b64 that is not base64"))
            }
            None => Err(self.mismatch(&"an object")),
        }
    }

    /// Checks that one more element may come here.
    fn room<E: serde::de::Error>(&mut self) -> Result<(), E> {
        if let Err(problem) = self.nesting.leaf(self.depth) {
            return Err(self.context.fail(problem.into_error(self.name)));
        }
        let limit = self.context.limits.tensor_elements;
        if self.sink.len() >= limit {
            let name = self.name;
            return Err(self.context.fail(Error::too_large(format!(
                "input '{name}' has more than {limit} elements"
            ))));
        }
        Ok(())
    }

    fn mismatch<E: serde::de::Error>(&self, got: &dyn std::fmt::Display) -> E {
        let (name, dtype, index) = (self.name, self.dtype, self.sink.len());
        self.context.fail(Error::invalid(format!(
            "input '{name}', element {index}: expected {dtype}, got {got}"
        )))
    }
}

impl<'de, S: Sink> DeserializeSeed<'de> for Nested<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Nested<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} elements or lists of them", self.dtype)
    }

    fn visit_u64<E: serde::de::Error>(mut self, value: u64) -> Result<(), E> {
        self.scalar(Scalar::Unsigned(value))
    }

    fn visit_i64<E: serde::de::Error>(mut self, value: i64) -> Result<(), E> {
        self.scalar(Scalar::Signed(value))
    }

    fn visit_f64<E: serde::de::Error>(mut self, value: f64) -> Result<(), E> {
        self.scalar(Scalar::Float(value))
    }

    fn visit_bool<E: serde::de::Error>(mut self, value: bool) -> Result<(), E> {
        self.scalar(Scalar::Bool(value))
    }

    fn visit_str<E: serde::de::Error>(mut self, value: &str) -> Result<(), E> {
        match tokens::marked(value).filter(|_| self.context.rewritten) {
            Some(number) => self.scalar(Scalar::Token(number)),
            None => self.scalar(Scalar::Text(value)),
        }
    }

    fn visit_unit<E: serde::de::Error>(mut self) -> Result<(), E> {
        self.scalar(Scalar::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let limit = self.context.limits.json_depth;
        if self.depth >= limit {
            return Err(self.context.fail(Error::too_large(format!(
                "input '{}' is nested deeper than the limit of {limit} lists",
                self.name
            ))));
        }
        if let Err(problem) = self.nesting.open(self.depth) {
            return Err(self.context.fail(problem.into_error(self.name)));
        }
        let mut count = 0;
        while list.next_element_seed(self.deeper())?.is_some() {
            count += 1;
        }
        self.nesting
            .close(self.depth, count)
            .map_err(|problem| self.context.fail(problem.into_error(self.name)))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        match map.next_key::<Text<'_>>()? {
            Some(Text(key)) if key == "b64" && self.dtype == DataType::Bytes => {
                let text = map.next_value_seed(TextField("'b64'"))?;
                self.base64(&text)?;
                match map.next_key::<Text<'_>>()? {
                    None => Ok(()),
                    Some(_) => Err(A::Error::custom("an object with b64 has no other key")),
                }
            }
            _ => Err(self.mismatch(&"an object")),
        }
    }
}

/// The shape that nested lists imply, kept regular while they are read.
#[derive(Debug, Default)]
struct Nesting {
    lengths: Vec<Option<usize>>,
    leaf_depth: Option<usize>,
}

enum Irregular {
    Mixed,
    Ragged {
        depth: usize,
        first: usize,
        other: usize,
    },
}

impl Irregular {
    fn into_error(self, name: &str) -> Error {
        Error::invalid(match self {
            Irregular::Mixed => {
                format!("input '{name}': values and lists are mixed at one level of nesting")
            }
            Irregular::Ragged {
                depth,
                first,
                other,
            } => format!(
                "input '{name}': lists at nesting level {depth} differ in length: {first} and {other}; a tensor needs equal ones"
            ),
        })
    }
}

impl Nesting {
    fn leaf(&mut self, depth: usize) -> Result<(), Irregular> {
        let has_lists_here = self.lengths.get(depth).is_some();
        match *self.leaf_depth.get_or_insert(depth) == depth && !has_lists_here {
            true => Ok(()),
            false => Err(Irregular::Mixed),
        }
    }

    fn open(&mut self, depth: usize) -> Result<(), Irregular> {
        if self.leaf_depth.is_some_and(|leaf| leaf <= depth) {
            return Err(Irregular::Mixed);
        }
        if self.lengths.len() <= depth {
            self.lengths.resize(depth + 1, None);
        }
        Ok(())
    }

    fn close(&mut self, depth: usize, count: usize) -> Result<(), Irregular> {
        if self.lengths.len() <= depth {
            self.lengths.resize(depth + 1, None);
        }
        let first = *self.lengths[depth].get_or_insert(count);
        match first == count {
            true => Ok(()),
            false => Err(Irregular::Ragged {
                depth,
                first,
                other: count,
            }),
        }
    }

    fn dims(&self) -> Vec<usize> {
        self.lengths
            .iter()
            .map(|length| length.unwrap_or(0))
            .collect()
    }
}

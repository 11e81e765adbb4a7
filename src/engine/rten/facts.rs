//! What is known of each value of a graph before it runs: its element type, how large its numbers can get, and whether
//! it is a boolean that rten holds as any number.
//!
//! rten computes whole numbers of every width in 32 bits. That is right for what is small by nature: lengths, indices,
//! counts, and what is reckoned from them. It is not for numbers that come from a request or from a network's
//! fractions, once they are reckoned with: those may need more bits, and rten would wrap around without a word.

use crate::engine::onnx::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, attribute,
};

/// Element types by their numbers in ONNX.
pub mod element {
    pub const FLOAT: i32 = 1;
    pub const UINT8: i32 = 2;
    pub const INT8: i32 = 3;
    pub const UINT16: i32 = 4;
    pub const INT16: i32 = 5;
    pub const INT32: i32 = 6;
    pub const INT64: i32 = 7;
    pub const BOOL: i32 = 9;
    pub const FLOAT16: i32 = 10;
    pub const DOUBLE: i32 = 11;
    pub const UINT32: i32 = 12;
    pub const UINT64: i32 = 13;
    pub const BFLOAT16: i32 = 16;
}
use element::*;

/// Constants up to here are as harmless as lengths.
const SMALL: i64 = 1 << 24;
/// Longer constants of fractions are weights, which no length is reckoned from.
const MOST_FRACTIONS: usize = 64;

/// How large a value's numbers can get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Lengths, indices, counts, and what is reckoned from them.
    Small,
    /// Anything that fits 32 bits, or a fraction.
    Any,
    /// 64 bits in the file's eyes, made from fractions: rten holds the nearest number of 32 bits.
    Clamped,
    /// A constant beyond 32 bits, which rten holds as the nearest number that fits.
    Beyond,
}

/// What is known of one value.
#[derive(Debug, Clone, Copy)]
pub struct Fact {
    pub element: Option<i32>,
    pub rank: Option<usize>,
    /// How many elements it has, where it is known to be a vector.
    pub length: Option<usize>,
    pub reach: Reach,
    /// A fraction that is a whole number all the same, such as a mask.
    pub is_whole: bool,
    /// A boolean that may be held as any number but 0 for true.
    pub is_loose: bool,
    /// The one number that it is, where it is a constant of one whole number.
    pub number: Option<i64>,
}

impl Fact {
    /// Of a value of which only the element type is known.
    pub fn of(element: Option<i32>, reach: Reach) -> Fact {
        Fact {
            element,
            rank: None,
            length: None,
            reach,
            is_whole: false,
            is_loose: false,
            number: None,
        }
    }

    /// Of a value that is one or the other.
    pub fn or(self, other: Fact) -> Fact {
        Fact {
            element: self
                .element
                .filter(|element| other.element == Some(*element)),
            rank: self.rank.filter(|rank| other.rank == Some(*rank)),
            length: self.length.filter(|length| other.length == Some(*length)),
            reach: self.reach.max(other.reach),
            is_whole: self.is_whole && other.is_whole,
            is_loose: self.is_loose || other.is_loose,
            number: None,
        }
    }

    /// Whether rten computes in 32 bits what ONNX computes in another width.
    pub fn is_held_in_32_bits(&self) -> bool {
        matches!(
            self.element,
            Some(INT64 | UINT64 | UINT32 | INT16 | UINT16) | None
        )
    }

    pub fn is_fraction(&self) -> bool {
        matches!(self.element, Some(FLOAT | FLOAT16 | BFLOAT16 | DOUBLE))
    }

    /// Of an input or of what value_info tells.
    pub fn declared(value: &ValueInfoProto) -> Fact {
        let tensor = value
            .r#type
            .as_ref()
            .and_then(|kind| kind.tensor_type.as_ref());
        let element = tensor.map(|tensor| tensor.elem_type);
        let reach = match element {
            Some(BOOL | INT8 | UINT8) => Reach::Small,
            _ => Reach::Any,
        };
        let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
        Fact {
            rank: shape.map(|shape| shape.dim.len()),
            ..Fact::of(element, reach)
        }
    }

    /// Of a tensor that is written down in the file.
    pub fn constant(tensor: &TensorProto) -> Fact {
        let whole = whole_numbers(tensor);
        let reach = match tensor.data_type {
            FLOAT if tensor.dims.iter().product::<i64>() <= MOST_FRACTIONS as i64 => {
                reach_of_fractions(&fractions(tensor))
            }
            BOOL | INT8 | UINT8 => Reach::Small,
            INT32 | INT64 => whole
                .iter()
                .map(|number| reach_of(*number))
                .max()
                .unwrap_or(Reach::Small),
            _ => Reach::Any,
        };
        let is_whole = tensor.data_type == FLOAT
            && tensor.dims.iter().product::<i64>() <= MOST_FRACTIONS as i64
            && fractions(tensor)
                .iter()
                .all(|fraction| fraction.fract() == 0.0);
        let number = match whole[..] {
            [number] => Some(number),
            _ => None,
        };
        let length = match tensor.dims[..] {
            [length] => usize::try_from(length).ok(),
            _ => None,
        };
        Fact {
            rank: Some(tensor.dims.len()),
            length,
            is_whole,
            number,
            ..Fact::of(Some(tensor.data_type), reach)
        }
    }

    /// Of what a Constant node gives.
    pub fn constant_node(attributes: &[AttributeProto]) -> Fact {
        let [attribute, ..] = attributes else {
            return Fact::of(None, Reach::Any);
        };
        let whole = |numbers: &[i64]| {
            let reach = numbers.iter().map(|number| reach_of(*number)).max();
            Fact::of(Some(INT64), reach.unwrap_or(Reach::Small))
        };
        let fractions = |numbers: &[f32]| Fact::of(Some(FLOAT), reach_of_fractions(numbers));
        match (attribute.name.as_str(), &attribute.t) {
            ("value", Some(tensor)) => Fact::constant(tensor),
            ("value_int", _) => Fact {
                rank: Some(0),
                number: Some(attribute.i),
                ..whole(&[attribute.i])
            },
            ("value_ints", _) => Fact {
                rank: Some(1),
                length: Some(attribute.ints.len()),
                ..whole(&attribute.ints)
            },
            ("value_float", _) => Fact {
                rank: Some(0),
                ..fractions(&[attribute.f])
            },
            ("value_floats", _) => Fact {
                rank: Some(1),
                length: Some(attribute.floats.len()),
                ..fractions(&attribute.floats)
            },
            _ => Fact::of(None, Reach::Any),
        }
    }
}

fn reach_of(number: i64) -> Reach {
    match (
        i32::try_from(number),
        number.unsigned_abs() <= SMALL.unsigned_abs(),
    ) {
        (Err(_), _) => Reach::Beyond,
        (Ok(_), true) => Reach::Small,
        (Ok(_), false) => Reach::Any,
    }
}

fn reach_of_fractions(numbers: &[f32]) -> Reach {
    match numbers.iter().all(|number| number.abs() <= SMALL as f32) {
        true => Reach::Small,
        false => Reach::Any,
    }
}

/// The elements of an INT32 or INT64 tensor that is in the file itself; of one that is not, a number that is `Beyond`.
fn whole_numbers(tensor: &TensorProto) -> Vec<i64> {
    let raw = &tensor.raw_data;
    match tensor.data_type {
        INT32 | INT64 if tensor.data_location != 0 => vec![i64::MAX],
        INT32 if raw.is_empty() => tensor
            .int32_data
            .iter()
            .map(|number| i64::from(*number))
            .collect(),
        INT64 if raw.is_empty() => tensor.int64_data.clone(),
        INT32 => raw
            .as_chunks()
            .0
            .iter()
            .map(|bytes| i64::from(i32::from_le_bytes(*bytes)))
            .collect(),
        INT64 => raw
            .as_chunks()
            .0
            .iter()
            .map(|bytes| i64::from_le_bytes(*bytes))
            .collect(),
        _ => Vec::new(),
    }
}

fn fractions(tensor: &TensorProto) -> Vec<f32> {
    match (tensor.data_location, tensor.raw_data.is_empty()) {
        (0, true) => tensor.float_data.clone(),
        (0, false) => tensor
            .raw_data
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect(),
        _ => vec![f32::INFINITY],
    }
}

/// The whole number that an attribute is.
pub fn integer(node: &NodeProto, name: &str) -> Option<i64> {
    attribute(&node.attribute, name).map(|attribute| attribute.i)
}

/// The text that an attribute is.
pub fn text<'a>(node: &'a NodeProto, name: &str) -> Option<&'a str> {
    attribute(&node.attribute, name).and_then(|attribute| std::str::from_utf8(&attribute.s).ok())
}

/// The graph that an attribute is.
pub fn subgraph<'a>(node: &'a NodeProto, name: &str) -> Option<&'a GraphProto> {
    attribute(&node.attribute, name).and_then(|attribute| attribute.g.as_ref())
}

//! The element types of ONNX (`TensorProto.DataType`): their numbers, widths, and which of them a request can carry.

use crate::tensor::dtype::DataType;

/// An element type of ONNX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementType {
    number: i32,
    /// `None` for strings.
    bits: Option<usize>,
}

impl ElementType {
    /// The type of this number.
    pub fn from_number(number: i32) -> Option<ElementType> {
        let bits = match number {
            8 => None,
            2 | 3 | 9 | 17..=20 | 24 => Some(8),
            4 | 5 | 10 | 16 => Some(16),
            1 | 6 | 12 => Some(32),
            7 | 11 | 13 | 14 => Some(64),
            15 => Some(128),
            21..=23 => Some(4),
            25 | 26 => Some(2),
            _ => return None,
        };
        Some(ElementType { number, bits })
    }

    /// The data type that requests and answers have for it, if they have one.
    pub fn data_type(self) -> Option<DataType> {
        Some(match self.number {
            1 => DataType::Fp32,
            2 => DataType::UInt8,
            3 => DataType::Int8,
            4 => DataType::UInt16,
            5 => DataType::Int16,
            6 => DataType::Int32,
            7 => DataType::Int64,
            8 => DataType::Bytes,
            9 => DataType::Bool,
            10 => DataType::Fp16,
            11 => DataType::Fp64,
            12 => DataType::UInt32,
            13 => DataType::UInt64,
            16 => DataType::Bf16,
            _ => return None,
        })
    }

    /// The bytes of so many elements as raw data, whose last byte may be padded; `None` for strings, whose lengths
    /// differ, and where the number overflows.
    pub fn bytes(self, elements: usize) -> Option<usize> {
        Some(elements.checked_mul(self.bits?)?.div_ceil(8))
    }

    /// How many entries of a typed list (`float_data` and its siblings) hold so many elements.
    pub fn entries(self, elements: usize) -> usize {
        match self.bits {
            Some(bits @ 2..=4) => elements.div_ceil(8 / bits),
            // The complex numbers take two entries each.
            _ if matches!(self.number, 14 | 15) => elements * 2,
            _ => elements,
        }
    }

    /// Whether the elements are strings.
    pub fn is_string(self) -> bool {
        self.bits.is_none()
    }
}

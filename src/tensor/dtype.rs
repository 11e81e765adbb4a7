//! The data types that a tensor can have on the wire, by their Open Inference Protocol names.

use std::fmt;

/// A tensor's element type. Its width and name are those of the Open Inference Protocol, version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    Bool,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    /// A string of bytes of any length, each element with its own.
    Bytes,
}

impl DataType {
    /// Every data type, in the order of the protocol's table.
    pub const ALL: [DataType; 14] = [
        DataType::Bool,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Fp16,
        DataType::Bf16,
        DataType::Fp32,
        DataType::Fp64,
        DataType::Bytes,
    ];

    /// The name on the wire, such as `FP32`.
    pub fn name(self) -> &'static str {
        match self {
            DataType::Bool => "BOOL",
            DataType::UInt8 => "UINT8",
            DataType::UInt16 => "UINT16",
            DataType::UInt32 => "UINT32",
            DataType::UInt64 => "UINT64",
            DataType::Int8 => "INT8",
            DataType::Int16 => "INT16",
            DataType::Int32 => "INT32",
            DataType::Int64 => "INT64",
            DataType::Fp16 => "FP16",
            DataType::Bf16 => "BF16",
            DataType::Fp32 => "FP32",
            DataType::Fp64 => "FP64",
            DataType::Bytes => "BYTES",
        }
    }

    /// The data type of this name, if there is one.
    pub fn from_name(name: &str) -> Option<DataType> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// The bytes of one element; `None` for `BYTES`, whose elements differ.
    pub fn width(self) -> Option<usize> {
        match self {
            DataType::Bool | DataType::UInt8 | DataType::Int8 => Some(1),
            DataType::UInt16 | DataType::Int16 | DataType::Fp16 | DataType::Bf16 => Some(2),
            DataType::UInt32 | DataType::Int32 | DataType::Fp32 => Some(4),
            DataType::UInt64 | DataType::Int64 | DataType::Fp64 => Some(8),
            DataType::Bytes => None,
        }
    }

    /// Whether the elements are whole numbers.
    pub fn is_integer(self) -> bool {
        !self.is_float() && !matches!(self, DataType::Bool | DataType::Bytes)
    }

    /// Whether the elements are fractions.
    pub fn is_float(self) -> bool {
        use DataType::{Bf16, Fp16, Fp32, Fp64};
        matches!(self, Fp16 | Bf16 | Fp32 | Fp64)
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for dtype in DataType::ALL {
            assert_eq!(DataType::from_name(dtype.name()), Some(dtype));
        }
        assert_eq!(DataType::from_name("fp32"), None);
    }
}

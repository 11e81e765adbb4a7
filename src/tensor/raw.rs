//! Inputs as the wires of the Open Inference Protocol describe them, and their raw bytes: little-endian, row-major, a
//! `BYTES` element with its length as a `u32` before it. Binary REST and gRPC carry tensors so; [`Tensor::data`] is
//! the same on the way out.

use bytes::Bytes;

use super::dtype::DataType;
use super::shape::{Dims, Shape};
use super::signature::{Dim, Signature, TensorSpec};
use super::value::{NamedTensor, Tensor};
use crate::error::{Error, Result};

/// More dimensions than any operator takes.
const MOST_DIMENSIONS: usize = 64;

/// What a request says of an input beside its data: the model has it and the type is right.
#[derive(Debug, Clone)]
pub struct Described<'s> {
    spec: &'s TensorSpec,
    shape: Shape,
}

/// The data type of this name.
pub fn data_type(input: Option<&str>, name: &str) -> Result<DataType> {
    DataType::from_name(name).ok_or_else(|| {
        let names: Vec<_> = DataType::ALL.iter().map(|dtype| dtype.name()).collect();
        let input = input.map_or(String::new(), |input| format!("input '{input}': "));
        Error::invalid(format!(
            "{input}unknown datatype '{name}'; valid ones are {}",
            names.join(", ")
        ))
    })
}

impl<'s> Described<'s> {
    /// The input of this specification with the data type and the shape that a request states.
    pub fn new(spec: &'s TensorSpec, dtype: DataType, dims: &[i64]) -> Result<Described<'s>> {
        if dtype != spec.dtype {
            return Err(of(
                spec,
                Error::invalid(format!("expected datatype {}, got {dtype}", spec.dtype)),
            ));
        }
        let shape = shape(dims).map_err(|error| of(spec, error))?;
        Ok(Described { spec, shape })
    }

    /// The only input of a model, whose shape follows from how many bytes it has: at most one dimension may vary, beside
    /// a first one that stands for rows, which is one row then. A string is the whole of the bytes.
    pub fn whole(signature: &Signature, data: Bytes, most_elements: usize) -> Result<NamedTensor> {
        let [spec] = signature.inputs.as_slice() else {
            return Err(Error::invalid(format!(
                "a body that is one raw tensor needs a model with one input, and this one has {}",
                signature.inputs.len()
            )));
        };
        let fixed = deduced_shape(spec, signature.has_rows(), data.len());
        let shape = Shape::new(fixed.map_err(|error| of(spec, error))?);
        let described = Described {
            spec,
            shape: shape.map_err(|error| of(spec, error))?,
        };
        match spec.dtype {
            DataType::Bytes => {
                let tensor = Tensor::from_strings(described.shape.clone(), [&data]);
                described.named(tensor)
            }
            _ => described.raw(data, most_elements),
        }
    }

    /// The model's data type for it, which is the request's too.
    pub fn dtype(&self) -> DataType {
        self.spec.dtype
    }

    /// What the request's shape is.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Refuses a shape of more elements than this.
    pub fn bounded(self, most_elements: usize) -> Result<Self> {
        if self.shape.elements() > most_elements {
            let shape = &self.shape;
            let error = Error::too_large(format!(
                "shape {shape} has more than {most_elements} elements"
            ));
            return Err(of(self.spec, error));
        }
        Ok(self)
    }

    /// The input over its raw bytes. They are not copied, aligned or not: an engine that needs them aligned sees to it.
    pub fn raw(self, data: Bytes, most_elements: usize) -> Result<NamedTensor> {
        let described = self.bounded(most_elements)?;
        let tensor = Tensor::new(described.spec.dtype, described.shape.clone(), data);
        described.named(tensor)
    }

    /// The input that this tensor was made for; an error tells its name.
    pub fn named(&self, tensor: Result<Tensor>) -> Result<NamedTensor> {
        Ok(NamedTensor {
            name: self.spec.name.clone(),
            tensor: tensor.map_err(|error| of(self.spec, error))?,
        })
    }
}

/// The same error, with the name of the input that it is about.
fn of(spec: &TensorSpec, error: Error) -> Error {
    let message = format!("input '{}': {}", spec.name, error.public_message());
    Error::new(error.kind(), message)
}

fn shape(dims: &[i64]) -> Result<Shape> {
    if dims.len() > MOST_DIMENSIONS {
        return Err(Error::invalid(format!(
            "a shape has at most {MOST_DIMENSIONS} dimensions, got {}",
            dims.len()
        )));
    }
    let lengths: Result<Vec<usize>, _> = dims.iter().map(|&dim| usize::try_from(dim)).collect();
    let lengths = lengths.map_err(|_| {
        Error::invalid(format!(
            "a shape has no negative dimensions, got {}",
            Dims(dims)
        ))
    })?;
    Shape::new(lengths)
}

/// The shape that so many bytes of the only input have.
fn deduced_shape(spec: &TensorSpec, has_rows: bool, bytes: usize) -> Result<Vec<usize>> {
    let declared = spec.dims.as_deref().ok_or_else(|| {
        Error::invalid(
            "its shape cannot be told from raw bytes, since the model does not fix its rank",
        )
    })?;
    let varying = |dims: &[Dim]| {
        let dynamic = dims.iter().filter(|dim| matches!(dim, Dim::Dynamic(_)));
        dynamic.count()
    };
    let one_row = has_rows && (varying(declared) > 1 || spec.dtype == DataType::Bytes);
    let free = varying(declared) - usize::from(one_row);
    let fixed = |dim: &Dim| match dim {
        Dim::Fixed(length) => Some(*length),
        Dim::Dynamic(_) => None,
    };
    let product = declared
        .iter()
        .filter_map(fixed)
        .try_fold(1, usize::checked_mul);
    let free_length = match (spec.dtype.width(), product) {
        (None, Some(1)) if free == 0 => 1,
        (None, _) => {
            return Err(Error::invalid(format!(
                "raw bytes are one string, and shape {} is not that of one",
                Dims(declared)
            )));
        }
        (Some(_), _) if free > 1 => {
            return Err(Error::invalid(format!(
                "shape {} cannot be told from raw bytes, since more than one dimension varies",
                Dims(declared)
            )));
        }
        (Some(width), product) => {
            let step = product.and_then(|product| product.checked_mul(width));
            bytes.checked_div(step.unwrap_or(0)).unwrap_or(0)
        }
    };
    let mut is_row = one_row;
    let length = |dim: &Dim| match fixed(dim) {
        Some(length) => length,
        None if std::mem::take(&mut is_row) => 1,
        None => free_length,
    };
    Ok(declared.iter().map(length).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(dtype: DataType, dims: &[i64]) -> TensorSpec {
        let dim = |&dim: &i64| usize::try_from(dim).map_or(Dim::Dynamic(None), Dim::Fixed);
        TensorSpec {
            name: "x".into(),
            dtype,
            dims: Some(dims.iter().map(dim).collect()),
            columns: None,
        }
    }

    fn outcome(result: Result<NamedTensor>) -> String {
        match result {
            Ok(NamedTensor { tensor, .. }) => tensor.shape().to_string(),
            Err(error) => error.public_message().to_owned(),
        }
    }

    #[test]
    fn raw_bytes_must_be_as_many_as_the_shape_needs() {
        let check = |dtype, dims: &[i64], data: &[u8], expected: &str| {
            let spec = spec(dtype, &[-1]);
            let described = Described::new(&spec, dtype, dims);
            let data = Bytes::copy_from_slice(data);
            let got = outcome(described.and_then(|described| described.raw(data, 8)));
            assert_eq!(got, expected);
        };
        check(DataType::Fp32, &[2], &[0; 8], "[2]");
        check(DataType::Fp32, &[0, 5], &[], "[0,5]");
        check(
            DataType::Fp32,
            &[2, 2],
            &[0; 12],
            "input 'x': expected 16 bytes for FP32 of shape [2,2], got 12",
        );
        check(
            DataType::Int8,
            &[3, 3],
            &[0; 9],
            "input 'x': shape [3,3] has more than 8 elements",
        );
        check(
            DataType::Int64,
            &[1 << 60],
            &[],
            "input 'x': shape [1152921504606846976] has more than 8 elements",
        );
        check(
            DataType::Int64,
            &[1 << 32, 1 << 32],
            &[],
            "input 'x': shape [4294967296,4294967296] has more elements than can be addressed",
        );
        check(
            DataType::Int64,
            &[2, -1],
            &[],
            "input 'x': a shape has no negative dimensions, got [2,-1]",
        );
        check(
            DataType::Int64,
            &[1; 65],
            &[0; 8],
            "input 'x': a shape has at most 64 dimensions, got 65",
        );
        check(
            DataType::Bool,
            &[2],
            &[1, 2],
            "input 'x': a BOOL element must be 0 or 1",
        );
        check(DataType::Bytes, &[2], &[1, 0, 0, 0, 7, 0, 0, 0, 0], "[2]");
        let strings = "input 'x': expected 2 elements of BYTES, each a length of 4 bytes and then so many bytes; the 5 bytes are not those";
        check(DataType::Bytes, &[2], &[1, 0, 0, 0, 7], strings);
        let strings = "input 'x': expected 1 elements of BYTES, each a length of 4 bytes and then so many bytes; the 5 bytes are not those";
        check(DataType::Bytes, &[1], &[2, 0, 0, 0, 7], strings);
    }

    #[test]
    fn the_shape_of_a_whole_body_follows_from_its_bytes() {
        let check = |input: TensorSpec, output: &[i64], bytes: usize, expected: &str| {
            let signature = Signature {
                inputs: vec![input],
                outputs: vec![spec(DataType::Fp32, output)],
            };
            let data = Bytes::from(vec![0; bytes]);
            let got = outcome(Described::whole(&signature, data, 100));
            assert_eq!(got, expected);
        };
        let fp32 = |dims: &[i64]| spec(DataType::Fp32, dims);
        check(fp32(&[2, 3]), &[1], 24, "[2,3]");
        check(fp32(&[-1, 3]), &[-1], 24, "[2,3]");
        check(fp32(&[2, -1]), &[1], 24, "[2,3]");
        check(fp32(&[-1, 3]), &[-1], 0, "[0,3]");
        check(fp32(&[-1, 0]), &[-1], 0, "[0,0]");
        check(fp32(&[]), &[1], 4, "[]");
        check(fp32(&[-1, -1]), &[-1], 12, "[1,3]");
        let two = "input 'x': shape [-1,-1] cannot be told from raw bytes, since more than one dimension varies";
        check(fp32(&[-1, -1]), &[1], 12, two);
        let uneven = "input 'x': expected 12 bytes for FP32 of shape [1,3], got 13";
        check(fp32(&[-1, 3]), &[-1], 13, uneven);
        let many = "input 'x': shape [101] has more than 100 elements";
        check(fp32(&[-1]), &[-1], 404, many);
        let strings = |dims: &[i64]| spec(DataType::Bytes, dims);
        check(strings(&[1]), &[1], 7, "[1]");
        check(strings(&[-1, 1]), &[-1], 7, "[1,1]");
        let many = "input 'x': raw bytes are one string, and shape [-1,2] is not that of one";
        check(strings(&[-1, 2]), &[-1], 7, many);
        let any = "input 'x': raw bytes are one string, and shape [-1] is not that of one";
        check(strings(&[-1]), &[1], 7, any);
        let unknown = TensorSpec {
            dims: None,
            ..fp32(&[])
        };
        let rank = "input 'x': its shape cannot be told from raw bytes, since the model does not fix its rank";
        check(unknown, &[1], 4, rank);
    }
}

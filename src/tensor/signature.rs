//! What a model takes and gives, and the one place where a request is checked against it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::batch;
use super::dtype::DataType;
use super::shape::Dims;
use super::value::{NamedTensor, Tensor, bytes_of};
use crate::error::{Error, Result};

/// One dimension of a model's input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// Always this long.
    Fixed(usize),
    /// Any length; dimensions of one name must agree within a request.
    Dynamic(Option<String>),
}

impl Dim {
    /// The dimension as the Open Inference Protocol's metadata has it: -1 for a dynamic one.
    pub fn wire(&self) -> i64 {
        match self {
            Dim::Fixed(length) => i64::try_from(*length).unwrap_or(i64::MAX),
            Dim::Dynamic(_) => -1,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.wire().fmt(f)
    }
}

/// One input or output: its name, data type and dimensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub dtype: DataType,
    /// `None` where the model does not even fix the rank.
    pub dims: Option<Vec<Dim>>,
    /// What the columns of a `[rows, columns]` output are called, where the model names them.
    pub columns: Option<Arc<[String]>>,
}

impl TensorSpec {
    /// The shape for metadata and messages, with -1 for what varies.
    pub fn wire_shape(&self) -> Vec<i64> {
        match &self.dims {
            Some(dims) => dims.iter().map(Dim::wire).collect(),
            None => vec![-1],
        }
    }

    /// Whether any dimension may vary.
    pub fn is_dynamic(&self) -> bool {
        let dims = self.dims.as_deref();
        dims.is_none_or(|dims| dims.iter().any(|dim| matches!(dim, Dim::Dynamic(_))))
    }

    /// Whether a dimension beside the first may vary.
    pub fn has_free_dims(&self) -> bool {
        let dims = self.dims.as_deref().unwrap_or_default();
        dims.iter()
            .skip(1)
            .any(|dim| matches!(dim, Dim::Dynamic(_)))
    }

    /// Whether a request knows something of this input that cannot be guessed: a length beside the rows, whole
    /// numbers, or text.
    pub fn is_open(&self) -> bool {
        self.dims.is_none() || self.has_free_dims() || !self.dtype.is_float()
    }

    fn has_dynamic_rows(&self) -> bool {
        matches!(self.dims.as_deref(), Some([Dim::Dynamic(_), ..]))
    }
}

/// Everything a model takes and gives, in the model's own order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
}

/// Inputs that fit a signature, in its order: only [`Signature::check`] makes them.
#[derive(Debug, Clone)]
pub struct CheckedInputs {
    tensors: Vec<Tensor>,
    rows: usize,
}

impl CheckedInputs {
    /// The tensors, one for each of the model's inputs, in its order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// How many rows the request has; one where its first dimension does not stand for rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many rows the queue counts for it: one without rows takes a place too.
    pub fn places(&self) -> usize {
        self.rows.max(1)
    }

    /// The same, counted as one row: for models whose first dimension does not stand for rows.
    pub fn as_one_row(self) -> CheckedInputs {
        CheckedInputs { rows: 1, ..self }
    }

    /// How many bytes the tensors hold.
    pub fn bytes(&self) -> usize {
        bytes_of(&self.tensors)
    }

    /// Whether every input has as many rows as the request is counted for, at least one. Inputs whose first dimensions
    /// differ are one row together, which nothing can be joined to.
    pub fn is_in_rows(&self) -> bool {
        let mut rows = self.tensors.iter().map(batch::rows);
        self.rows > 0 && rows.all(|rows| rows == Some(self.rows))
    }

    /// The rows of all of these, in order. What fits a signature one by one fits it together, where the first dimensions
    /// are dynamic.
    pub fn concat(requests: &[&CheckedInputs]) -> Result<CheckedInputs> {
        let inputs = requests.first().map_or(0, |first| first.tensors.len());
        let tensor = |at| {
            let parts = requests.iter().map(|request| &request.tensors[at]);
            batch::concat(&parts.collect::<Vec<_>>())
        };
        Ok(CheckedInputs {
            tensors: (0..inputs).map(tensor).collect::<Result<_>>()?,
            rows: requests.iter().map(|request| request.rows).sum(),
        })
    }

    /// The request's rows, shared out: so many to each part.
    pub fn split(&self, counts: &[usize]) -> Result<Vec<CheckedInputs>> {
        let mut parts: Vec<_> = counts
            .iter()
            .map(|&rows| CheckedInputs {
                tensors: Vec::with_capacity(self.tensors.len()),
                rows,
            })
            .collect();
        for tensor in &self.tensors {
            let split = batch::split(tensor, counts)?;
            parts
                .iter_mut()
                .zip(split)
                .for_each(|(part, tensor)| part.tensors.push(tensor));
        }
        Ok(parts)
    }
}

impl Signature {
    /// The input of this name.
    pub fn input(&self, name: &str) -> Result<&TensorSpec> {
        Ok(&self.inputs[self.input_index(name)?])
    }

    /// Where the input of this name stands in the model's order.
    pub fn input_index(&self, name: &str) -> Result<usize> {
        let index = self.inputs.iter().position(|input| input.name == name);
        index.ok_or_else(|| unknown(&self.inputs, "input", name))
    }

    /// The output of this name.
    pub fn output(&self, name: &str) -> Result<&TensorSpec> {
        let output = self.outputs.iter().find(|output| output.name == name);
        output.ok_or_else(|| unknown(&self.outputs, "output", name))
    }

    /// The outputs of a run, which come in the signature's order, by name.
    pub fn named_outputs(&self, tensors: Vec<Tensor>) -> Vec<NamedTensor> {
        let named = self.outputs.iter().zip(tensors);
        let named = named.map(|(output, tensor)| NamedTensor {
            name: output.name.clone(),
            tensor,
        });
        named.collect()
    }

    /// The names of an output's columns, where it has some.
    pub fn columns(&self, output: &str) -> Option<&[String]> {
        self.output(output).ok()?.columns.as_deref()
    }

    /// Whether the first dimension of every input and output is dynamic, so that it may stand for rows.
    pub fn has_rows(&self) -> bool {
        !self.inputs.is_empty()
            && self
                .inputs
                .iter()
                .chain(&self.outputs)
                .all(TensorSpec::has_dynamic_rows)
    }

    /// Checks names, data types and shapes, and puts the inputs into the model's order.
    pub fn check(&self, inputs: Vec<NamedTensor>) -> Result<CheckedInputs> {
        let mut slots: Vec<Option<Tensor>> = vec![None; self.inputs.len()];
        let mut symbols = HashMap::new();
        for NamedTensor { name, tensor } in inputs {
            let index = self.input_index(&name)?;
            check_tensor(&self.inputs[index], &tensor, &mut symbols)?;
            if slots[index].replace(tensor).is_some() {
                return Err(Error::invalid(format!("input '{name}' is given twice")));
            }
        }
        let tensors = slots
            .into_iter()
            .zip(&self.inputs)
            .map(|(slot, spec)| slot.ok_or_else(|| missing(&self.inputs, &spec.name)))
            .collect::<Result<Vec<_>>>()?;
        let rows = self.rows(&tensors);
        Ok(CheckedInputs { tensors, rows })
    }

    fn rows(&self, tensors: &[Tensor]) -> usize {
        let first = |tensor: &Tensor| tensor.shape().dims().first().copied();
        match tensors.first().and_then(first) {
            Some(rows)
                if self.has_rows() && tensors.iter().all(|tensor| first(tensor) == Some(rows)) =>
            {
                rows
            }
            _ => 1,
        }
    }
}

fn check_tensor<'a>(
    spec: &'a TensorSpec,
    tensor: &Tensor,
    symbols: &mut HashMap<&'a str, usize>,
) -> Result<()> {
    let TensorSpec {
        name,
        dtype,
        dims,
        columns: _,
    } = spec;
    if tensor.dtype() != *dtype {
        return Err(Error::invalid(format!(
            "input '{name}': expected datatype {dtype}, got {}",
            tensor.dtype()
        )));
    }
    let Some(dims) = dims else { return Ok(()) };
    let got = tensor.shape().dims();
    let fits = |(dim, &length): (&Dim, &usize)| match dim {
        Dim::Fixed(expected) => *expected == length,
        Dim::Dynamic(_) => true,
    };
    if dims.len() != got.len() || !dims.iter().zip(got).all(fits) {
        return Err(Error::invalid(format!(
            "input '{name}': expected shape {}, got {}",
            Dims(dims),
            tensor.shape()
        )));
    }
    for (dim, &length) in dims.iter().zip(got) {
        if let Dim::Dynamic(Some(symbol)) = dim {
            let known = *symbols.entry(symbol).or_insert(length);
            if known != length {
                return Err(Error::invalid(format!(
                    "input '{name}': dimension '{symbol}' is {length} here and {known} in another input; they must be equal"
                )));
            }
        }
    }
    Ok(())
}

fn unknown(specs: &[TensorSpec], what: &str, name: &str) -> Error {
    Error::invalid(format!(
        "unknown {what} '{name}'; the model's {what}s are {}",
        quoted_names(specs)
    ))
}

fn missing(specs: &[TensorSpec], name: &str) -> Error {
    Error::invalid(format!(
        "input '{name}' is missing; the model's inputs are {}",
        quoted_names(specs)
    ))
}

fn quoted_names(specs: &[TensorSpec]) -> String {
    let names: Vec<_> = specs
        .iter()
        .map(|spec| format!("'{}'", spec.name))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::shape::Shape;

    fn spec(name: &str, dims: Vec<Dim>) -> TensorSpec {
        TensorSpec {
            name: name.into(),
            dtype: DataType::Fp32,
            dims: Some(dims),
            columns: None,
        }
    }

    fn batch() -> Dim {
        Dim::Dynamic(Some("batch".into()))
    }

    fn two_inputs() -> Signature {
        Signature {
            inputs: vec![
                spec("a", vec![batch(), Dim::Fixed(2)]),
                spec("b", vec![batch()]),
            ],
            outputs: vec![spec("y", vec![batch()])],
        }
    }

    fn zeros(name: &str, dims: &[usize]) -> NamedTensor {
        let shape = Shape::new(dims.to_vec()).expect("small shapes fit");
        let tensor =
            Tensor::from_vec(shape.clone(), vec![0f32; shape.elements()]).expect("the length fits");
        NamedTensor {
            name: name.into(),
            tensor,
        }
    }

    fn message(inputs: Vec<NamedTensor>) -> String {
        two_inputs()
            .check(inputs)
            .expect_err("the request is wrong")
            .public_message()
            .to_owned()
    }

    #[test]
    fn inputs_come_out_in_the_models_order_with_their_rows() {
        let checked = two_inputs()
            .check(vec![zeros("b", &[3]), zeros("a", &[3, 2])])
            .expect("the request fits");
        assert_eq!(checked.tensors()[0].shape().dims(), [3, 2]);
        assert_eq!(checked.rows(), 3);
    }

    #[test]
    fn each_mistake_names_the_input_and_what_was_expected() {
        assert_eq!(
            message(vec![zeros("x", &[1])]),
            "unknown input 'x'; the model's inputs are 'a', 'b'"
        );
        assert_eq!(
            message(vec![zeros("b", &[1])]),
            "input 'a' is missing; the model's inputs are 'a', 'b'"
        );
        assert_eq!(
            message(vec![zeros("b", &[1]), zeros("b", &[1])]),
            "input 'b' is given twice"
        );
        assert_eq!(
            message(vec![zeros("a", &[1, 3])]),
            "input 'a': expected shape [-1,2], got [1,3]"
        );
        assert_eq!(
            message(vec![zeros("a", &[1, 2]), zeros("b", &[2])]),
            "input 'b': dimension 'batch' is 2 here and 1 in another input; they must be equal"
        );
    }

    #[test]
    fn a_model_without_rows_counts_one() {
        let signature = Signature {
            inputs: vec![spec("a", vec![Dim::Fixed(4)])],
            outputs: vec![],
        };
        let checked = signature
            .check(vec![zeros("a", &[4])])
            .expect("the request fits");
        assert_eq!(checked.rows(), 1);
    }
}

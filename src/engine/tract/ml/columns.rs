//! The operators that arrange columns: ArrayFeatureExtractor picks some, FeatureVectorizer puts those of all inputs side
//! by side (ai.onnx.ml 1).

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::host::{Fact, Host, Operator, is_number, output, row_count, slice};

/// The most columns that a vectorizer gives each row: what a row costs must bear a relation to what clients send.
const MOST_COLUMNS: usize = 1 << 20;

/// Registers the operators.
pub fn register(operators: &mut OnnxOpRegister) {
    operators.insert("ArrayFeatureExtractor", |_, _| {
        Ok((Host::node(ArrayFeatureExtractor), vec![]))
    });
    operators.insert("FeatureVectorizer", |_, node| {
        Ok((Host::node(FeatureVectorizer::read(node)?), vec![]))
    });
}

#[derive(Debug)]
struct FeatureVectorizer {
    /// How many columns each input gets: further ones are left out, missing ones are 0.
    widths: Vec<usize>,
    total: usize,
}

impl FeatureVectorizer {
    fn read(node: &NodeProto) -> TractResult<FeatureVectorizer> {
        let widths: Vec<usize> = node.get_attr_vec("inputdimensions")?;
        ensure!(
            widths.len() == node.input.len(),
            "{} values of inputdimensions for {} inputs",
            widths.len(),
            node.input.len()
        );
        let total = widths
            .iter()
            .try_fold(0usize, |total, width| total.checked_add(*width));
        let total = total
            .filter(|total| *total <= MOST_COLUMNS)
            .context("inputdimensions are beyond all bounds")?;
        Ok(FeatureVectorizer { widths, total })
    }
}

impl Operator for FeatureVectorizer {
    fn name(&self) -> &'static str {
        "FeatureVectorizer"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        for (dtype, shape) in inputs {
            ensure!(
                is_number(*dtype),
                "inputs of type {dtype:?} are not supported"
            );
            ensure!(!shape.is_empty(), "an input is a scalar");
        }
        let (_, shape) = inputs.first().context("there are no inputs")?;
        let rows = match shape.as_slice() {
            [_] => 1.to_dim(),
            shape => shape[0].clone(),
        };
        Ok(vec![(f32::datum_type(), tvec![rows, self.total.to_dim()])])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let rows = row_count(&inputs[0]);
        let mut columns = vec![0.0f32; rows * self.total];
        let mut start = 0;
        for (input, width) in inputs.iter().zip(&self.widths) {
            ensure!(
                row_count(input) == rows,
                "the inputs have {rows} and {} rows",
                row_count(input)
            );
            let values = input.cast_to::<f32>()?;
            let features = input.len() / rows.max(1);
            let kept = features.min(*width);
            if kept > 0 {
                let values = slice::<f32>(&values)?.chunks_exact(features);
                let targets = columns.chunks_exact_mut(self.total);
                for (target, values) in targets.zip(values) {
                    target[start..][..kept].copy_from_slice(&values[..kept]);
                }
            }
            start += width;
        }
        Ok(tvec![output(&[rows, self.total], columns)?])
    }
}

/// Picks columns: the second input's indices into the first's last dimension.
#[derive(Debug)]
struct ArrayFeatureExtractor;

impl Operator for ArrayFeatureExtractor {
    fn name(&self) -> &'static str {
        "ArrayFeatureExtractor"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let [(dtype, shape), (index_type, indices)] = inputs else {
            bail!("expected two inputs")
        };
        ensure!(
            *index_type == i64::datum_type(),
            "the indices are of type {index_type:?}"
        );
        let picked = indices.iter().product::<TDim>();
        let mut shape = shape.clone();
        let last = shape.last_mut().context("the input is a scalar")?;
        *last = picked;
        // A single row comes out as a matrix of one row.
        if shape.len() == 1 {
            shape.insert(0, 1.to_dim());
        }
        Ok(vec![(*dtype, shape)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        fn pick<T: Datum>(input: &Tensor, indices: &[usize]) -> TractResult<Tensor> {
            let axis = tract_ndarray::Axis(input.rank() - 1);
            let picked = input
                .to_plain_array_view::<T>()?
                .select(axis, indices)
                .into_tensor();
            if input.rank() > 1 {
                Ok(picked)
            } else {
                picked.into_shape(&[1, indices.len()])
            }
        }
        let features = *inputs[0].shape().last().context("the input is a scalar")?;
        let indices = inputs[1].try_as_plain_ram()?;
        let indices = indices
            .as_slice::<i64>()?
            .iter()
            .map(|index| usize::try_from(*index));
        let indices: Vec<usize> = indices.collect::<Result<_, _>>()?;
        ensure!(
            indices.iter().all(|index| *index < features),
            "an index is beyond the {features} features"
        );
        let output = dispatch_datum!(pick(inputs[0].datum_type())(&inputs[0], &indices))?;
        Ok(tvec![output.into_tvalue()])
    }
}

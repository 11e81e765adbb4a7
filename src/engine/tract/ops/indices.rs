//! GatherND and ScatterND with indices that count from the end, or lie outside: tract panics on those.

use tract_onnx::Onnx;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::{ScatterNd, ScatterReduction};
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Host, Operator};
use super::deferred;
use super::pick::{number, pick, positions};

/// Registers the operators; they replace tract's.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("GatherND", |_, node| {
        let batch_dims = node.get_attr_opt::<i64>("batch_dims")?.unwrap_or(0);
        let batch_dims = usize::try_from(batch_dims).context("batch_dims is negative")?;
        Ok((Host::node(GatherNd { batch_dims }), vec![]))
    });
    onnx.op_register.insert("ScatterND", |_, node| {
        let reduction = node.get_attr_opt("reduction")?.unwrap_or("none");
        let reduction = ScatterReduction::parse(reduction)?;
        Ok((expand(ScatterNdFromEnd(reduction)), vec![]))
    });
}

/// An index that may count from the end.
fn from_start(index: i64, length: usize) -> TractResult<usize> {
    let positive = if index < 0 {
        index + length as i64
    } else {
        index
    };
    let found = usize::try_from(positive)
        .ok()
        .filter(|index| *index < length);
    found.with_context(|| format!("index {index} of an axis of length {length}"))
}

#[derive(Debug)]
struct GatherNd {
    batch_dims: usize,
}

impl GatherNd {
    /// How many axes an index names.
    fn depth(&self, data: usize, indices: &[usize]) -> TractResult<usize> {
        let depth = indices.last().copied();
        let fits = |depth: &usize| {
            *depth > 0 && self.batch_dims + depth <= data && self.batch_dims < indices.len()
        };
        let depth = depth.filter(fits);
        depth.with_context(|| format!("indices of shape {indices:?} for {data} dimensions"))
    }
}

impl Operator for GatherNd {
    fn name(&self) -> &'static str {
        "GatherND"
    }

    fn least_inputs(&self) -> usize {
        2
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let ((dtype, data), (_, indices)) = (&inputs[0], &inputs[1]);
        let depth = indices.last().context("indices must not be a scalar")?;
        let depth = depth
            .to_usize()
            .context("the last dimension of indices must be fixed")?;
        let ranks = vec![0; indices.len() - 1];
        self.depth(data.len(), &[ranks, vec![depth]].concat())?;
        let kept = &data[self.batch_dims + depth..];
        let outer = &indices[..indices.len() - 1];
        Ok(vec![(*dtype, outer.iter().chain(kept).cloned().collect())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let (data, dims) = (inputs[0].shape(), inputs[1].shape());
        let depth = self.depth(data.len(), dims)?;
        let indices = deferred::integers(&inputs[1])?;
        let (outer, kept) = (&dims[..dims.len() - 1], &data[self.batch_dims + depth..]);
        let shape = [outer, kept].concat();
        let mut starts = Vec::with_capacity(outer.iter().product());
        for (at, index) in positions(outer).zip(indices.chunks(depth.max(1))) {
            let mut start = at[..self.batch_dims].to_vec();
            let lengths = &data[self.batch_dims..];
            for (index, length) in index.iter().take(depth).zip(lengths) {
                start.push(from_start(*index, *length)?);
            }
            starts.push(number(&start, data) * kept.iter().product::<usize>());
        }
        let size: usize = kept.iter().product();
        let from = starts
            .iter()
            .flat_map(|start| (0..size).map(move |at| Some(start + at)));
        Ok(tvec![pick(&inputs[0], &shape, from)?.into_tvalue()])
    }
}

/// tract's operator behind indices that are counted from the start.
#[derive(Debug, Clone)]
struct ScatterNdFromEnd(ScatterReduction);

impl Expansion for ScatterNdFromEnd {
    fn name(&self) -> StaticName {
        "ScatterND".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 3)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        solver.equals(&outputs[0].shape, &inputs[0].shape)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let counted = Host::of(Arc::new(FromStart));
        let indices = [inputs[1], inputs[0]];
        let indices = model.wire_node(format!("{prefix}.indices"), counted, &indices)?[0];
        model.wire_node(
            prefix,
            ScatterNd::new(self.0),
            &[inputs[0], indices, inputs[2]],
        )
    }
}

/// The indices (first input) into data (second input), counted from the start.
#[derive(Debug)]
struct FromStart;

impl Operator for FromStart {
    fn name(&self) -> &'static str {
        "FromStart"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        Ok(vec![(i64::datum_type(), inputs[0].1.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let (shape, data) = (inputs[0].shape(), inputs[1].shape());
        let depth = shape.last().copied().unwrap_or(0);
        ensure!(
            depth <= data.len(),
            "indices of {depth} axes for {} dimensions",
            data.len()
        );
        let mut indices = deferred::integers(&inputs[0])?;
        for (at, index) in indices.iter_mut().enumerate() {
            *index = from_start(*index, data[at % depth])? as i64;
        }
        let output = tract_ndarray::ArrayD::from_shape_vec(shape, indices)?;
        Ok(tvec![output.into_tensor().into_tvalue()])
    }
}

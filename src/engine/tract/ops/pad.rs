//! Pad of our own: tract's panics on negative pads, which crop, wants a scalar where exporters write a list of one
//! element, and has no wrap.

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::{self, PadMode, Slice};
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::Host;
use super::builtin::{Built, builtin};
use super::deferred;
use super::frame::{Edge, Frame};
use super::present::Present;

/// Registers the operator; up to operator set 10 it stays tract's.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("Pad", read);
}

const PADS: usize = 1;
/// More than an answer could hold.
const MOST_PADS: i64 = 1 << 31;

fn read(context: &ParsingContext, node: &NodeProto) -> Built {
    if context.onnx_operator_set_version < 11 {
        return builtin(context, node);
    }
    let mode = match node.get_attr_opt("mode")?.unwrap_or("constant") {
        "constant" => Mode::Constant,
        "edge" => Mode::Edge,
        "reflect" => Mode::Reflect,
        "wrap" => Mode::Wrap,
        other => bail!("mode '{other}' is not known"),
    };
    let inputs = Present::of(&node.input);
    ensure!(inputs.get(PADS) == Some(PADS), "data or pads is missing");
    let pad = Pad {
        mode,
        value: inputs.get(2),
        axes: inputs.get(3),
    };
    Ok((expand(pad), vec![]))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Constant,
    Edge,
    Reflect,
    Wrap,
}

#[derive(Debug, Clone)]
struct Pad {
    mode: Mode,
    /// The places of the optional inputs.
    value: Option<usize>,
    axes: Option<usize>,
}

impl Pad {
    fn constants(&self) -> impl Iterator<Item = usize> {
        [Some(PADS), self.axes].into_iter().flatten()
    }

    /// What is added before and after each axis.
    fn pads(&self, values: &[Arc<Tensor>], rank: usize) -> TractResult<Vec<(i64, i64)>> {
        let pads = deferred::integers(&values[0])?;
        let axes = match values.get(1) {
            Some(axes) => deferred::integers(axes)?,
            None => (0..rank as i64).collect(),
        };
        let fits = pads.len() == 2 * axes.len();
        ensure!(
            fits,
            "pads has {} entries for {} axes",
            pads.len(),
            axes.len()
        );
        let sane = pads.iter().all(|pad| pad.abs() < MOST_PADS);
        ensure!(sane, "pads holds {pads:?}");
        let (before, after) = pads.split_at(axes.len());
        let mut of_axes = vec![(0, 0); rank];
        for (axis, pads) in axes.into_iter().zip(before.iter().zip(after)) {
            of_axes[deferred::axis(axis, rank)?] = (*pads.0, *pads.1);
        }
        Ok(of_axes)
    }

    fn value(&self, model: &TypedModel, inputs: &[OutletId]) -> TractResult<Arc<Tensor>> {
        let dtype = model.outlet_fact(inputs[0])?.datum_type;
        let value = match self.value {
            None => tensor0(0f32),
            Some(place) => {
                let value = model.outlet_fact(inputs[place])?.konst.clone();
                let value = value.context("constant_value must be a constant")?;
                ensure!(
                    value.len() == 1,
                    "constant_value has {} elements",
                    value.len()
                );
                value.nth(0)?
            }
        };
        Ok(value.cast_to_dt(dtype)?.into_owned().into_arc_tensor())
    }
}

fn padded(length: &TDim, (before, after): (i64, i64)) -> TractResult<TDim> {
    let length = length.clone() + before + after;
    let negative = length.to_i64().is_ok_and(|length| length < 0);
    ensure!(!negative, "pads leave an axis of a negative length");
    Ok(length)
}

impl Expansion for Pad {
    fn name(&self) -> StaticName {
        "Pad".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, 1)?;
        solver.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        solver.equals(&inputs[0].rank, &outputs[0].rank)?;
        let constants = self.constants().map(|place| &inputs[place].value);
        solver.given_all(constants, move |solver, values| {
            solver.given(&inputs[0].shape, move |solver, shape| {
                let pads = self.pads(&values, shape.len())?;
                let shape = shape
                    .iter()
                    .zip(pads)
                    .map(|(length, pads)| padded(length, pads));
                solver.equals(&outputs[0].shape, shape.collect::<TractResult<TVec<_>>>()?)
            })
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let values = self.constants().map(|place| {
            let value = model.outlet_fact(inputs[place])?.konst.clone();
            value.context("pads and axes must be constants")
        });
        let values = values.collect::<TractResult<Vec<_>>>()?;
        let shape = model.outlet_fact(inputs[0])?.shape.to_tvec();
        let pads = self.pads(&values, shape.len())?;
        if self.mode == Mode::Wrap {
            let edges = (0..).zip(&pads);
            let edges = edges.map(|(axis, pads)| (axis, Edge::Wrapped(pads.0, pads.1)));
            let frame = Frame::new("Pad", edges.collect());
            return model.wire_node(prefix, Host::of(Arc::new(frame)), &inputs[..1]);
        }
        let mut output = inputs[0];
        for (axis, (before, after)) in pads.iter().enumerate() {
            padded(&shape[axis], (*before, *after))?;
            if *before < 0 || *after < 0 {
                let start = (-before).max(0).to_dim();
                let end = shape[axis].clone() + (*after).min(0);
                let crop = Slice::new(axis, start, end);
                output = model.wire_node(format!("{prefix}.crop_{axis}"), crop, &[output])?[0];
            }
        }
        let pads = pads
            .iter()
            .map(|(before, after)| ((*before).max(0) as usize, (*after).max(0) as usize));
        let pads: Vec<(usize, usize)> = pads.collect();
        let reflected = pads.iter().zip(&shape).all(|((before, after), length)| {
            length
                .to_usize()
                .map_or(true, |length| *before.max(after) < length.max(1))
        });
        let mode = match self.mode {
            Mode::Edge => PadMode::Edge,
            Mode::Reflect => {
                ensure!(reflected, "an axis is too short for the pads {pads:?}");
                PadMode::Reflect
            }
            _ => PadMode::Constant(self.value(model, inputs)?),
        };
        model.wire_node(prefix, array::Pad { pads, mode }, &[output])
    }
}

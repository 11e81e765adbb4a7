//! The fast way of plain layers: tract's own loop for each direction, behind inputs turned round for the reverse one.
//!
//! tract's loop ignores what a layer may say beyond its weights, so that only a layer that says no more takes it.

use tract_onnx::ops::rec::{common::CommonRec, common::WireBody, gru::GRU, lstm::LSTM, rnn::RNN};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::{MultiBroadcastTo, Slice, TypedConcat};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::{math::tanh, nn::sigmoid};

use super::super::super::ml::host::{Fact, Host, Operator};
use super::Kind;
use super::inputs::{B, INITIAL_C, INITIAL_H, P, R, SEQUENCE_LENS, W, X};
use super::layer::Recurrent;

/// Whether tract's loop computes this layer right.
pub fn is_plain(layer: &Recurrent, x: &TypedFact, r: &TypedFact) -> bool {
    let plain = layer.directions.iter().all(|(_, cell)| {
        cell.has_default_activations() && cell.clip.is_none() && !cell.input_forget
    });
    let has = |position| layer.inputs.get(position).is_some();
    plain
        && !layer.batch_first
        && !has(SEQUENCE_LENS)
        && !has(P)
        && x.datum_type == f32::datum_type()
        // tract's fused GRU fails on layers of width 1.
        && r.shape[2] != 1.to_dim()
}

/// Wires the layer, one of tract's loops a direction.
pub fn wire(
    layer: &Recurrent,
    prefix: &str,
    model: &mut TypedModel,
    inputs: &[OutletId],
) -> TractResult<TVec<OutletId>> {
    let directions = 0..layer.directions.len();
    let directions =
        directions.map(|direction| wire_direction(layer, direction, prefix, model, inputs));
    let directions = directions.collect::<TractResult<Vec<_>>>()?;
    if let [only] = directions.as_slice() {
        return Ok(only.clone());
    }
    let outputs = layer.outputs.positions().enumerate();
    let merged = outputs.map(|(place, output)| {
        let parts: TVec<OutletId> = directions.iter().map(|outputs| outputs[place]).collect();
        let axis = usize::from(output == 0);
        let name = format!("{prefix}.directions.{output}");
        Ok(model.wire_node(name, TypedConcat::new(axis), &parts)?[0])
    });
    merged.collect()
}

fn wire_direction(
    layer: &Recurrent,
    direction: usize,
    prefix: &str,
    model: &mut TypedModel,
    inputs: &[OutletId],
) -> TractResult<TVec<OutletId>> {
    let (reverse, cell) = &layer.directions[direction];
    let prefix = format!("{prefix}.direction_{direction}");
    let x = inputs[X];
    let mut own = tvec![match reverse {
        true => turn(&format!("{prefix}.x"), model, x)?,
        false => x,
    }];
    for position in [W, R, B, INITIAL_H, INITIAL_C] {
        let name = format!("{prefix}.input_{position}");
        let input = match layer.inputs.get(position) {
            Some(place) => {
                let slice = Slice::new(0, direction, direction + 1);
                model.wire_node(name, slice, &[inputs[place]])?[0]
            }
            None if position == INITIAL_H || (position == INITIAL_C && cell.kind == Kind::Lstm) => {
                zeros(&name, model, x, inputs[R])?
            }
            None => continue,
        };
        own.push(input);
    }
    let place = |position| layer.outputs.get(position);
    let has_bias = layer.inputs.get(B).is_some();
    let initial = 3 + usize::from(has_bias);
    let tracts = CommonRec {
        optional_bias_input: has_bias.then_some(3),
        optional_sequence_lens_input: None,
        optional_initial_h_input: Some(initial),
        optional_initial_c_input: (cell.kind == Kind::Lstm).then_some(initial + 1),
        optional_p_input: None,
        optional_y_output: place(0),
        optional_y_h_output: place(1),
        optional_y_c_output: place(2),
        batch_first: false,
        body: body(cell.kind, cell.linear_before_reset),
    };
    let mut outputs = tracts.wire(&prefix, model, &own)?;
    if let (true, Some(y)) = (*reverse, place(0)) {
        outputs[y] = turn(&format!("{prefix}.y"), model, outputs[y])?;
    }
    Ok(outputs)
}

fn body(kind: Kind, linear_before_reset: bool) -> Box<dyn WireBody> {
    let (f, g) = (Box::new(sigmoid()), Box::new(tanh()));
    match kind {
        Kind::Lstm => Box::new(LSTM { f, h: g.clone(), g }),
        Kind::Gru => Box::new(GRU {
            f,
            g,
            linear_before_reset,
        }),
        Kind::Rnn => Box::new(RNN {
            fore: g.clone(),
            back: g,
        }),
    }
}

/// An initial state: one direction, the rows of `x`, the width of `r`.
fn zeros(name: &str, model: &mut TypedModel, x: OutletId, r: OutletId) -> TractResult<OutletId> {
    let rows = model.outlet_fact(x)?.shape[1].clone();
    let width = model.outlet_fact(r)?.shape[2].clone();
    let zero = model.add_const(format!("{name}.zero"), tensor3(&[[[0f32]]]))?;
    let shape = tvec![1.to_dim(), rows, width].into();
    Ok(model.wire_node(name, MultiBroadcastTo { shape }, &[zero])?[0])
}

fn turn(name: &str, model: &mut TypedModel, input: OutletId) -> TractResult<OutletId> {
    let turned = Host::of(Arc::new(Turned));
    Ok(model.wire_node(format!("{name}.turned"), turned, &[input])?[0])
}

/// A tensor of floats with its first axis turned round.
#[derive(Debug)]
struct Turned;

impl Operator for Turned {
    fn name(&self) -> &'static str {
        "Turned"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        Ok(vec![inputs[0].clone()])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let mut view = inputs[0].to_plain_array_view::<f32>()?;
        view.invert_axis(tract_ndarray::Axis(0));
        Ok(tvec![view.to_owned().into_tensor().into_tvalue()])
    }
}

//! AveragePool and LpPool of our own: tract has no LpPool, and averages wrongly where windows are dilated or reach
//! over the end.

use tract_onnx::Onnx;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Host, Operator};
use super::builtin::builtin;
use super::pick::{number, positions};
use super::window::{Line, Window};

/// Registers the operators; AveragePool stays tract's where windows are simple, and MaxPool always.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("AveragePool", |context, node| {
        let window = Window::read(node)?;
        if window.is_simple() {
            return builtin(context, node);
        }
        let count_include_pad = node.get_attr_opt::<i64>("count_include_pad")? == Some(1);
        let kind = Kind::Average { count_include_pad };
        Ok((Host::node(Pool { kind, window }), vec![]))
    });
    onnx.op_register.insert("MaxPool", |context, node| {
        // What it says is checked; tract computes it right.
        Window::read(node)?;
        builtin(context, node)
    });
    onnx.op_register.insert("LpPool", |_, node| {
        let norm = node.get_attr_opt::<i64>("p")?.unwrap_or(2);
        ensure!(norm > 0, "attribute p holds {norm}");
        let window = Window::read(node)?;
        let kind = Kind::Norm(norm as f64);
        Ok((Host::node(Pool { kind, window }), vec![]))
    });
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Average { count_include_pad: bool },
    Norm(f64),
}

#[derive(Debug)]
struct Pool {
    kind: Kind,
    window: Window,
}

impl Pool {
    fn of_window(&self, plane: &[f64], lengths: &[usize], lines: &[Line], at: &[usize]) -> f64 {
        let axes = lines.iter().zip(at);
        let axes: Vec<Vec<usize>> = axes
            .clone()
            .map(|(line, at)| line.elements(*at).collect())
            .collect();
        let counts: Vec<usize> = axes.iter().map(Vec::len).collect();
        let elements = positions(&counts).map(|position| {
            let place: Vec<usize> = position
                .iter()
                .zip(&axes)
                .map(|(at, axis)| axis[*at])
                .collect();
            plane[number(&place, lengths)]
        });
        match self.kind {
            Kind::Norm(norm) => {
                let powers = elements.map(|element| element.abs().powf(norm));
                powers.sum::<f64>().powf(norm.recip())
            }
            Kind::Average { count_include_pad } => {
                let count: usize = match count_include_pad {
                    true => lines
                        .iter()
                        .zip(at)
                        .map(|(line, at)| line.padded(*at))
                        .product(),
                    false => counts.iter().product(),
                };
                elements.sum::<f64>() / count as f64
            }
        }
    }
}

impl Operator for Pool {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Average { .. } => "AveragePool",
            Kind::Norm(_) => "LpPool",
        }
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        ensure!(
            dtype.is_float(),
            "inputs of type {dtype:?} are not supported"
        );
        ensure!(shape.len() > 2, "the input has {} dimensions", shape.len());
        let lengths = shape[2..].iter().map(|dim| Ok(dim.to_usize()?));
        let lengths = lengths.collect::<TractResult<Vec<_>>>();
        let lengths = lengths.context("the spatial dimensions must be fixed")?;
        let lines = self.window.lines(&lengths)?;
        let windows = lines.iter().map(|line| line.windows.to_dim());
        let shape = shape[..2].iter().cloned().chain(windows).collect();
        Ok(vec![(*dtype, shape)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let values = input.cast_to::<f64>()?;
        let values = values.to_plain_array_view::<f64>()?;
        let values = values
            .as_slice()
            .context("tract's tensors are contiguous")?;
        let (outer, lengths) = input.shape().split_at(2);
        let lines = self.window.lines(lengths)?;
        let windows: Vec<usize> = lines.iter().map(|line| line.windows).collect();
        let size: usize = lengths.iter().product();
        let planes = values.chunks(size.max(1));
        let pooled = planes.flat_map(|plane| {
            let of_window = |at: Vec<usize>| self.of_window(plane, lengths, &lines, &at);
            positions(&windows).map(of_window).collect::<Vec<_>>()
        });
        let shape: Vec<usize> = outer.iter().chain(&windows).copied().collect();
        let output = tract_ndarray::ArrayD::from_shape_vec(shape, pooled.collect())?;
        let output = output.into_tensor();
        let output = output.cast_to_dt(input.datum_type())?.into_owned();
        Ok(tvec![output.into_tvalue()])
    }
}

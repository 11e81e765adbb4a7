//! ZipMap (ai.onnx.ml 1): names the columns of its input.
//!
//! The names are in the signature's output, so all that is left to do here is to keep the columns as they are.

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::classes::Classes;
use super::host::{Fact, Host, Operator, row_count};

/// Registers the operator.
pub fn register(operators: &mut OnnxOpRegister) {
    operators.insert("ZipMap", |_, node| {
        Ok((Host::node(ZipMap::read(node)?), vec![]))
    });
}

#[derive(Debug)]
struct ZipMap {
    columns: usize,
}

impl ZipMap {
    fn read(node: &NodeProto) -> TractResult<ZipMap> {
        let columns = Classes::read(node, "classlabels_int64s")?.count();
        Ok(ZipMap { columns })
    }

    fn check(&self, columns: usize) -> TractResult<()> {
        ensure!(
            columns == self.columns,
            "{columns} columns for {} class labels",
            self.columns
        );
        Ok(())
    }
}

impl Operator for ZipMap {
    fn name(&self) -> &'static str {
        "ZipMap"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        ensure!(
            *dtype == f32::datum_type(),
            "inputs of type {dtype:?} are not supported"
        );
        let (rows, columns) = match shape.as_slice() {
            [columns] => (1.to_dim(), columns),
            [rows, columns] => (rows.clone(), columns),
            _ => bail!("the input has {} dimensions instead of 2", shape.len()),
        };
        if let Ok(columns) = columns.to_usize() {
            self.check(columns)?;
        }
        Ok(vec![(*dtype, tvec![rows, self.columns.to_dim()])])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        self.check(input.shape().last().copied().unwrap_or_default())?;
        let shape = [row_count(input), self.columns];
        let named = input.clone().into_tensor().into_shape(&shape)?;
        Ok(tvec![named.into_tvalue()])
    }
}

//! The tract engine: pure Rust, always there.
//!
//! The file's value_info and output shapes are often stale and are left out; what the signature says about the
//! inputs is told to tract anew, with a symbol for every dynamic dimension.

mod convert;
mod known_wrong;
mod ml;
mod ops;

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::prelude::*;

use super::onnx::OnnxFile;
use super::{Engine, Model, ModelSource, Session};
use crate::error::{Error, Result};
use crate::tensor::signature::{CheckedInputs, Dim, Signature, TensorSpec};
use crate::tensor::value::Tensor as WireTensor;

/// Loads models with tract-onnx.
#[derive(Debug, Default, Clone, Copy)]
pub struct TractEngine;

impl Engine for TractEngine {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn load(&self, source: &ModelSource) -> Result<Arc<dyn Model>> {
        let file = OnnxFile::read(&source.bytes)?;
        known_wrong::refuse(&file)?;
        let signature = file.signature;
        let plan = plan(&source.bytes, &signature).map_err(readable)?;
        Ok(Arc::new(TractModel {
            signature: Arc::new(signature),
            plan,
        }))
    }
}

/// tract names the operator and the node in its chain of causes; all of it is of use to the model's owner.
fn readable(error: TractError) -> Error {
    Error::unimplemented(format!("tract cannot run this model: {error:#}"))
}

fn plan(bytes: &[u8], signature: &Signature) -> TractResult<Arc<TypedRunnableModel>> {
    let mut onnx = tract_onnx::onnx()
        .with_ignore_value_info(true)
        .with_ignore_output_shapes(true);
    ml::register(&mut onnx);
    ops::register(&mut onnx);
    let mut model = onnx.model_for_read(&mut std::io::Cursor::new(bytes))?;
    let mut symbols = Symbols {
        shared_rows: signature.has_rows(),
        by_name: HashMap::new(),
    };
    for (index, outlet) in model.input_outlets()?.to_vec().into_iter().enumerate() {
        let name = &model.node(outlet.node).name;
        let spec = signature.inputs.iter().find(|input| input.name == *name);
        let unknown = || {
            TractError::msg(format!(
                "the graph's input '{name}' is not among the file's inputs"
            ))
        };
        let spec = spec.ok_or_else(unknown)?;
        let fact = symbols.input_fact(&model.symbols, spec)?;
        model.set_input_fact(index, fact)?;
    }
    model.into_optimized()?.into_runnable()
}

/// The symbols of dynamic dimensions: one for each name, and one for the rows of a model that has them.
struct Symbols {
    shared_rows: bool,
    by_name: HashMap<String, Symbol>,
}

impl Symbols {
    fn input_fact(&mut self, scope: &SymbolScope, spec: &TensorSpec) -> TractResult<InferenceFact> {
        let lacking = || TractError::msg(format!("tract has no data type {}", spec.dtype));
        let dtype = convert::to_tract(spec.dtype).ok_or_else(lacking)?;
        let Some(dims) = &spec.dims else {
            return Ok(InferenceFact::dt(dtype));
        };
        let dims = dims.iter().enumerate().map(|(axis, dim)| match dim {
            Dim::Fixed(length) => length.to_dim(),
            Dim::Dynamic(name) => self.symbol(scope, spec, axis, name.as_deref()).into(),
        });
        Ok(InferenceFact::dt_shape(dtype, dims.collect::<TVec<TDim>>()))
    }

    fn symbol(
        &mut self,
        scope: &SymbolScope,
        spec: &TensorSpec,
        axis: usize,
        name: Option<&str>,
    ) -> Symbol {
        let key = match name {
            Some(name) => name.to_owned(),
            None if axis == 0 && self.shared_rows => "rows".to_owned(),
            None => format!("{}_{axis}", spec.name),
        };
        let symbol = || scope.new_with_prefix("n");
        self.by_name.entry(key).or_insert_with(symbol).clone()
    }
}

struct TractModel {
    signature: Arc<Signature>,
    plan: Arc<TypedRunnableModel>,
}

impl Model for TractModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(&self) -> Result<Box<dyn Session>> {
        let state = self.plan.spawn().map_err(failed)?;
        Ok(Box::new(TractSession {
            signature: self.signature.clone(),
            state,
        }))
    }
}

struct TractSession {
    signature: Arc<Signature>,
    state: TypedSimpleState,
}

impl Session for TractSession {
    fn run(&mut self, inputs: &CheckedInputs) -> Result<Vec<WireTensor>> {
        let inputs = inputs
            .tensors()
            .iter()
            .map(|tensor| Ok(convert::input(tensor)?.into_tvalue()));
        let inputs = inputs.collect::<Result<TVec<TValue>>>()?;
        let outputs = self.state.run(inputs).map_err(failed)?;
        let (declared, got) = (self.signature.outputs.len(), outputs.len());
        if declared != got {
            return Err(Error::internal(format!(
                "tract gave {got} outputs instead of {declared}"
            )));
        }
        let specs = self.signature.outputs.iter();
        specs
            .zip(outputs)
            .map(|(spec, output)| convert::output(spec, output))
            .collect()
    }
}

fn failed(error: TractError) -> Error {
    Error::internal(format!("tract failed: {error:#}"))
}

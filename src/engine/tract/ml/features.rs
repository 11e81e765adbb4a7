//! The operators that prepare single features: Scaler, Imputer, Binarizer (ai.onnx.ml 1).

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::host::{Fact, Host, Operator, is_number};

/// Registers the operators.
pub fn register(operators: &mut OnnxOpRegister) {
    operators.insert("Scaler", |_, node| {
        Ok((Host::node(Scaler::read(node)?), vec![]))
    });
    operators.insert("Imputer", |_, node| {
        Ok((Host::node(Imputer::read(node)?), vec![]))
    });
    operators.insert("Binarizer", |_, node| {
        Ok((Host::node(Binarizer::read(node)?), vec![]))
    });
}

/// The value for a feature where an attribute gives one for each, or one for all.
fn of_feature<T: Copy>(values: &[T], feature: usize) -> T {
    if values.len() == 1 {
        values[0]
    } else {
        values[feature]
    }
}

fn check_features(what: &str, values: usize, shape: &[TDim]) -> TractResult<()> {
    let features = shape.last().context("the input is a scalar")?;
    ensure!(
        values == 1 || features.to_usize().is_ok_and(|features| features == values),
        "{what} has {values} values for {features} features"
    );
    Ok(())
}

/// Applies a function of the feature's index and value to every element, whose type may change.
fn map_features<T: Datum + Copy, U: Datum>(
    input: &Tensor,
    function: impl Fn(usize, T) -> U,
) -> TractResult<Tensor> {
    let features = input.shape().last().copied().unwrap_or(1).max(1);
    let values = input.try_as_plain_ram()?.as_slice::<T>()?;
    let mapped = values
        .iter()
        .enumerate()
        .map(|(at, value)| function(at % features, *value))
        .collect();
    Ok(tract_ndarray::ArrayD::from_shape_vec(input.shape(), mapped)?.into_tensor())
}

/// `(x - offset) * scale`, as FP32.
#[derive(Debug)]
struct Scaler {
    offset: Vec<f32>,
    scale: Vec<f32>,
}

impl Scaler {
    fn read(node: &NodeProto) -> TractResult<Scaler> {
        Ok(Scaler {
            offset: node.get_attr_vec("offset")?,
            scale: node.get_attr_vec("scale")?,
        })
    }
}

impl Operator for Scaler {
    fn name(&self) -> &'static str {
        "Scaler"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        ensure!(
            is_number(*dtype),
            "inputs of type {dtype:?} are not supported"
        );
        check_features("offset", self.offset.len(), shape)?;
        check_features("scale", self.scale.len(), shape)?;
        Ok(vec![(f32::datum_type(), shape.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let scaled = |feature, value: f64| {
            let offset = f64::from(of_feature(&self.offset, feature));
            ((value - offset) * f64::from(of_feature(&self.scale, feature))) as f32
        };
        let single = |feature, value: f32| {
            (value - of_feature(&self.offset, feature)) * of_feature(&self.scale, feature)
        };
        // Whole numbers are FP32 as well, as in ONNX Runtime.
        let output = match inputs[0].datum_type() == f64::datum_type() {
            true => map_features(&inputs[0], scaled)?,
            false => map_features(inputs[0].cast_to::<f32>()?.as_ref(), single)?,
        };
        Ok(tvec![output.into_tvalue()])
    }
}

/// Replaces missing values.
#[derive(Debug)]
enum Imputer {
    Floats { replaced: f32, by: Vec<f32> },
    Integers { replaced: i64, by: Vec<i64> },
}

impl Imputer {
    fn read(node: &NodeProto) -> TractResult<Imputer> {
        let floats = node
            .get_attr_opt_vec::<f32>("imputed_value_floats")?
            .filter(|values| !values.is_empty());
        let integers = node
            .get_attr_opt_vec::<i64>("imputed_value_int64s")?
            .filter(|values| !values.is_empty());
        match (floats, integers) {
            (Some(by), None) => Ok(Imputer::Floats {
                replaced: node.get_attr_opt("replaced_value_float")?.unwrap_or(0.0),
                by,
            }),
            (None, Some(by)) => Ok(Imputer::Integers {
                replaced: node.get_attr_opt("replaced_value_int64")?.unwrap_or(0),
                by,
            }),
            _ => {
                bail!("exactly one of imputed_value_floats and imputed_value_int64s must be given")
            }
        }
    }
}

impl Operator for Imputer {
    fn name(&self) -> &'static str {
        "Imputer"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        let (expected, values) = match self {
            Imputer::Floats { by, .. } => (f32::datum_type(), by.len()),
            Imputer::Integers { by, .. } => (i64::datum_type(), by.len()),
        };
        ensure!(
            *dtype == expected,
            "inputs of type {dtype:?} do not fit imputed values of type {expected:?}"
        );
        check_features("the imputed values", values, shape)?;
        Ok(vec![inputs[0].clone()])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let output = match self {
            Imputer::Floats { replaced, by } => map_features(&inputs[0], |feature, value: f32| {
                let is_missing = value == *replaced || (value.is_nan() && replaced.is_nan());
                if is_missing {
                    of_feature(by, feature)
                } else {
                    value
                }
            })?,
            Imputer::Integers { replaced, by } => {
                map_features(&inputs[0], |feature, value: i64| {
                    if value == *replaced {
                        of_feature(by, feature)
                    } else {
                        value
                    }
                })?
            }
        };
        Ok(tvec![output.into_tvalue()])
    }
}

/// 1 above the threshold, else 0; NaN is not above it, where ONNX Runtime fails the request.
#[derive(Debug)]
struct Binarizer {
    threshold: f32,
}

impl Binarizer {
    fn read(node: &NodeProto) -> TractResult<Binarizer> {
        Ok(Binarizer {
            threshold: node.get_attr_opt("threshold")?.unwrap_or(0.0),
        })
    }
}

impl Operator for Binarizer {
    fn name(&self) -> &'static str {
        "Binarizer"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, _) = &inputs[0];
        ensure!(
            is_number(*dtype),
            "inputs of type {dtype:?} are not supported"
        );
        Ok(vec![inputs[0].clone()])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let threshold = f64::from(self.threshold);
        let above = |_, value: f64| if value > threshold { 1.0 } else { 0.0 };
        let output = map_features(inputs[0].cast_to::<f64>()?.as_ref(), above)?;
        Ok(tvec![
            output
                .cast_to_dt(inputs[0].datum_type())?
                .into_owned()
                .into_tvalue()
        ])
    }
}

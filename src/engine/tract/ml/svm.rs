//! SVMClassifier and SVMRegressor (ai.onnx.ml 1).

mod classifier;
mod kernel;
mod linear;
mod pairs;
mod probability;
mod regressor;

use tract_onnx::model::OnnxOpRegister;

use self::classifier::SvmClassifier;
use self::regressor::SvmRegressor;
use super::host::Host;

/// Registers the operators.
pub fn register(operators: &mut OnnxOpRegister) {
    operators.insert("SVMClassifier", |_, node| {
        Ok((Host::node(SvmClassifier::read(node)?), vec![]))
    });
    operators.insert("SVMRegressor", |_, node| {
        Ok((Host::node(SvmRegressor::read(node)?), vec![]))
    });
}

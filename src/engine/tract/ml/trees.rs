//! TreeEnsembleClassifier and TreeEnsembleRegressor (ai.onnx.ml 1 and 3), and TreeEnsemble (5).
//!
//! Where the operators' documentation is silent (two classes in one score, what a missing score means) this does what
//! ONNX Runtime does, which the tests compare with.

mod attributes;
mod classifier;
mod ensemble;
mod regressor;
mod version5;

use tract_onnx::model::OnnxOpRegister;

use super::host::Host;
use classifier::Classifier;
use regressor::Regressor;

/// Registers the operators.
pub fn register(operators: &mut OnnxOpRegister) {
    operators.insert("TreeEnsembleClassifier", |context, node| {
        Ok((Host::node(Classifier::read(context, node)?), vec![]))
    });
    operators.insert("TreeEnsembleRegressor", |context, node| {
        Ok((Host::node(Regressor::read(context, node)?), vec![]))
    });
    operators.insert("TreeEnsemble", |context, node| {
        Ok((Host::node(version5::read(context, node)?), vec![]))
    });
}

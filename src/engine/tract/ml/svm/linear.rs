//! Without support vectors: one weighted sum of the features for each class (liblinear).

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::super::lanes::dot;
use super::super::scores::first_largest;

/// One weighted sum of the features for each class.
#[derive(Debug)]
pub struct Linear {
    coefficients: Vec<f32>,
    pub features: usize,
    rho: f32,
    /// Where the second of two classes wins even if its score is not the largest: ONNX Runtime's rule.
    threshold: Option<Threshold>,
}

#[derive(Debug, Clone, Copy)]
enum Threshold {
    AtLeastHalf,
    AboveZero,
}

impl Threshold {
    fn is_passed(self, score: f32) -> bool {
        match self {
            Threshold::AtLeastHalf => score >= 0.5,
            Threshold::AboveZero => score > 0.0,
        }
    }
}

impl Linear {
    /// Reads the sums of this many classes.
    pub fn read(node: &NodeProto, classes: usize) -> TractResult<Linear> {
        let coefficients: Vec<f32> = node.get_attr_vec("coefficients")?;
        ensure!(
            classes > 0 && !coefficients.is_empty() && coefficients.len().is_multiple_of(classes),
            "{} coefficients for {classes} classes",
            coefficients.len()
        );
        let rho: Vec<f32> = node.get_attr_vec("rho")?;
        let has_probabilities = node
            .get_attr_opt_slice::<f32>("prob_a")?
            .is_some_and(|values| !values.is_empty());
        let are_positive = coefficients.iter().all(|coefficient| *coefficient >= 0.0);
        let threshold = match are_positive {
            true => Threshold::AtLeastHalf,
            false => Threshold::AboveZero,
        };
        Ok(Linear {
            features: coefficients.len() / classes,
            coefficients,
            rho: *rho.first().context("rho is empty")?,
            threshold: (classes == 2 && !has_probabilities).then_some(threshold),
        })
    }

    /// Writes a row's scores and returns the class that wins.
    pub fn decide(&self, row: &[f32], scores: &mut [f32]) -> usize {
        let coefficients = self.coefficients.chunks_exact(self.features);
        for (score, coefficients) in scores.iter_mut().zip(coefficients) {
            *score = dot(row, coefficients) + self.rho;
        }
        let winner = first_largest(scores);
        match self.threshold {
            Some(threshold) if threshold.is_passed(scores[winner]) => 1,
            _ => winner,
        }
    }
}

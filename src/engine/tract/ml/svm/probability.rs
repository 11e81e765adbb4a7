//! The classes' probabilities from the scores of all pairs: Platt's scaling, and the coupling of pairs by T.-F. Wu, C.-J.
//! Lin and R. C. Weng, "Probability estimates for multi-class classification by pairwise coupling", second approach.
//!
//! All in FP32, and with libsvm's bounds on iterations and error, as ONNX Runtime computes it: the result depends on
//! where the iteration ends.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::super::scores::logistic;

/// No pair is surer than this.
const LEAST: f32 = 1e-7;
const MOST_ITERATIONS: usize = 100;

/// The attributes `prob_a` and `prob_b`, one of each a pair.
#[derive(Debug)]
pub struct Platt {
    slopes: Vec<f32>,
    offsets: Vec<f32>,
}

impl Platt {
    /// Reads the attributes; `None` if the node has none.
    pub fn read(node: &NodeProto, pairs: usize) -> TractResult<Option<Platt>> {
        let slopes: Vec<f32> = node.get_attr_opt_vec("prob_a")?.unwrap_or_default();
        let offsets: Vec<f32> = node.get_attr_opt_vec("prob_b")?.unwrap_or_default();
        ensure!(
            slopes.len() == offsets.len() && (slopes.is_empty() || slopes.len() >= pairs),
            "{} values of prob_a and {} of prob_b for {pairs} pairs of classes",
            slopes.len(),
            offsets.len()
        );
        Ok((!slopes.is_empty()).then_some(Platt { slopes, offsets }))
    }

    /// The probability that the first class of this pair wins.
    fn first_wins(&self, pair: usize, score: f32) -> f32 {
        let probability = 1.0 - logistic(score * self.slopes[pair] + self.offsets[pair]);
        probability.clamp(LEAST, 1.0 - LEAST)
    }
}

/// What the coupling needs for one row after the other.
pub struct Coupling {
    classes: usize,
    /// How far the pairs contradict the probabilities: the quadratic form that is minimised.
    form: Vec<f32>,
    gradient: Vec<f32>,
}

impl Coupling {
    pub fn new(classes: usize) -> Coupling {
        Coupling {
            classes,
            form: vec![0.0; classes * classes],
            gradient: vec![0.0; classes],
        }
    }

    /// Writes the probability of each class, from the scores of all pairs.
    pub fn write(&mut self, platt: &Platt, scores: &[f32], probabilities: &mut [f32]) {
        self.fill(platt, scores);
        probabilities.fill(1.0 / self.classes as f32);
        let tolerance = 0.005 / self.classes as f32;
        for _ in 0..MOST_ITERATIONS {
            let mut value = self.differentiate(probabilities);
            let errors = self.gradient.iter().map(|slope| (slope - value).abs());
            if errors.fold(0.0, f32::max) < tolerance {
                return;
            }
            for class in 0..self.classes {
                value = self.step(class, value, probabilities);
            }
        }
    }

    fn fill(&mut self, platt: &Platt, scores: &[f32]) {
        let classes = self.classes;
        self.form.fill(0.0);
        let mut pair = 0;
        for first in 0..classes {
            for second in first + 1..classes {
                let wins = platt.first_wins(pair, scores[pair]);
                let loses = 1.0 - wins;
                self.form[first * classes + first] += loses * loses;
                self.form[second * classes + second] += wins * wins;
                self.form[first * classes + second] = -loses * wins;
                self.form[second * classes + first] = -loses * wins;
                pair += 1;
            }
        }
    }

    /// Computes the gradient, without its factor 2, and returns the form's value.
    fn differentiate(&mut self, probabilities: &[f32]) -> f32 {
        let mut value = 0.0;
        let rows = self.form.chunks_exact(self.classes);
        for ((slope, row), own) in self.gradient.iter_mut().zip(rows).zip(probabilities) {
            *slope = row.iter().zip(probabilities).map(|(q, p)| q * p).sum();
            value += own * *slope;
        }
        value
    }

    /// Moves one class's probability to its best and scales all so that they sum up to 1; the form's new value.
    fn step(&mut self, class: usize, value: f32, probabilities: &mut [f32]) -> f32 {
        let row = &self.form[class * self.classes..][..self.classes];
        let slope = self.gradient[class];
        let change = (value - slope) / row[class];
        let scale = 1.0 + change;
        probabilities[class] += change;
        for ((slope, q), probability) in self.gradient.iter_mut().zip(row).zip(probabilities) {
            *slope = (*slope + change * q) / scale;
            *probability /= scale;
        }
        (value + change * (change * row[class] + 2.0 * slope)) / scale / scale
    }
}

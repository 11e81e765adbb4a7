//! One vote for every pair of classes, as libsvm does it: a weighted sum of the similarities to the support vectors of
//! both classes.

use std::ops::Range;

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::kernel::SupportVectors;

/// The classifiers of all pairs (0,1), (0,2), …, (1,2), …
#[derive(Debug)]
pub struct Pairs {
    pub vectors: SupportVectors,
    /// Each class's support vectors.
    of_class: Vec<Range<usize>>,
    /// One row of all vectors for each opponent of a class, in the order of the classes without itself.
    coefficients: Vec<f32>,
    rho: Vec<f32>,
}

impl Pairs {
    /// Reads the classifiers of at least two classes; `sizes` is how many support vectors each has.
    pub fn read(node: &NodeProto, classes: usize, sizes: &[usize]) -> TractResult<Pairs> {
        ensure!(
            sizes.len() == classes && classes > 1,
            "vectors_per_class has {} values for {classes} classes",
            sizes.len()
        );
        let mut of_class = Vec::with_capacity(classes);
        let mut count = 0usize;
        for size in sizes {
            let end = count.checked_add(*size);
            let end = end.context("vectors_per_class is beyond all bounds")?;
            of_class.push(count..end);
            count = end;
        }
        let vectors = SupportVectors::read(node, count)?;
        let coefficients: Vec<f32> = node.get_attr_vec("coefficients")?;
        let rho: Vec<f32> = node.get_attr_vec("rho")?;
        let needed = (classes - 1).checked_mul(count);
        ensure!(
            needed.is_some_and(|needed| coefficients.len() >= needed),
            "{} coefficients for {classes} classes and {count} support vectors",
            coefficients.len()
        );
        let pairs = Pairs {
            vectors,
            of_class,
            coefficients,
            rho,
        };
        ensure!(
            pairs.rho.len() >= pairs.count(),
            "{} values of rho for {} pairs of classes",
            pairs.rho.len(),
            pairs.count()
        );
        Ok(pairs)
    }

    /// How many pairs there are. The product cannot overflow: the file holds a number for each class.
    pub fn count(&self) -> usize {
        let classes = self.of_class.len();
        classes * (classes - 1) / 2
    }

    /// Writes each pair's score and counts the classes' votes.
    pub fn score(&self, similarities: &[f32], scores: &mut [f32], votes: &mut [u32]) {
        votes.fill(0);
        let mut pairs = scores.iter_mut().zip(&self.rho);
        for first in 0..self.of_class.len() {
            for second in first + 1..self.of_class.len() {
                let Some((score, rho)) = pairs.next() else {
                    return;
                };
                let sum = self.side(similarities, first, second - 1)
                    + self.side(similarities, second, first)
                    + f64::from(*rho);
                votes[if sum > 0.0 { first } else { second }] += 1;
                *score = sum as f32;
            }
        }
    }

    /// The part of a class's own vectors in its score against an opponent; FP32 products summed in FP64.
    fn side(&self, similarities: &[f32], class: usize, opponent: usize) -> f64 {
        let own = self.of_class[class].clone();
        let coefficients = &self.coefficients[opponent * self.vectors.count..][own.clone()];
        let products = coefficients.iter().zip(&similarities[own]);
        products
            .map(|(coefficient, similarity)| f64::from(coefficient * similarity))
            .sum()
    }
}

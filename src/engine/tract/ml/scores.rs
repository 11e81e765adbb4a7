//! What ai.onnx.ml does to scores before it shows them: `post_transform`.
//!
//! The formulas are those of the ONNX operator documentation; where it is silent, of ONNX Runtime, which the tests
//! compare with.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

/// The attribute `post_transform`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostTransform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl PostTransform {
    /// The transform that a node's attribute names; none without one.
    pub fn read(node: &NodeProto) -> TractResult<PostTransform> {
        let name: &str = node.get_attr_opt("post_transform")?.unwrap_or("NONE");
        PostTransform::from_name(name).with_context(|| format!("unknown post_transform {name}"))
    }

    fn from_name(name: &str) -> Option<PostTransform> {
        Some(match name {
            "NONE" => PostTransform::None,
            "SOFTMAX" => PostTransform::Softmax,
            "LOGISTIC" => PostTransform::Logistic,
            "SOFTMAX_ZERO" => PostTransform::SoftmaxZero,
            "PROBIT" => PostTransform::Probit,
            _ => return None,
        })
    }

    /// The scores of two classes of which only the second has one. ONNX Runtime knows no other transform here.
    pub fn of_two(self, score: f32) -> [f32; 2] {
        match self {
            PostTransform::Logistic => [logistic(-score), logistic(score)],
            _ => [1.0 - score, score],
        }
    }

    /// Transforms the scores of one row where a single score stands alone: it only knows PROBIT, as in ONNX Runtime.
    pub fn apply_to_targets(self, scores: &mut [f32]) {
        if scores.len() > 1 || self == PostTransform::Probit {
            self.apply(scores);
        }
    }

    /// Transforms the scores of one row.
    pub fn apply(self, scores: &mut [f32]) {
        match self {
            PostTransform::None => {}
            PostTransform::Softmax => softmax(scores, |_| false),
            PostTransform::SoftmaxZero => softmax(scores, |score| score.abs() <= 1e-7),
            PostTransform::Logistic => scores
                .iter_mut()
                .for_each(|score| *score = logistic(*score)),
            PostTransform::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
        }
    }
}

/// Scores that are `left_out` keep no share (SOFTMAX_ZERO leaves zeros as they are, scaled by the largest's weight).
fn softmax(scores: &mut [f32], left_out: impl Fn(f32) -> bool) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = (-largest).exp();
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = if left_out(*score) {
            *score * scale
        } else {
            (*score - largest).exp()
        };
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// The index of the largest, the first of equals.
pub fn first_largest<T: PartialOrd>(scores: &[T]) -> usize {
    let larger = |best: usize, at: usize| if scores[at] > scores[best] { at } else { best };
    (0..scores.len()).fold(0, larger)
}

/// 1 / (1 + e^-x), computed so that it keeps its precision on both sides.
pub fn logistic(score: f32) -> f32 {
    let half = 1.0 / (1.0 + (-score.abs()).exp());
    if score < 0.0 { 1.0 - half } else { half }
}

/// √2 · erf⁻¹(2x − 1), with Winitzki's approximation of the inverse error function.
pub fn probit(score: f32) -> f32 {
    let x = 2.0 * score - 1.0;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let a = 2.0 / (std::f32::consts::PI * 0.147) + 0.5 * log;
    let b = log / 0.147;
    std::f32::consts::SQRT_2 * ((a * a - b).sqrt() - a).sqrt().copysign(x)
}

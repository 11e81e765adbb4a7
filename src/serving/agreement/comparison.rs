//! How far two engines' outputs for the same request lie apart.

use crate::engine::onnx::OnnxFile;
use crate::tensor::difference::{Precision, distance};
use crate::tensor::value::Tensor;

/// What two engines' outputs are held to.
#[derive(Debug, Clone, Copy)]
pub enum Comparison {
    /// The same values, as far as this precision goes.
    Values(Precision),
    /// The same types and shapes: chance makes the values.
    Forms,
}

impl Comparison {
    /// What differs by more than this differs not by rounding alone.
    pub const COARSE: Comparison = Comparison::Values(Precision::Bfloat);

    /// What this model's outputs are held to; a file that cannot be read says nothing of its precision.
    pub fn of(file: Option<&OnnxFile>) -> Comparison {
        match file {
            Some(file) if file.is_random() => Comparison::Forms,
            Some(file) => Comparison::Values(file.precision),
            None => Comparison::Values(Precision::default()),
        }
    }

    /// The largest difference, or what is wrong between them.
    pub fn compare(self, one: &[Tensor], other: &[Tensor]) -> Result<f64, String> {
        if one.len() != other.len() {
            return Err(format!("{} outputs against {}", one.len(), other.len()));
        }
        match self {
            Comparison::Values(precision) => compare_values(one, other, precision),
            Comparison::Forms => {
                let form = |tensor: &Tensor| (tensor.dtype(), tensor.shape().clone());
                let alike = one.iter().map(form).eq(other.iter().map(form));
                alike
                    .then_some(0.0)
                    .ok_or_else(|| "other types or shapes".to_owned())
            }
        }
    }
}

fn compare_values(one: &[Tensor], other: &[Tensor], precision: Precision) -> Result<f64, String> {
    let mut largest = 0f64;
    for (at, (one, other)) in one.iter().zip(other).enumerate() {
        let found = distance(one, other).map_err(|how| format!("output {at}: {how}"))?;
        let tolerance = precision.tolerance(one.dtype());
        if found > tolerance {
            return Err(format!(
                "output {at}: the largest difference is {found:.1e}, and {tolerance:.0e} is allowed"
            ));
        }
        largest = largest.max(found);
    }
    Ok(largest)
}

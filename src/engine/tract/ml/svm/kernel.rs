//! How alike a row and each support vector are.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::super::lanes::{dot, squared_distance};

/// The attributes `kernel_type` and `kernel_params`.
#[derive(Debug, Clone, Copy)]
enum Kernel {
    Linear,
    Poly { gamma: f32, coef0: f32, degree: f32 },
    Rbf { gamma: f32 },
    Sigmoid { gamma: f32, coef0: f32 },
}

impl Kernel {
    fn read(node: &NodeProto) -> TractResult<Kernel> {
        let [gamma, coef0, degree] = match node.get_attr_opt_slice::<f32>("kernel_params")? {
            None | Some([]) => [0.0; 3],
            Some([gamma, coef0, degree, ..]) => [*gamma, *coef0, *degree],
            Some(other) => bail!("kernel_params has {} values instead of 3", other.len()),
        };
        let name: &str = node.get_attr_opt("kernel_type")?.unwrap_or("LINEAR");
        Ok(match name {
            "LINEAR" => Kernel::Linear,
            "POLY" => Kernel::Poly {
                gamma,
                coef0,
                degree,
            },
            "RBF" => Kernel::Rbf { gamma },
            "SIGMOID" => Kernel::Sigmoid { gamma, coef0 },
            other => bail!("unknown kernel_type {other}"),
        })
    }

    fn compare(self, row: &[f32], vector: &[f32]) -> f32 {
        match self {
            Kernel::Linear => dot(row, vector),
            Kernel::Poly {
                gamma,
                coef0,
                degree,
            } => {
                let base = gamma * dot(row, vector) + coef0;
                // The usual degrees, much faster than powf.
                if degree == 2.0 {
                    base * base
                } else if degree == 3.0 {
                    base * base * base
                } else {
                    base.powf(degree)
                }
            }
            Kernel::Rbf { gamma } => (-gamma * squared_distance(row, vector)).exp(),
            Kernel::Sigmoid { gamma, coef0 } => (gamma * dot(row, vector) + coef0).tanh(),
        }
    }
}

/// The support vectors and the kernel that compares rows with them.
#[derive(Debug)]
pub struct SupportVectors {
    kernel: Kernel,
    values: Vec<f32>,
    pub count: usize,
    pub features: usize,
}

impl SupportVectors {
    /// Reads `count` vectors, at least one.
    pub fn read(node: &NodeProto, count: usize) -> TractResult<SupportVectors> {
        let values: Vec<f32> = node.get_attr_vec("support_vectors")?;
        ensure!(
            count > 0 && !values.is_empty() && values.len().is_multiple_of(count),
            "{} values of support_vectors for {count} vectors",
            values.len()
        );
        Ok(SupportVectors {
            kernel: Kernel::read(node)?,
            features: values.len() / count,
            values,
            count,
        })
    }

    /// Writes how alike the row is to each vector.
    pub fn compare(&self, row: &[f32], similarities: &mut [f32]) {
        let vectors = self.values.chunks_exact(self.features);
        for (similarity, vector) in similarities.iter_mut().zip(vectors) {
            *similarity = self.kernel.compare(row, vector);
        }
    }
}

//! Which shapes a model's requests have, for measuring it as it is used.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::tensor::shape::Shape;
use crate::tensor::signature::CheckedInputs;

/// Requests are told apart by the power of two that their rows fall under: 1, 2 to 3, 4 to 7, and so on.
const CLASSES: usize = 16;

/// Counts requests by their number of rows.
#[derive(Default)]
pub struct Usage {
    classes: [Class; CLASSES],
}

#[derive(Default)]
struct Class {
    requests: AtomicU64,
    /// The shapes of one such request.
    shapes: Mutex<Option<Vec<Shape>>>,
}

/// The requests that make most of a model's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MainLoad {
    /// Which power of two their rows fall under.
    pub class: usize,
    pub requests: u64,
    /// The shapes of one of them.
    pub shapes: Vec<Shape>,
}

impl Usage {
    /// Counts a request.
    pub fn count(&self, inputs: &CheckedInputs) {
        // One without rows tells nothing of the model's work.
        let Some(power) = inputs.rows().checked_ilog2() else {
            return;
        };
        let class = &self.classes[(power as usize).min(CLASSES - 1)];
        if class.requests.fetch_add(1, Ordering::Relaxed) == 0 {
            let shapes = inputs.tensors().iter().map(|tensor| tensor.shape().clone());
            *lock(&class.shapes) = Some(shapes.collect());
        }
    }

    /// The requests that bring the most rows.
    pub fn main_load(&self) -> Option<MainLoad> {
        let classes = self.classes.iter().enumerate();
        let requests = |class: &Class| class.requests.load(Ordering::Relaxed);
        let (at, class) =
            classes.max_by_key(|(at, class)| requests(class).saturating_mul(1 << at))?;
        Some(MainLoad {
            class: at,
            requests: requests(class),
            shapes: lock(&class.shapes).clone()?,
        })
    }

    /// Begins anew, so that what changes is seen soon.
    pub fn restart(&self) {
        for class in &self.classes {
            class.requests.store(0, Ordering::Relaxed);
        }
    }
}

fn lock(shapes: &Mutex<Option<Vec<Shape>>>) -> std::sync::MutexGuard<'_, Option<Vec<Shape>>> {
    shapes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::dtype::DataType;
    use crate::tensor::sample::Sample;
    use crate::tensor::signature::{Dim, Signature, TensorSpec};

    fn request(rows: usize) -> CheckedInputs {
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            dtype: DataType::Fp32,
            dims: Some(vec![Dim::Dynamic(None), Dim::Fixed(2)]),
            columns: None,
        };
        let signature = Signature {
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
        };
        let sample = Sample {
            rows,
            ..Sample::ZEROS
        };
        sample.inputs(&signature).expect("made-up inputs fit")
    }

    #[test]
    fn the_requests_that_bring_most_rows_count() {
        let usage = Usage::default();
        usage.count(&request(0));
        assert_eq!(usage.main_load(), None);
        (0..9).for_each(|_| usage.count(&request(1)));
        (0..2).for_each(|_| usage.count(&request(8)));
        let main = usage.main_load().expect("there were requests");
        assert_eq!((main.class, main.requests), (3, 2));
        assert_eq!(main.shapes[0].dims(), [8, 2]);
        usage.restart();
        usage.count(&request(1));
        assert_eq!(usage.main_load().map(|main| main.class), Some(0));
    }
}

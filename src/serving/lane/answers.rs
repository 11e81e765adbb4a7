//! How large outputs will be, by those of the last run: a request holds memory for them before it runs.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::serving::batcher::Size;
use crate::tensor::value::{Tensor, bytes_of};

/// Outputs are told for so many bytes of inputs, since one byte may give less than one.
const INPUT_BYTES: usize = 1 << 10;

/// What outputs took in the last run; nothing before the first.
#[derive(Debug, Default)]
pub struct Answers {
    per_row: AtomicUsize,
    per_input_bytes: AtomicUsize,
}

impl Answers {
    /// What the outputs of so much will take: by its rows or by its bytes, whichever is less. What comes beyond that is
    /// noticed when it comes, but a request that is expected to give too much is refused in vain.
    pub fn expected(&self, Size { rows, bytes }: Size) -> usize {
        let by_rows = self.per_row.load(Relaxed).saturating_mul(rows);
        let by_bytes = self.per_input_bytes.load(Relaxed);
        by_rows.min(by_bytes.saturating_mul(bytes.div_ceil(INPUT_BYTES)))
    }

    /// Learns from a run of so much.
    pub fn learn(&self, Size { rows, bytes }: Size, outputs: &[Tensor]) {
        let outputs = bytes_of(outputs);
        learn(&self.per_row, outputs.div_ceil(rows));
        let inputs = bytes.div_ceil(INPUT_BYTES).max(1);
        learn(&self.per_input_bytes, outputs.div_ceil(inputs));
    }
}

/// Nearly always it is what is known, and to read what others read as well costs nothing.
fn learn(known: &AtomicUsize, now: usize) {
    if known.load(Relaxed) != now {
        known.store(now, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::tensor::shape::Shape;

    fn size(rows: usize, kib: usize) -> Size {
        let bytes = kib * INPUT_BYTES;
        Size { rows, bytes }
    }

    #[test]
    fn outputs_are_expected_to_grow_with_rows_and_inputs() -> Result<()> {
        let answers = Answers::default();
        assert_eq!(answers.expected(size(9, 9)), 0);
        let outputs = [Tensor::from_vec(Shape::new(vec![400])?, vec![0u8; 400])?];
        answers.learn(size(2, 4), &outputs);
        assert_eq!(answers.expected(size(6, 12)), 1200);
        // Rows as many, each of which is larger or smaller.
        assert_eq!(answers.expected(size(2, 40)), 400);
        assert_eq!(answers.expected(size(2, 1)), 100);
        Ok(())
    }
}

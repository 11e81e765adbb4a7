//! Measures the cost curve of a model before it serves, with made-up requests, beside whatever else the machine does: each
//! run takes its turn in the compute budget.

use std::time::{Duration, Instant};

use super::stopwatch::{Stopwatch, Times};
use super::{Costs, Size};
use crate::engine::{Model, Session};
use crate::error::{Result, guarded};
use crate::serving::budget::ComputeBudget;
use crate::tensor::batch::ShapeClass;
use crate::tensor::sample::Sample;
use crate::tensor::value::bytes_of;

/// All of it takes no longer than this, and one run more.
const MEASURED_FOR: Duration = Duration::from_secs(1);
/// So many runs of each size count, or as many as take the time below, at least one.
const RUNS: usize = 3;
const SIZE_FOR: Duration = Duration::from_millis(30);
/// After so many sizes that cost as much a row as smaller ones, larger ones are not tried.
const PATIENCE: usize = 2;
/// What a made-up batch, and what it gives, may hold.
const MOST_BYTES: usize = 16 << 20;
const MOST_OUTPUT_BYTES: usize = 64 << 20;

/// Measures batches of 1, 2, 4, … rows, as far as they pay; the class that they are of, where anything was measured.
pub fn measure(
    costs: &Costs,
    model: &dyn Model,
    threads: usize,
    budget: &ComputeBudget,
) -> Option<ShapeClass> {
    let sample = Sample {
        seed: 1,
        ..model.sample()?
    };
    let began = Instant::now();
    let measured = guarded("while it was measured", || {
        let mut session = model.session(threads)?;
        let mut climb = Climb {
            costs,
            budget,
            threads,
            until: began + MEASURED_FOR,
            class: None,
        };
        let (mut rows, mut in_vain, mut last) = (1, 0, Duration::ZERO);
        // The first run of a size is not counted, since it may prepare something.
        while rows <= costs.bounds().most_rows
            && in_vain < PATIENCE
            && began.elapsed() + last * 4 < MEASURED_FOR
        {
            let before = climb.most_rows();
            let Some(took) = climb.size(&mut *session, model, Sample { rows, ..sample })? else {
                break;
            };
            let pays = climb.most_rows() > before || rows == 1;
            in_vain = if pays { 0 } else { in_vain + 1 };
            (rows, last) = (rows * 2, took);
        }
        Ok(climb.class)
    });
    match measured {
        Ok(class) => class,
        Err(error) => {
            let reason = error.chain();
            tracing::debug!(reason, "batches could not be measured");
            None
        }
    }
}

struct Climb<'a> {
    costs: &'a Costs,
    budget: &'a ComputeBudget,
    threads: usize,
    /// What serves may be stuck, and nobody waits for that.
    until: Instant,
    class: Option<ShapeClass>,
}

impl Climb<'_> {
    fn most_rows(&self) -> usize {
        let class = self.class.as_ref();
        class.map_or(0, |class| self.costs.most_rows(class))
    }

    /// Runs one size; how long the last run took, or nothing if it is too large or the time is over.
    fn size(
        &mut self,
        session: &mut dyn Session,
        model: &dyn Model,
        sample: Sample,
    ) -> Result<Option<Duration>> {
        let inputs = sample.inputs(model.signature())?;
        if inputs.bytes() > MOST_BYTES && inputs.rows() > 1 {
            return Ok(None);
        }
        let class = ShapeClass::of(&inputs);
        let size = Size {
            rows: inputs.rows(),
            bytes: inputs.bytes(),
        };
        let mut output_bytes = 0;
        let mut run = || {
            let permit = self.budget.acquire_until(self.threads, self.until);
            let Some(_permit) = permit else {
                return Ok(None);
            };
            let watch = Stopwatch::start(session.computes_here());
            let outputs = session.run(&inputs)?;
            let Times { cost, .. } = watch.stop();
            output_bytes = bytes_of(&outputs);
            Ok(Some(cost))
        };
        let began = Instant::now();
        let Some(mut took) = run()? else {
            return Ok(None);
        };
        for counted in 0..RUNS {
            if counted > 0 && began.elapsed() > SIZE_FOR {
                break;
            }
            let Some(again) = run()? else {
                break;
            };
            took = again;
            self.costs.learn_curve(&class, size, took);
        }
        self.class = Some(class);
        // Twice the rows would give too much, or take longer than a batch may.
        let longest = self.costs.bounds().longest;
        let is_enough =
            output_bytes > MOST_OUTPUT_BYTES / 2 || longest.is_some_and(|longest| took > longest);
        Ok((!is_enough).then_some(took))
    }
}

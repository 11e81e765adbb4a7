//! Measures whole cost curves against each other: what a row takes alone and in batches of 2, 4, 8, … rows, by each way of
//! running a model, with every worker busy.
//!
//! Where requests are joined, the way that is the fastest with one row need not be the one that serves most rows a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Effort, Way, measure};
use crate::config::Aim;
use crate::engine::Session;
use crate::serving::batcher::Size;
use crate::serving::budget::ComputeBudget;
use crate::serving::cost::{Bounds, Costs};
use crate::tensor::batch::ShapeClass;
use crate::tensor::signature::CheckedInputs;

/// How much is measured of each size.
const OF_A_SIZE: Effort = Effort {
    rounds: 3,
    time: Duration::from_millis(80),
};
/// Past this no further size is begun, and none whose runs would take longer than a run may.
const ENOUGH: Duration = Duration::from_secs(10);
const LONGEST_RUN: f64 = 0.5;
/// What a made-up batch may hold.
const MOST_BYTES: usize = 16 << 20;
/// After so many sizes that cost a way as much a row as smaller ones, larger ones are not measured: kernels work in
/// tiles, so two and four rows may gain nothing where eight do.
const PATIENCE: usize = 3;
/// From this size on, a way whose rows cost so many times what the best one's do is left behind.
const TELLING_ROWS: usize = 8;
const LOST: f64 = 3.0;
/// A median counts for so many runs once requests are served, so that the first of them does not stand against it alone.
const WEIGHT: usize = 3;

/// The batches that ways are measured with.
pub struct Batches<'a> {
    /// Made-up requests of so many rows, as far as they can be made up.
    pub of: &'a dyn Fn(usize) -> Option<CheckedInputs>,
    pub bounds: Bounds,
}

/// What a way's batches cost.
#[derive(Clone)]
pub struct Measured {
    pub costs: Arc<Costs>,
    pub class: ShapeClass,
    /// The rows of the batches that pay best.
    pub rows: usize,
    /// A row's share of the time then, with every worker busy.
    pub row_seconds: f64,
}

/// What each way costs, in the ways' order. A way that fails has nothing, and neither has any once it is over.
pub fn measure_batches(
    ways: &[Way],
    batches: &Batches<'_>,
    budget: &ComputeBudget,
    is_over: &dyn Fn() -> bool,
) -> Vec<Option<Measured>> {
    let began = Instant::now();
    let racer = |way: &Way| Racer {
        way: way.clone(),
        held: None,
        costs: Arc::new(Costs::new(batches.bounds)),
        found: None,
        in_vain: 0,
        is_done: false,
    };
    let mut racers: Vec<Racer> = ways.iter().map(racer).collect();
    let mut rows = 1;
    while rows <= batches.bounds.most_rows && began.elapsed() < ENOUGH && !is_over() {
        let Some(inputs) =
            (batches.of)(rows).filter(|made| rows == 1 || made.bytes() <= MOST_BYTES)
        else {
            break;
        };
        if rows > 1 {
            racers.iter_mut().for_each(Racer::hold);
        }
        let mut active: Vec<_> = racers.iter_mut().filter(|racer| !racer.is_done).collect();
        if active.is_empty() {
            break;
        }
        let ways: Vec<_> = active.iter().map(|racer| racer.way.clone()).collect();
        let shares = measure(
            &ways,
            &inputs,
            (Aim::Throughput, OF_A_SIZE),
            budget,
            is_over,
        );
        for (racer, share) in active.iter_mut().zip(shares) {
            racer.ran(&inputs, share);
        }
        let best = racers
            .iter()
            .filter_map(Racer::row_seconds)
            .min_by(f64::total_cmp);
        if let Some(best) = best.filter(|_| rows >= TELLING_ROWS) {
            for racer in &mut racers {
                racer.is_done |= racer.row_seconds().is_none_or(|own| own > best * LOST);
            }
        }
        rows *= 2;
    }
    racers
        .into_iter()
        .map(|racer| racer.found.filter(|_| !is_over()))
        .collect()
}

/// One way and what was seen of it so far.
struct Racer {
    way: Way,
    /// Keeps what its sessions share, such as the weights, from the second size to the last.
    held: Option<Box<dyn Session>>,
    costs: Arc<Costs>,
    found: Option<Measured>,
    /// Sizes in a row that did not pay.
    in_vain: usize,
    is_done: bool,
}

impl Racer {
    fn row_seconds(&self) -> Option<f64> {
        self.found.as_ref().map(|found| found.row_seconds)
    }

    /// Holds a session where further sizes are measured. The first was made with a patience that ends, in its first size.
    fn hold(&mut self) {
        let Way { model, split, .. } = &self.way;
        if self.is_done {
            self.held = None;
        } else if self.held.is_none() {
            self.held = model.session(split.threads).ok();
        }
    }

    /// Takes in a request's share of the time, if the way could run it.
    fn ran(&mut self, inputs: &CheckedInputs, share: Option<f64>) {
        let Some(share) = share else {
            self.is_done = true;
            return;
        };
        let workers = self.way.split.workers as f64;
        let took = share * workers;
        let class = ShapeClass::of(inputs);
        let size = Size {
            rows: inputs.rows(),
            bytes: inputs.bytes(),
        };
        for _ in 0..WEIGHT {
            self.costs
                .learn_curve(&class, size, Duration::from_secs_f64(took));
        }
        let before = self.found.as_ref().map(|found| found.rows);
        let rows = self.costs.most_rows(&class).max(1);
        let best = Size {
            rows,
            bytes: size.bytes / size.rows.max(1) * rows,
        };
        let seconds = self.costs.expected(&class, best).as_secs_f64();
        self.in_vain = match before.is_some_and(|before| rows <= before) {
            true => self.in_vain + 1,
            false => 0,
        };
        let longest = self.costs.bounds().longest;
        let is_too_long = longest.is_some_and(|longest| took > longest.as_secs_f64());
        self.is_done = self.in_vain >= PATIENCE || is_too_long || took * 2.0 > LONGEST_RUN;
        self.found = Some(Measured {
            costs: self.costs.clone(),
            class,
            rows,
            row_seconds: seconds / rows as f64 / workers,
        });
    }
}

/// What a row takes alone and in batches, in words: `per row 410 µs alone, 95 µs at 16`.
pub fn per_row(curve: &[(usize, f64)]) -> Option<String> {
    let told = curve.iter().map(|(rows, seconds)| {
        let micros = seconds * 1e6 / *rows as f64;
        let micros = match micros < 10.0 {
            true => format!("{micros:.1}"),
            false => format!("{micros:.0}"),
        };
        match rows {
            1 => format!("{micros} µs alone"),
            rows => format!("{micros} µs at {rows}"),
        }
    });
    let told: Vec<_> = told.collect();
    (!told.is_empty()).then(|| format!("per row {}", told.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_told_by_the_row() {
        let curve = [(1, 410e-6), (2, 400e-6), (16, 80e-6)];
        let told = "per row 410 µs alone, 200 µs at 2, 5.0 µs at 16";
        assert_eq!(per_row(&curve).as_deref(), Some(told));
        assert_eq!(per_row(&[]), None);
    }
}

//! Which other sizes than the best batches have now and then, so that no size is judged for ever by what was once
//! measured. What that costs is bounded: a size that seems to take long is tried the less often.
//!
//! The first run of a size after others is cold: it takes memory from the system anew, which may make it a third longer. So
//! each try is several batches one after the other, of which half are warm.

use super::curve::{Curve, Knee};

/// Of so many batches one tries another size, at most.
const TRIES: u32 = 32;
/// So many batches for each worker make a try: one that is cold, and one that is not.
const BATCHES: u32 = 2;
/// What tries take longer than batches of the best size is no more than such a part of what all batches take. So long they
/// hold up their own rows and those behind them: the slowest of a hundred requests would tell of a larger part.
const COST: f64 = 0.002;
/// So many batches of the best size is what is saved at most for tries that cost nothing now.
const MOST_SAVED: f64 = 8.0;
/// Of so many tries, these doubt that a size takes too long: one of two, and one of four times the rows.
const DOUBTS: u32 = 16;
const TURNS_OF_DOUBT: [u32; 2] = [1, 10];

/// The turns of one shape class.
#[derive(Debug, Default)]
pub struct Tries {
    asked: u32,
    turn: u32,
    /// The seconds that tries may cost now.
    saved: f64,
    /// The size that is being tried, and in how many batches more.
    trying: (usize, u32),
}

impl Tries {
    /// The rows of the next batch on one of so many workers: those of `best`, or of a size up to `most` that is tried and
    /// takes no longer than `longest` seconds.
    pub fn next(
        &mut self,
        workers: u32,
        best: &Knee,
        curve: &Curve,
        most: usize,
        longest: Option<f64>,
    ) -> usize {
        let Knee { rows, seconds, .. } = *best;
        self.saved += COST * seconds;
        if let (tried, again @ 1..) = self.trying {
            self.trying = (tried, again - 1);
            return tried.min(most.max(1));
        }
        let batches = BATCHES * workers.max(1);
        self.asked = self.asked.wrapping_add(1);
        if !self.asked.is_multiple_of(batches * TRIES - (batches - 1)) {
            return rows;
        }
        let turn = self.turn.wrapping_add(1);
        let tried = match turn % 4 {
            0 => rows / 2,
            1 | 3 => rows * 2,
            _ => rows * 4,
        };
        let tried = tried.clamp(1, most.max(1));
        let by_the_best = seconds * tried as f64 / rows.max(1) as f64;
        let seen = curve.seconds(tried).unwrap_or(by_the_best);
        // It may have been seen in a bad moment: by what the best size takes, it cannot take longer than this.
        let doubts = seconds > 0.0 && TURNS_OF_DOUBT.contains(&(turn % DOUBTS));
        let expected = if doubts { seen.min(by_the_best) } else { seen };
        if longest.is_some_and(|longest| expected > longest) {
            self.turn = turn;
            return rows;
        }
        // One that took less the last time may have been seen in bad moments before; what never ran may take anything.
        let last = curve.last(tried);
        let likely = last.map_or(by_the_best, |last| seen.min(last));
        let cost = f64::from(batches) * (likely - seconds.min(by_the_best)).max(0.0);
        if cost > self.saved {
            // Its turn comes when it is paid for.
            return rows;
        }
        self.turn = turn;
        self.saved = (self.saved - cost).min(MOST_SAVED * seconds);
        self.trying = (tried, batches - 1);
        tried
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A curve by the microseconds that sizes take.
    fn curve(points: &[(usize, f64)]) -> Curve {
        let mut curve = Curve::default();
        for (rows, micros) in points {
            curve.learn(*rows, micros * 1e-6);
        }
        curve
    }

    /// How often each size is taken in so many batches.
    fn taken(curve: &Curve, batches: usize) -> BTreeMap<usize, usize> {
        let (mut tries, best) = (Tries::default(), curve.knee(64, None));
        let mut counts = BTreeMap::new();
        for _ in 0..batches {
            *counts
                .entry(tries.next(1, &best, curve, 64, None))
                .or_default() += 1;
        }
        counts
    }

    #[test]
    fn sizes_are_tried_by_what_they_take_longer() {
        let curve = curve(&[(1, 150.0), (2, 200.0), (4, 400.0), (8, 800.0)]);
        // A round tries half the rows once, twice as many two times and four times as many once.
        let longer = |micros: f64, than: f64| 2.0 * (micros - than) * 1e-6;
        let round = longer(150.0, 100.0) + 2.0 * longer(400.0, 200.0) + longer(800.0, 200.0);
        let batches = (100.0 * round / (COST * 200e-6)) as usize;
        let taken = taken(&curve, batches);
        for (rows, expected) in [(1, 200), (4, 400), (8, 200)] {
            let count = taken[&rows];
            assert!(count.abs_diff(expected) <= 8, "{rows}: {taken:?}");
        }
    }

    #[test]
    fn each_worker_runs_a_size_that_is_tried_twice_in_a_row() {
        let curve = curve(&[(1, 150.0), (2, 200.0), (4, 200.0)]);
        let (mut tries, best) = (Tries::default(), curve.knee(2, None));
        let sizes: Vec<usize> = (0..6 * TRIES)
            .map(|_| tries.next(3, &best, &curve, 64, None))
            .collect();
        let mut parts = sizes.chunk_by(|a, b| a == b);
        let (before, tried) = (parts.next().expect("some"), parts.next().expect("a try"));
        assert_eq!((before[0], before.len()), (2, 6 * TRIES as usize - 6));
        assert_eq!(tried, [4; 6]);
    }

    #[test]
    fn what_tries_cost_is_bounded() {
        let micros = |rows: usize| {
            if rows == 1 {
                100.0
            } else {
                500.0 * rows as f64
            }
        };
        let curve = curve(&[1, 2, 4].map(|rows| (rows, micros(rows))));
        let taken = taken(&curve, 100_000);
        let tried: Vec<_> = taken.range(2..).collect();
        assert_eq!(tried.len(), 2, "both are tried: {taken:?}");
        let cost: f64 = tried
            .iter()
            .map(|(rows, count)| **count as f64 * (micros(**rows) - 100.0))
            .sum();
        let share = cost / (100_000.0 * 100.0);
        assert!((0.8 * COST..=COST).contains(&share), "{share}");
    }
}

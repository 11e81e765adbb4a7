//! What batches of each size take, for one shape class: a window of the last times of each power of two.
//!
//! The lower quartile of a window stands for it: whatever is the matter with a run makes it longer, be it the machine or memory
//! that it takes anew. Between sizes that were measured the curve is a straight line. It never falls: more rows cannot take
//! less time, so a size that seems to take longer than a larger one was measured badly.
//!
//! A machine is now faster and now slower, and sizes that seldom run would be judged by what they took in another hour. So
//! the size that runs most is the gauge: what it takes more than before, all others are taken to take more as well.

use std::collections::VecDeque;

/// So many times are kept for each size.
const WINDOW: usize = 9;
/// A batch of twice the rows runs twice as long: it must be so much cheaper a row than a smaller one to be worth the wait,
/// one of four times the rows by that much once more, and so on.
const WORTH_IT: f64 = 0.95;
/// A size must run so many times as often as the gauge to be the gauge itself.
const MORE_OFTEN: u64 = 2;
/// The largest size that is told apart is two to the power of one less than this.
pub const SIZES: usize = 17;

/// The measured times of one shape class.
#[derive(Debug, Clone, Default)]
pub struct Curve {
    windows: Vec<Window>,
    /// The sizes that were measured and what they take, ascending.
    points: Vec<(usize, f64)>,
    /// How many runs were taken in.
    runs: u64,
    /// The window that tells how fast the machine is.
    gauge: Option<usize>,
}

/// The last times of one size, in seconds at the machine's speed of now.
#[derive(Debug, Clone, Default)]
struct Window {
    /// Each with the number of its run, the oldest first.
    runs: VecDeque<(u64, f64)>,
    /// What stands for them.
    takes: f64,
}

/// How large batches should be, and what speaks against larger ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knee {
    pub rows: usize,
    pub seconds: f64,
    pub reason: Reason,
}

/// What bounds a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reason {
    /// Nothing was measured.
    Unknown,
    /// Larger ones cost as much a row: so many rows take so many seconds.
    NoGain(usize, f64),
    /// So many rows take so many seconds, which is too long.
    TooLong(usize, f64),
    /// There are no larger ones that were measured.
    Largest,
}

impl Curve {
    /// Takes in a run of so many rows. One between two sizes counts for the nearer one, by its share.
    pub fn learn(&mut self, rows: usize, seconds: f64) {
        let rows = rows.max(1);
        let size = nearest(rows);
        if self.windows.len() <= size {
            self.windows.resize_with(size + 1, Window::default);
        }
        let exact = 1 << size;
        let scale = match self.seconds(rows) {
            Some(expected) if rows != exact && expected > 0.0 => {
                self.seconds(exact).map(|at| at / expected)
            }
            _ => None,
        };
        let scale = scale.unwrap_or(exact as f64 / rows as f64);
        self.runs += 1;
        let before = self.windows[size].takes;
        self.windows[size].push(self.runs, seconds * scale);
        match self.gauge == Some(size) {
            true => self.scale_others(size, self.windows[size].takes / before),
            false => self.choose_gauge(size),
        }
        self.draw();
    }

    /// What the gauge takes has changed by this factor.
    fn scale_others(&mut self, gauge: usize, change: f64) {
        // Runs that took no time that could be measured tell nothing.
        if change.is_normal() {
            let windows = self.windows.iter_mut().enumerate();
            let others = windows.filter(|(size, _)| *size != gauge);
            others.for_each(|(_, window)| window.scale(change));
        }
    }

    /// This size has run; whether it does so often enough to be the gauge.
    fn choose_gauge(&mut self, size: usize) {
        let span = |size: usize| self.windows[size].span(self.runs);
        let gauge = self.gauge.and_then(span);
        if span(size).is_some_and(|own| gauge.is_none_or(|gauge| MORE_OFTEN * own < gauge)) {
            self.gauge = Some(size);
        }
    }

    fn draw(&mut self) {
        let windows = self.windows.iter().enumerate();
        let measured = windows.filter(|(_, window)| !window.runs.is_empty());
        self.points.clear();
        self.points
            .extend(measured.map(|(size, window)| (1 << size, window.takes)));
        let mut least = f64::INFINITY;
        for (_, seconds) in self.points.iter_mut().rev() {
            least = least.min(*seconds);
            *seconds = least;
        }
    }

    /// What so many rows should take; nothing before the first run.
    pub fn seconds(&self, rows: usize) -> Option<f64> {
        let (rows, mut below) = (rows.max(1) as f64, None);
        for &(size, seconds) in &self.points {
            let size = size as f64;
            if size >= rows {
                let Some((before, least)) = below else {
                    return Some(seconds * rows / size);
                };
                let share = (rows - before) / (size - before);
                return Some(least + (seconds - least) * share);
            }
            below = Some((size, seconds));
        }
        below.map(|(size, seconds)| seconds * rows / size)
    }

    /// What a batch of about so many rows took the last time; nothing before the first run.
    pub fn last(&self, rows: usize) -> Option<f64> {
        let size = nearest(rows);
        let last = self.windows.get(size)?.last()?;
        Some(last * rows as f64 / (1_u64 << size) as f64)
    }

    /// The sizes that were measured and what they take, which grows with them.
    pub fn points(&self) -> &[(usize, f64)] {
        &self.points
    }

    /// How many of so many rows are best run together. They all are, unless fewer were seen to be cheaper a row: sizes below
    /// one that pays need not pay themselves.
    pub fn part_of(&self, rows: usize) -> usize {
        let few = self.knee(rows, None);
        let each = few.seconds / few.rows as f64;
        match self.seconds(rows) {
            Some(all) if each < all / rows as f64 * WORTH_IT => few.rows,
            _ => rows,
        }
    }

    /// Where batches stop to pay: the largest size up to `most` that is so much cheaper a row than all smaller ones that it
    /// is worth its length, and takes no longer than `longest` seconds.
    pub fn knee(&self, most: usize, longest: Option<f64>) -> Knee {
        let mut points = self.points.iter().copied();
        let Some((rows, seconds)) = points.next() else {
            return Knee {
                rows: 1,
                seconds: 0.0,
                reason: Reason::Unknown,
            };
        };
        let mut knee = Knee {
            rows: rows.min(most.max(1)),
            seconds,
            reason: Reason::Largest,
        };
        let mut best = seconds / rows as f64;
        for (rows, seconds) in points.take_while(|(rows, _)| *rows <= most) {
            if longest.is_some_and(|longest| seconds > longest) {
                knee.reason = Reason::TooLong(rows, seconds);
                break;
            }
            let each = seconds / rows as f64;
            let doublings = (rows as f64 / knee.rows as f64).log2();
            if each < best * WORTH_IT.powf(doublings) {
                (knee, best) = (
                    Knee {
                        rows,
                        seconds,
                        reason: Reason::Largest,
                    },
                    each,
                );
            } else if knee.reason == Reason::Largest {
                knee.reason = Reason::NoGain(rows, seconds);
            }
        }
        knee
    }
}

impl Window {
    fn push(&mut self, run: u64, seconds: f64) {
        if self.is_full() {
            self.runs.pop_front();
        }
        self.runs.push_back((run, seconds));
        let mut sorted: Vec<f64> = self.runs.iter().map(|(_, seconds)| *seconds).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        self.takes = sorted[(sorted.len() - 1) / 4];
    }

    fn scale(&mut self, factor: f64) {
        for (_, seconds) in &mut self.runs {
            *seconds *= factor;
        }
        self.takes *= factor;
    }

    fn is_full(&self) -> bool {
        self.runs.len() == WINDOW
    }

    /// Over how many of all runs it goes back, once it is full.
    fn span(&self, runs: u64) -> Option<u64> {
        let (oldest, _) = self.runs.front().filter(|_| self.is_full())?;
        Some(runs - oldest)
    }

    fn last(&self) -> Option<f64> {
        self.runs.back().map(|(_, seconds)| *seconds)
    }
}

/// The power of two that is nearest by proportion.
fn nearest(rows: usize) -> usize {
    let below = rows.max(1).ilog2() as usize;
    // The square root of two is in the middle; squares need no fractions.
    let is_above = (rows as f64 / (1_u64 << below) as f64).powi(2) > 2.0;
    (below + usize::from(is_above)).min(SIZES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(of: impl Fn(f64) -> f64, sizes: usize) -> Curve {
        let mut curve = Curve::default();
        (0..sizes).for_each(|size| curve.learn(1 << size, of((1 << size) as f64)));
        curve
    }

    #[test]
    fn the_last_time_of_a_size_is_known() {
        let mut curve = Curve::default();
        assert_eq!(curve.last(1), None);
        for turn in 1..=2 * WINDOW {
            curve.learn(2, turn as f64);
            assert_eq!(curve.last(2), Some(turn as f64));
        }
        assert_eq!(curve.last(4), None);
    }

    #[test]
    fn batches_grow_as_far_as_they_pay() {
        let check = |of: fn(f64) -> f64, most, longest, rows, reason: fn(Reason) -> bool| {
            let knee = curve(of, 8).knee(most, longest);
            assert_eq!(knee.rows, rows, "{knee:?}");
            assert!(reason(knee.reason), "{knee:?}");
        };
        let is_no_gain = |reason| matches!(reason, Reason::NoGain(..));
        let is_largest = |reason| matches!(reason, Reason::Largest);
        // Mostly a cost for each run, a cost for each row alone, and one that grows faster than the rows.
        check(|rows| 1.0 + rows / 100.0, 1000, None, 128, is_largest);
        check(|rows| rows, 1000, None, 1, is_no_gain);
        check(|rows| rows.powf(1.3), 1000, None, 1, is_no_gain);
        check(|rows| rows.max(8.0), 1000, None, 8, is_no_gain);
        check(|rows| 1.0 + rows / 100.0, 20, None, 16, is_largest);
        let is_too_long = |reason| matches!(reason, Reason::TooLong(32, _));
        check(|rows| 1.0 + rows / 100.0, 1000, Some(1.2), 16, is_too_long);
        let unknown = Curve::default().knee(8, None);
        assert_eq!((unknown.rows, unknown.reason), (1, Reason::Unknown));
    }

    #[test]
    fn one_bump_does_not_end_the_climb() {
        let mut bumpy = curve(|rows| 1.0 + rows / 100.0, 6);
        (0..WINDOW).for_each(|_| bumpy.learn(4, 4.0));
        assert_eq!(bumpy.knee(1000, None).rows, 32);
        let mut lasting = curve(|rows| rows, 3);
        lasting.learn(8, 6.0);
        assert_eq!(lasting.knee(1000, None).rows, 8, "two and four did not pay");
    }

    #[test]
    fn what_runs_much_longer_must_be_much_cheaper() {
        let knee = |each: f64| {
            let mut curve = curve(|rows| rows, 3);
            curve.learn(64, 64.0 * each);
            curve.knee(1000, None).rows
        };
        assert_eq!((knee(0.7), knee(0.8), knee(0.9)), (64, 1, 1));
    }

    #[test]
    fn a_few_rows_do_not_run_together_where_only_many_pay() {
        let mut curve = Curve::default();
        for (rows, seconds) in [(1, 2.0), (2, 6.0), (4, 14.0), (8, 14.0), (16, 25.0)] {
            curve.learn(rows, seconds);
        }
        assert_eq!(curve.knee(64, None).rows, 16);
        let parts = [1, 2, 3, 5, 7, 8, 12].map(|rows| (rows, curve.part_of(rows)));
        assert_eq!(
            parts,
            [(1, 1), (2, 1), (3, 1), (5, 1), (7, 7), (8, 8), (12, 12)]
        );
        assert_eq!(Curve::default().part_of(3), 3);
    }

    #[test]
    fn one_slow_run_tells_nothing() {
        let mut steady = curve(|rows| 1.0 + rows / 100.0, 4);
        for _ in 0..4 {
            steady.learn(8, 1.08);
        }
        steady.learn(8, 100.0);
        assert_eq!(steady.seconds(8), Some(1.08));
        (0..WINDOW).for_each(|_| steady.learn(8, 2.0));
        assert_eq!(steady.seconds(8), Some(2.0), "what stays so is believed");
    }

    #[test]
    fn sizes_that_seldom_run_are_as_much_slower_as_the_one_that_runs() {
        let mut curve = curve(|rows| rows, 3);
        (0..2 * WINDOW).for_each(|_| curve.learn(1, 1.0));
        (0..2 * WINDOW).for_each(|_| curve.learn(1, 1.5));
        assert_eq!(curve.points(), [(1, 1.5), (2, 3.0), (4, 6.0)]);
        assert_eq!(curve.last(4), Some(6.0));
        // One that runs now is seen as it is.
        (0..WINDOW).for_each(|_| curve.learn(2, 2.0));
        assert_eq!(curve.points(), [(1, 1.5), (2, 2.0), (4, 6.0)]);
        // It runs often enough by now to tell how fast the machine is.
        (0..WINDOW).for_each(|_| curve.learn(2, 4.0));
        assert_eq!(curve.points(), [(1, 3.0), (2, 4.0), (4, 12.0)]);
    }

    #[test]
    fn sizes_between_are_on_a_line() {
        let mut line = Curve::default();
        assert_eq!(line.seconds(1), None);
        line.learn(2, 2.0);
        assert_eq!((line.seconds(1), line.seconds(8)), (Some(1.0), Some(8.0)));
        line.learn(8, 5.0);
        assert_eq!(line.seconds(4), Some(3.0));
        // Five rows are nearer to four; they took twice what the line says, so four would too.
        line.learn(5, 7.0);
        assert_eq!(line.seconds(4), Some(5.0), "and yet it never falls");
    }
}

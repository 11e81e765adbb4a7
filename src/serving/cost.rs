//! What a model's runs cost, and how large its batches should be: measured before it serves, kept fresh by every run.
//!
//! Each shape class has a curve of its own; of many classes the least recently used go, and what was learnt of all of them
//! stands in for a class that is hardly known. Now and then a batch has another size than the best one known.

mod curve;
pub mod measure;
mod pace;
pub mod stopwatch;
mod tries;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::curve::{Curve, Knee, Reason};
use self::pace::{Pace, SHORT_RUN};
use self::tries::Tries;
use crate::serving::batcher::Size;
use crate::tensor::batch::ShapeClass;

/// So many shape classes have a curve of their own.
const MOST_CLASSES: usize = 32;
/// The inputs of a batch hold no more than this, which is what joining them takes once more.
const MOST_BATCH_BYTES: usize = 64 << 20;
/// Of so many short runs one is looked at closely, since they come by the hundred thousand.
const SHORT_RUNS: u64 = 16;

/// What bounds batches, whatever they cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub most_rows: usize,
    /// The longest that a batch may run.
    pub longest: Option<Duration>,
    /// Whether batches have as many rows as they may, by the owner's word, whatever was measured.
    pub filling: Filling,
}

impl Bounds {
    fn longest_seconds(&self) -> Option<f64> {
        self.longest.map(|longest| longest.as_secs_f64())
    }
}

/// Whether the curve decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filling {
    AsMeasured,
    /// By the setting of this name.
    Always(&'static str),
}

/// How large the batches of a class are, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub rows: usize,
    pub why: String,
}

/// The batch that suits a class best.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Best {
    pub rows: usize,
    /// What it takes; zero before the first run.
    pub takes: Duration,
}

impl From<Knee> for Best {
    fn from(knee: Knee) -> Best {
        Best {
            rows: knee.rows,
            takes: Duration::try_from_secs_f64(knee.seconds).unwrap_or(Duration::MAX),
        }
    }
}

/// What was learnt of one version of a model on one engine.
pub struct Costs {
    bounds: Bounds,
    pace: Pace,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    classes: Vec<Entry>,
    /// Of all classes: the seconds that each byte of a row takes, so that small and large rows can be compared.
    pooled: Curve,
    clock: u64,
}

struct Entry {
    class: ShapeClass,
    curve: Curve,
    row_bytes: usize,
    runs: u64,
    used: u64,
    tries: Tries,
    knee: Option<Knee>,
}

impl Costs {
    /// Nothing is known yet.
    pub fn new(bounds: Bounds) -> Costs {
        Costs {
            bounds,
            pace: Pace::default(),
            known: Mutex::default(),
        }
    }

    /// What batches are bounded by.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Takes in one run of the engine while serving; its class is asked for only where the run is looked at closely.
    pub fn learn(&self, class: impl FnOnce() -> ShapeClass, size: Size, took: Duration) {
        let before = self.pace.learn(took, size);
        if took >= SHORT_RUN || before.is_multiple_of(SHORT_RUNS) {
            self.learn_curve(&class(), size, took);
        }
    }

    /// Takes in a run that several requests shared: a row alone takes no longer than all of them did.
    pub fn learn_joined(&self, class: &ShapeClass, size: Size, took: Duration) {
        let row = Size {
            rows: 1,
            bytes: size.bytes / size.rows.max(1),
        };
        self.pace.learn(took, row);
        self.learn_curve(class, size, took);
    }

    /// Takes in a run that no request waited for.
    pub fn learn_curve(&self, class: &ShapeClass, size: Size, took: Duration) {
        let seconds = took.as_secs_f64();
        let row_bytes = size.bytes / size.rows.max(1);
        let mut known = self.lock();
        let per_byte = seconds / row_bytes.max(1) as f64;
        known.pooled.learn(size.rows, per_byte);
        let entry = known.entry(class);
        entry.runs += 1;
        entry.row_bytes = row_bytes;
        entry.curve.learn(size.rows, seconds);
        entry.knee = None;
    }

    /// How many rows a batch of this class should have at most.
    pub fn most_rows(&self, class: &ShapeClass) -> usize {
        self.lock().knee(class, &self.bounds).rows
    }

    /// The same for a batch that one of so many workers takes now, which may try another size.
    pub fn next_rows(&self, class: &ShapeClass, workers: u32) -> usize {
        let mut known = self.lock();
        let best = known.knee(class, &self.bounds);
        if self.bounds.filling != Filling::AsMeasured {
            return best.rows;
        }
        let entry = known.entry(class);
        let most = self.bounds.most_rows.min(fitting(entry.row_bytes));
        let longest = self.bounds.longest_seconds();
        let Entry { tries, curve, .. } = entry;
        tries.next(workers, &best, curve, most, longest)
    }

    /// How many of so many rows that are there should run together: less than all where those take less a row.
    pub fn rows_of(&self, class: &ShapeClass, there: usize) -> usize {
        let mut known = self.lock();
        let best = known.knee(class, &self.bounds).rows;
        match self.bounds.filling {
            Filling::AsMeasured if there < best => known.entry(class).curve.part_of(there),
            _ => there.min(best),
        }
    }

    /// How long so many rows should take one worker, in batches of the best size; zero before the first run.
    pub fn expected(&self, class: &ShapeClass, size: Size) -> Duration {
        let mut known = self.lock();
        // What is not known by itself comes alone.
        let best = known.knee(class, &self.bounds).rows.max(1);
        let Some(seconds) = known.seconds(class, best, size) else {
            return self.pace.expected(size.rows);
        };
        let batches = size.rows as f64 / best as f64;
        Duration::try_from_secs_f64(seconds * batches).unwrap_or(Duration::MAX)
    }

    /// The batch that suits a class best.
    pub fn best(&self, class: &ShapeClass) -> Best {
        Best::from(self.lock().knee(class, &self.bounds))
    }

    /// The same for the class that ran most often.
    pub fn main_best(&self) -> Best {
        let mut known = self.lock();
        let main = known.main().map(|entry| entry.class.clone());
        main.map_or_else(Best::default, |class| {
            Best::from(known.knee(&class, &self.bounds))
        })
    }

    /// Whether such a request is known to take less than a hop to another thread and back.
    pub fn is_short(&self, size: Size) -> bool {
        self.pace.is_short(size)
    }

    /// The sizes that were measured and the seconds that a batch of each takes.
    pub fn curve(&self, class: &ShapeClass) -> Vec<(usize, f64)> {
        let known = self.lock();
        let entry = known.classes.iter().find(|entry| entry.class == *class);
        entry.map_or_else(Vec::new, |entry| entry.curve.points().to_vec())
    }

    /// How large batches of this class are, and why.
    pub fn decision(&self, class: &ShapeClass) -> Decision {
        let mut known = self.lock();
        let knee = known.knee(class, &self.bounds);
        Decision {
            rows: knee.rows,
            why: why(&knee, &self.bounds),
        }
    }

    /// The class that ran most often.
    pub fn main_class(&self) -> Option<ShapeClass> {
        self.lock().main().map(|entry| entry.class.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// What is known of the class that ran most often.
    fn main(&self) -> Option<&Entry> {
        self.classes.iter().max_by_key(|entry| entry.runs)
    }

    /// What is known of a class; of the others the one that was used the longest ago gives way to a new one.
    fn entry(&mut self, class: &ShapeClass) -> &mut Entry {
        self.clock += 1;
        let mut classes = self.classes.iter();
        let at = classes
            .position(|entry| entry.class.is_shared_with(class) || entry.class == *class)
            .unwrap_or_else(|| self.add(class));
        let entry = &mut self.classes[at];
        entry.used = self.clock;
        entry
    }

    fn add(&mut self, class: &ShapeClass) -> usize {
        let entry = Entry {
            class: class.clone(),
            curve: Curve::default(),
            row_bytes: 0,
            runs: 0,
            used: 0,
            tries: Tries::default(),
            knee: None,
        };
        let classes = self.classes.iter().enumerate();
        let oldest = classes.min_by_key(|(_, entry)| entry.used);
        match oldest {
            Some((at, _)) if self.classes.len() >= MOST_CLASSES => {
                self.classes[at] = entry;
                at
            }
            _ => {
                self.classes.push(entry);
                self.classes.len() - 1
            }
        }
    }

    fn knee(&mut self, class: &ShapeClass, bounds: &Bounds) -> Knee {
        if let Some(knee) = self.entry(class).knee {
            return knee;
        }
        let longest = bounds.longest_seconds();
        let mut knee = self.entry(class).curve.knee(bounds.most_rows, longest);
        let pooled = self.pooled.knee(bounds.most_rows, None).rows;
        let entry = self.entry(class);
        let is_long = |rows: usize| {
            let seconds = entry.curve.seconds(rows).zip(longest);
            seconds.is_some_and(|(seconds, longest)| seconds > longest)
        };
        let fits = fitting(entry.row_bytes);
        let (most, wanted) = match (bounds.filling, knee.reason) {
            (Filling::Always(_), _) => (bounds.most_rows, bounds.most_rows),
            // Hardly known by itself: as the others are, but for one that has never run.
            (Filling::AsMeasured, Reason::Largest) => (bounds.most_rows, pooled.max(knee.rows)),
            (Filling::AsMeasured, _) => (knee.rows, knee.rows),
        };
        let mut rows = wanted.min(most).min(fits).max(1);
        while rows > knee.rows.max(1) && is_long(rows) {
            rows = (rows / 2).max(knee.rows);
        }
        if rows != knee.rows {
            knee.seconds = entry.curve.seconds(rows).unwrap_or(knee.seconds);
            knee.rows = rows;
        }
        entry.knee = Some(knee);
        knee
    }

    /// What a batch of so many rows takes, by its own class or by all of them.
    fn seconds(&mut self, class: &ShapeClass, rows: usize, size: Size) -> Option<f64> {
        let own = self.entry(class).curve.seconds(rows);
        let row_bytes = (size.bytes / size.rows.max(1)).max(1) as f64;
        own.or_else(|| Some(self.pooled.seconds(rows)? * row_bytes))
    }
}

/// How many rows of so many bytes a batch may have.
fn fitting(row_bytes: usize) -> usize {
    (MOST_BATCH_BYTES / row_bytes.max(1)).max(1)
}

fn why(knee: &Knee, bounds: &Bounds) -> String {
    let Bounds {
        most_rows, filling, ..
    } = bounds;
    let milliseconds = |seconds: f64| format!("{:.3} ms", seconds * 1e3);
    if let Filling::Always(setting) = filling {
        return format!("{setting} is set: up to {most_rows} rows");
    }
    let rows = knee.rows;
    let own = format!("{rows} rows take {}", milliseconds(knee.seconds));
    match knee.reason {
        _ if rows >= *most_rows => format!("no more than {most_rows} rows are allowed"),
        Reason::Unknown => "nothing was measured yet".to_owned(),
        Reason::NoGain(more, seconds) => format!(
            "{own}, and {more} rows take {}: larger batches cost as much a row",
            milliseconds(seconds)
        ),
        Reason::TooLong(more, seconds) => format!(
            "{own}, and {more} rows would take {}, which is too long for the latency target",
            milliseconds(seconds)
        ),
        Reason::Largest => format!("{own}; larger batches were not measured"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::dtype::DataType;
    use crate::tensor::sample::Sample;
    use crate::tensor::signature::{Dim, Signature, TensorSpec};

    /// In so many batches every size is tried often enough.
    const MANY: usize = 400_000;

    const BOUNDS: Bounds = Bounds {
        most_rows: 64,
        longest: None,
        filling: Filling::AsMeasured,
    };

    fn class(width: usize) -> ShapeClass {
        let spec = TensorSpec {
            name: "x".into(),
            dtype: DataType::Fp32,
            dims: Some(vec![Dim::Dynamic(None), Dim::Fixed(width)]),
            columns: None,
        };
        let signature = Signature {
            inputs: vec![spec],
            outputs: Vec::new(),
        };
        let inputs = Sample::ZEROS
            .inputs(&signature)
            .expect("made-up inputs fit");
        ShapeClass::of(&inputs)
    }

    fn run(costs: &Costs, class: &ShapeClass, rows: usize, micros: f64) {
        let size = Size {
            rows,
            bytes: rows * 8,
        };
        costs.learn_curve(class, size, Duration::from_secs_f64(micros * 1e-6));
    }

    #[test]
    fn a_size_that_was_measured_badly_is_tried_again() {
        let costs = Costs::new(BOUNDS);
        let class = class(2);
        run(&costs, &class, 1, 100.0);
        run(&costs, &class, 2, 900.0);
        assert_eq!(costs.most_rows(&class), 1);
        // In truth more rows cost hardly more.
        for _ in 0..MANY {
            let rows = costs.next_rows(&class, 1);
            run(&costs, &class, rows, 100.0 + rows as f64);
        }
        assert_eq!(costs.most_rows(&class), 64, "{:?}", costs.curve(&class));
        let why = costs.decision(&class).why;
        assert_eq!(why, "no more than 64 rows are allowed");
    }

    #[test]
    fn a_model_that_changes_is_seen() {
        let costs = Costs::new(BOUNDS);
        let class = class(2);
        let serve = |of: fn(f64) -> f64| {
            for _ in 0..MANY {
                let rows = costs.next_rows(&class, 1);
                run(&costs, &class, rows, of(rows as f64));
            }
            costs.most_rows(&class)
        };
        assert_eq!(serve(|rows| 100.0 + rows), 64);
        assert_eq!(serve(|rows| 100.0 * rows.powf(1.2)), 1);
        assert_eq!(serve(|rows| 100.0 + rows), 64);
    }

    #[test]
    fn nothing_is_tried_that_would_take_too_long() {
        let costs = Costs::new(Bounds {
            longest: Some(Duration::from_micros(450)),
            ..BOUNDS
        });
        let class = class(2);
        (0..4).for_each(|size| run(&costs, &class, 1 << size, 100.0 * 1.5f64.powi(size)));
        assert_eq!(costs.most_rows(&class), 8);
        let longest = (0..MANY)
            .map(|_| costs.next_rows(&class, 1))
            .max()
            .unwrap_or(0);
        assert_eq!(longest, 8);
    }

    #[test]
    fn a_size_that_once_took_too_long_is_tried_again() {
        let costs = Costs::new(Bounds {
            longest: Some(Duration::from_micros(450)),
            ..BOUNDS
        });
        let class = class(2);
        run(&costs, &class, 1, 100.0);
        (0..3).for_each(|_| run(&costs, &class, 2, 9000.0));
        assert_eq!(costs.most_rows(&class), 1);
        for _ in 0..MANY {
            let rows = costs.next_rows(&class, 1);
            run(&costs, &class, rows, 100.0 + rows as f64);
        }
        assert_eq!(costs.most_rows(&class), 64, "{:?}", costs.curve(&class));
    }

    #[test]
    fn a_class_that_is_new_is_taken_for_what_the_others_are() {
        let costs = Costs::new(BOUNDS);
        let (known, new) = (class(2), class(3));
        (0..4).for_each(|size| run(&costs, &known, 1 << size, 100.0));
        run(&costs, &new, 1, 200.0);
        assert_eq!(costs.most_rows(&new), 8);
        let size = Size { rows: 8, bytes: 64 };
        // One that never ran comes alone, each of its rows by itself.
        assert_eq!(costs.most_rows(&class(4)), 1);
        let expected = costs.expected(&class(4), size);
        assert_eq!(expected, Duration::from_micros(800));
    }

    #[test]
    fn classes_are_bounded() {
        let costs = Costs::new(BOUNDS);
        let often = class(1);
        for width in 2..200 {
            run(&costs, &class(width), 1, 10.0);
            run(&costs, &often, 1, 10.0);
        }
        assert_eq!(costs.lock().classes.len(), MOST_CLASSES);
        assert_eq!(costs.curve(&often), [(1, 10e-6)]);
        assert_eq!(costs.curve(&class(2)), []);
        assert_eq!(costs.main_class(), Some(often));
    }
}

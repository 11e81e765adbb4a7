//! What a version has done since it was first served: cumulative counts and nanoseconds, as the statistics extension
//! of the Open Inference Protocol has them.
//!
//! The numbers outlive the engine, which may be swapped. Counting costs a few relaxed atomics; whoever reads while
//! requests end may see one of them in some numbers and not yet in others.

mod counts;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use self::counts::{Counts, InferBatchStatistics, InferStatistics, StatisticDuration};

/// So many different batch sizes are told apart; what comes later counts in the totals alone.
const MOST_BATCH_SIZES: usize = 32;

/// The counts of one version. All of them only grow.
#[derive(Debug)]
pub struct Statistics {
    /// A moment by both clocks, so that a request needs to read only one.
    began: (Instant, SystemTime),
    /// Since it began; 0 before the first inference.
    last_inference_ns: AtomicU64,
    rows: AtomicU64,
    success: Total,
    fail: Total,
    queue_ns: AtomicU64,
    compute_infer_ns: AtomicU64,
    batches: [Batch; MOST_BATCH_SIZES],
    /// The runs with other numbers of rows.
    others: Batch,
}

impl Default for Statistics {
    fn default() -> Self {
        Statistics {
            began: (Instant::now(), SystemTime::now()),
            last_inference_ns: AtomicU64::default(),
            rows: AtomicU64::default(),
            success: Total::default(),
            fail: Total::default(),
            queue_ns: AtomicU64::default(),
            compute_infer_ns: AtomicU64::default(),
            batches: Default::default(),
            others: Batch::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Total {
    count: AtomicU64,
    ns: AtomicU64,
}

#[derive(Debug, Default)]
struct Batch {
    /// The number of rows and one; 0 while the place is free.
    mark: AtomicU64,
    runs: AtomicU64,
    compute_input_ns: AtomicU64,
    compute_infer_ns: AtomicU64,
    compute_output_ns: AtomicU64,
}

impl Statistics {
    /// Begins to count a request, which has failed unless it is told otherwise.
    pub fn request(self: &Arc<Self>, started: Instant) -> Counted {
        Counted {
            statistics: self.clone(),
            started,
            answered: None,
        }
    }

    /// Counts one run of the engine.
    pub fn ran(&self, rows: usize, compute: Duration) {
        let batch = self.batch(rows);
        batch.runs.fetch_add(1, Relaxed);
        add(&batch.compute_infer_ns, compute);
    }

    /// The counts now.
    pub fn counts(&self) -> Counts {
        let success = self.success.read();
        let phase = |ns: u64| StatisticDuration {
            count: success.count,
            ns,
        };
        let sum = |of: fn(&Batch) -> &AtomicU64| -> u64 {
            let batches = self.batches.iter().chain([&self.others]);
            batches.map(|batch| of(batch).load(Relaxed)).sum()
        };
        let mut batches: Vec<_> = self.batches.iter().filter_map(Batch::read).collect();
        batches.sort_unstable_by_key(|batch| batch.batch_size);
        Counts {
            last_inference_ms: self.last_inference_ms(),
            inference_count: self.rows.load(Relaxed),
            execution_count: sum(|batch| &batch.runs),
            inference: InferStatistics {
                success,
                fail: self.fail.read(),
                queue: phase(self.queue_ns.load(Relaxed)),
                compute_input: phase(sum(|batch| &batch.compute_input_ns)),
                compute_infer: phase(self.compute_infer_ns.load(Relaxed)),
                compute_output: phase(sum(|batch| &batch.compute_output_ns)),
                // Answers are not cached.
                cache_hit: StatisticDuration::default(),
                cache_miss: StatisticDuration::default(),
            },
            batches,
        }
    }

    fn last_inference_ms(&self) -> u64 {
        let (_, began) = self.began;
        let since_1970 = began.duration_since(UNIX_EPOCH).unwrap_or_default();
        match self.last_inference_ns.load(Relaxed) {
            0 => 0,
            since => to_u64((since_1970 + Duration::from_nanos(since)).as_millis()),
        }
    }

    fn succeeded(&self, ran: &Ran, started: Instant) {
        let now = Instant::now();
        self.success.add(now - started);
        add(&self.queue_ns, ran.queue);
        add(&self.compute_infer_ns, ran.compute_infer);
        self.rows.fetch_add(ran.rows as u64, Relaxed);
        let (began, _) = self.began;
        let since = to_u64((now - began).as_nanos());
        self.last_inference_ns.store(since, Relaxed);
        let batch = self.batch(ran.batch_rows);
        add(&batch.compute_input_ns, ran.compute_input);
        add(&batch.compute_output_ns, now - ran.ended);
    }

    /// The place of this batch size; places are taken in the order in which sizes come, and kept.
    fn batch(&self, rows: usize) -> &Batch {
        let mark = rows as u64 + 1;
        let found = self.batches.iter().find(|batch| {
            let taken = batch.mark.load(Relaxed);
            let taken = match taken {
                // Whoever else takes it at the same time may want it for the same size.
                0 => match batch.mark.compare_exchange(0, mark, Relaxed, Relaxed) {
                    Ok(_) => mark,
                    Err(taken) => taken,
                },
                taken => taken,
            };
            taken == mark
        });
        found.unwrap_or(&self.others)
    }
}

impl Total {
    fn add(&self, time: Duration) {
        self.count.fetch_add(1, Relaxed);
        add(&self.ns, time);
    }

    fn read(&self) -> StatisticDuration {
        StatisticDuration {
            count: self.count.load(Relaxed),
            ns: self.ns.load(Relaxed),
        }
    }
}

impl Batch {
    fn read(&self) -> Option<InferBatchStatistics> {
        let count = self.runs.load(Relaxed);
        let phase = |ns: &AtomicU64| StatisticDuration {
            count,
            ns: ns.load(Relaxed),
        };
        (count > 0).then(|| InferBatchStatistics {
            batch_size: self.mark.load(Relaxed).saturating_sub(1),
            compute_input: phase(&self.compute_input_ns),
            compute_infer: phase(&self.compute_infer_ns),
            compute_output: phase(&self.compute_output_ns),
        })
    }
}

fn add(ns: &AtomicU64, time: Duration) {
    // What runs where its request is has not waited.
    if !time.is_zero() {
        ns.fetch_add(to_u64(time.as_nanos()), Relaxed);
    }
}

fn to_u64(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// One request on its way. It is counted when it is dropped: as failed, unless it was answered.
#[derive(Debug)]
pub struct Counted {
    statistics: Arc<Statistics>,
    started: Instant,
    answered: Option<Ran>,
}

/// What is known of a request that ran.
#[derive(Debug)]
pub struct Ran {
    pub rows: usize,
    /// The rows of the run that it shared with others.
    pub batch_rows: usize,
    pub queue: Duration,
    pub compute_input: Duration,
    pub compute_infer: Duration,
    /// When its outputs were there, from which on they are converted and encoded.
    pub ended: Instant,
}

impl Counted {
    /// Its body is there since `now`, and reading it took so long; waiting for a slow client is no work of the model's.
    pub fn decoded(&mut self, took: Duration, now: Instant) {
        self.started = now.checked_sub(took).unwrap_or(now);
    }

    /// Its outputs are written as an answer.
    pub fn answered(mut self, ran: Ran) {
        self.answered = Some(ran);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        match &self.answered {
            Some(ran) => self.statistics.succeeded(ran, self.started),
            None => self.statistics.fail.add(self.started.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(statistics: &Arc<Statistics>, rows: usize) {
        let mut counted = statistics.request(Instant::now());
        counted.decoded(Duration::from_nanos(5), Instant::now());
        statistics.ran(rows, Duration::from_nanos(100));
        counted.answered(Ran {
            rows,
            batch_rows: rows,
            queue: Duration::from_nanos(10),
            compute_input: Duration::from_nanos(20),
            compute_infer: Duration::from_nanos(100),
            ended: Instant::now(),
        });
    }

    #[test]
    fn a_request_counts_in_every_phase_or_as_failed() {
        let statistics = Arc::default();
        assert_eq!(Statistics::counts(&statistics), Counts::default());
        run(&statistics, 3);
        run(&statistics, 1);
        run(&statistics, 3);
        drop(statistics.request(Instant::now()));
        let counts = statistics.counts();
        let InferStatistics {
            success,
            fail,
            queue,
            compute_input,
            compute_infer,
            compute_output,
            ..
        } = counts.inference;
        assert_eq!((counts.inference_count, counts.execution_count), (7, 3));
        assert_eq!((success.count, fail.count), (3, 1));
        assert_eq!(queue, StatisticDuration { count: 3, ns: 30 });
        assert_eq!(compute_input, StatisticDuration { count: 3, ns: 60 });
        assert_eq!(compute_infer, StatisticDuration { count: 3, ns: 300 });
        assert_eq!(compute_output.count, 3);
        assert!(counts.last_inference_ms > 0);
        let sizes = counts.batches.iter();
        let sizes: Vec<_> = sizes
            .map(|batch| (batch.batch_size, batch.compute_infer))
            .collect();
        let once = StatisticDuration { count: 1, ns: 100 };
        let twice = StatisticDuration { count: 2, ns: 200 };
        assert_eq!(sizes, [(1, once), (3, twice)]);
    }

    #[test]
    fn batch_sizes_beyond_the_bound_count_in_the_totals_alone() {
        let statistics = Arc::default();
        for rows in 0..MOST_BATCH_SIZES + 5 {
            run(&statistics, rows);
        }
        let counts = Statistics::counts(&statistics);
        let sizes: Vec<_> = counts
            .batches
            .iter()
            .map(|batch| batch.batch_size)
            .collect();
        let first: Vec<_> = (0..MOST_BATCH_SIZES as u64).collect();
        assert_eq!(sizes, first);
        assert_eq!(counts.execution_count, MOST_BATCH_SIZES as u64 + 5);
    }
}

//! The queue in front of a model: a state machine without clock or I/O.
//!
//! It is bounded in rows. What has expired or was abandoned never costs compute and makes place for others.

use std::collections::VecDeque;
use std::time::Instant;

/// What the queue must know of a job.
pub trait Queued {
    /// The rows that the job takes up, at least one.
    fn rows(&self) -> usize;
    /// When its answer is no longer of use.
    fn deadline(&self) -> Instant;
    /// Whether nobody waits for its answer any more.
    fn is_abandoned(&self) -> bool;
}

/// Why a job was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It has more rows than the queue can ever hold.
    TooLarge,
    /// There is no place now.
    Full,
}

/// A bounded queue of jobs, first in, first out.
#[derive(Debug)]
pub struct Batcher<J> {
    jobs: VecDeque<J>,
    rows: usize,
    capacity_rows: usize,
}

impl<J: Queued> Batcher<J> {
    /// An empty queue for at most `capacity_rows` rows.
    pub fn new(capacity_rows: usize) -> Self {
        Self {
            jobs: VecDeque::new(),
            rows: 0,
            capacity_rows,
        }
    }

    /// The rows that are waiting.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Queues a job, or refuses it at once.
    pub fn push(&mut self, job: J, now: Instant) -> Result<(), Refused> {
        let rows = job.rows();
        if rows > self.capacity_rows {
            return Err(Refused::TooLarge);
        }
        if self.rows + rows > self.capacity_rows {
            self.drop_useless(now);
        }
        if self.rows + rows > self.capacity_rows {
            return Err(Refused::Full);
        }
        self.rows += rows;
        self.jobs.push_back(job);
        Ok(())
    }

    /// Takes the next job that is still of use; what is not is dropped on the way.
    pub fn take_ripe(&mut self, now: Instant) -> Option<J> {
        while let Some(job) = self.jobs.pop_front() {
            self.rows -= job.rows();
            if is_useful(&job, now) {
                return Some(job);
            }
        }
        None
    }

    /// Takes everything, useful or not.
    pub fn drain(&mut self) -> impl Iterator<Item = J> {
        self.rows = 0;
        std::mem::take(&mut self.jobs).into_iter()
    }

    fn drop_useless(&mut self, now: Instant) {
        self.jobs.retain(|job| is_useful(job, now));
        self.rows = self.jobs.iter().map(Queued::rows).sum();
    }
}

/// Whether somebody still waits for the job's answer.
pub fn is_useful(job: &impl Queued, now: Instant) -> bool {
    !job.is_abandoned() && job.deadline() > now
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Job {
        id: usize,
        rows: usize,
        deadline: Instant,
        abandoned: bool,
    }

    impl Queued for Job {
        fn rows(&self) -> usize {
            self.rows
        }

        fn deadline(&self) -> Instant {
            self.deadline
        }

        fn is_abandoned(&self) -> bool {
            self.abandoned
        }
    }

    proptest! {
        /// Whatever comes and goes: the bound holds, order is kept, and every useful job that was queued comes out
        /// exactly once.
        #[test]
        fn nothing_useful_is_lost_or_reordered(steps in prop::collection::vec((0usize..6, 0u64..40, any::<bool>(), any::<bool>()), 1..80)) {
            let start = Instant::now();
            let mut batcher = Batcher::new(8);
            let mut expected = VecDeque::new();
            for (at, (rows, lifetime, abandoned, take)) in steps.into_iter().enumerate() {
                let now = start + Duration::from_millis(at as u64);
                if take {
                    expected.retain(|job| is_useful(job, now));
                    prop_assert_eq!(batcher.take_ripe(now), expected.pop_front());
                } else {
                    let job = Job { id: at, rows: rows + 1, deadline: now + Duration::from_millis(lifetime), abandoned };
                    if batcher.push(job.clone(), now).is_ok() {
                        expected.push_back(job);
                    } else {
                        expected.retain(|job| is_useful(job, now));
                        let waiting: usize = expected.iter().map(Queued::rows).sum();
                        prop_assert!(waiting + job.rows > 8, "a job that fits was refused");
                    }
                }
                prop_assert!(batcher.rows() <= 8);
            }
        }
    }

    #[test]
    fn a_job_that_never_fits_is_told_apart_from_one_that_does_not_fit_now() {
        let now = Instant::now();
        let job = |rows| Job {
            id: 0,
            rows,
            deadline: now + Duration::from_secs(1),
            abandoned: false,
        };
        let mut batcher = Batcher::new(2);
        assert_eq!(batcher.push(job(3), now), Err(Refused::TooLarge));
        assert_eq!(batcher.push(job(2), now), Ok(()));
        assert_eq!(batcher.push(job(1), now), Err(Refused::Full));
    }
}

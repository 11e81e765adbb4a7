//! Model-checks the queue between threads: the sources of `serving/queue.rs` and `serving/batcher.rs` as they are, on the
//! locks of `shuttle`, over thousands of schedules. A wake-up that is lost shows as a deadlock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serving::batcher::{Queued, Rules, Size, Ticket};
use serving::queue::{NotQueued, Queue};
use shuttle::sync::Barrier;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::sync::mpsc::{self, Sender};
use shuttle::thread;

#[path = "../src/serving"]
#[expect(dead_code, reason = "not everything is used here that is in the crate")]
mod serving {
    pub mod batcher;
    pub mod queue;

    /// In the place of `serving/sync.rs`.
    mod sync {
        pub use std::sync::PoisonError;

        pub use shuttle::sync::{Condvar, Mutex, MutexGuard};
    }
}

const SCHEDULES: usize = 3000;
const WORKERS: usize = 2;

struct Job {
    id: usize,
    deadline: Instant,
}

impl Queued for Job {
    type Class = ();

    fn size(&self) -> Size {
        Size { rows: 1, bytes: 1 }
    }

    fn class(&self) -> Option<&()> {
        Some(&())
    }

    fn level(&self) -> usize {
        0
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn is_abandoned(&self) -> bool {
        false
    }
}

fn job(id: usize) -> Job {
    Job {
        id,
        deadline: Instant::now() + Duration::from_secs(600),
    }
}

fn queue() -> Arc<Queue<Job>> {
    let most = Size {
        rows: 100,
        bytes: 100,
    };
    let rules = Rules {
        most,
        ..Rules::default()
    };
    Arc::new(Queue::new(rules, Box::new(|_, _| {})))
}

fn push(queue: &Queue<Job>, ids: &[usize]) -> Result<Vec<Ticket>, NotQueued> {
    let jobs = ids.iter().map(|id| job(*id)).collect();
    queue.push_all(jobs, Instant::now())
}

/// Workers that hand each job to `run`, in batches of at most so many, until the queue is closed.
fn workers(
    queue: &Arc<Queue<Job>>,
    most_rows: usize,
    run: impl Fn(usize) + Send + Sync + 'static,
) -> Vec<thread::JoinHandle<()>> {
    let run = Arc::new(run);
    let worker = |_| {
        let (queue, run) = (queue.clone(), run.clone());
        thread::spawn(move || {
            while queue.wait(Instant::now, |()| most_rows) {
                let batch = queue.take(Instant::now(), WORKERS, |(), _| most_rows);
                assert!(batch.len() <= most_rows);
                batch.iter().for_each(|job| run(job.id));
            }
        })
    };
    (0..WORKERS).map(worker).collect()
}

fn answering(answers: Sender<usize>) -> impl Fn(usize) + Send + Sync {
    let answers = shuttle::sync::Mutex::new(answers);
    move |id| {
        let answers = answers.lock().expect("no worker panics");
        answers.send(id).expect("somebody counts the answers");
    }
}

fn end(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("no thread panics");
    }
}

fn check(schedule: impl Fn() + Send + Sync + 'static + Copy) {
    shuttle::check_random(schedule, SCHEDULES);
    shuttle::check_pct(schedule, SCHEDULES, 3);
}

#[test]
fn every_job_is_answered_once_while_workers_wait() {
    check(|| {
        let (queue, (answers, answered)) = (queue(), mpsc::channel());
        let workers = workers(&queue, 2, answering(answers));
        let pushing = [[0, 1], [2, 3]].map(|ids| {
            let queue = queue.clone();
            thread::spawn(move || {
                for id in ids {
                    push(&queue, &[id]).expect("there is place");
                }
            })
        });
        // Whoever is not woken leaves this waiting for ever.
        let mut ids: Vec<_> = (0..4).map(|_| answered.recv().expect("it comes")).collect();
        ids.sort_unstable();
        assert_eq!(ids, [0, 1, 2, 3]);
        end(pushing.into());
        assert!(queue.close().is_empty());
        end(workers);
        assert!(answered.recv().is_err(), "nobody is answered twice");
    });
}

#[test]
fn what_is_pushed_together_is_shared_by_those_that_are_idle() {
    check(|| {
        let queue = queue();
        let both = Arc::new(Barrier::new(WORKERS + 1));
        let meet = both.clone();
        let workers = workers(&queue, 1, move |_| _ = meet.wait());
        push(&queue, &[0, 1]).expect("there is place");
        // One worker alone would wait here for ever.
        both.wait();
        assert!(queue.close().is_empty());
        end(workers);
    });
}

#[test]
fn a_job_is_withdrawn_or_answered_and_never_both() {
    check(|| {
        let (queue, answered) = (queue(), Arc::new(AtomicUsize::new(0)));
        let counted = answered.clone();
        let workers = workers(&queue, 2, move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let withdrawing = [0, 1].map(|id| {
            let queue = queue.clone();
            thread::spawn(move || {
                let tickets = push(&queue, &[id, id]).expect("there is place");
                let withdrawn = tickets.iter().filter_map(|ticket| queue.withdraw(*ticket));
                withdrawn.map(|job| assert_eq!(job.id, id)).count()
            })
        });
        let withdrawn = withdrawing.map(|thread| thread.join().expect("no thread panics"));
        let left = queue.close().len();
        end(workers);
        let answered = answered.load(Ordering::SeqCst);
        assert_eq!(withdrawn.iter().sum::<usize>() + left + answered, 4);
    });
}

#[test]
fn closing_leaves_nobody_waiting_and_nothing_behind() {
    check(|| {
        let (queue, answered) = (queue(), Arc::new(AtomicUsize::new(0)));
        let counted = answered.clone();
        let workers = workers(&queue, 2, move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let pushing = {
            let queue = queue.clone();
            thread::spawn(move || {
                let pushed = (0..3).map(|id| push(&queue, &[id]));
                let closed = Err(NotQueued::Closed);
                pushed.filter(|pushed| *pushed != closed).count()
            })
        };
        let left = queue.close().len();
        let accepted = pushing.join().expect("no thread panics");
        end(workers);
        assert_eq!(accepted, left + answered.load(Ordering::SeqCst));
    });
}

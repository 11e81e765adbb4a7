//! Random schedules against what must always hold, and the rules by example.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

const MOST: Size = Size {
    rows: 12,
    bytes: 90,
};
const LEVELS: usize = 3;

#[derive(Debug, Clone)]
struct Job {
    id: usize,
    size: Size,
    class: Option<u8>,
    level: usize,
    deadline: Instant,
    abandoned: Rc<Cell<bool>>,
}

impl Queued for Job {
    type Class = u8;

    fn size(&self) -> Size {
        self.size
    }

    fn class(&self) -> Option<&u8> {
        self.class.as_ref()
    }

    fn level(&self) -> usize {
        self.level
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.get()
    }
}

/// What happens at a moment.
#[derive(Debug, Clone)]
enum Step {
    Push(Vec<(usize, usize)>, Option<u8>, usize, u64),
    Take(usize),
    Withdraw(usize),
    Abandon(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = (1usize..6, 0usize..30);
    let sizes = prop::collection::vec(size, 1..3);
    let class = prop::option::weighted(0.9, 0u8..3);
    let step = prop_oneof![
        4 => (sizes, class, 0..LEVELS, 1u64..60).prop_map(|(sizes, class, level, lifetime)| Step::Push(sizes, class, level, lifetime)),
        2 => (1usize..4).prop_map(Step::Take),
        1 => any::<usize>().prop_map(Step::Withdraw),
        1 => any::<usize>().prop_map(Step::Abandon),
    ];
    prop::collection::vec(step, 1..120)
}

/// The most rows of a class's batches. In batches of the last class less than full ones do not pay, but for pairs.
fn plan(class: &u8, there: Option<usize>) -> usize {
    let most = [1, 4, 7][usize::from(*class)];
    match there {
        Some(there) if *class == 2 => there.min(2),
        Some(there) => there.min(most),
        None => most,
    }
}

/// What a queue that keeps every rule would hold.
#[derive(Default)]
struct Expected {
    waiting: Vec<(Job, Ticket)>,
    accepted: usize,
    /// How each that was accepted ended, and when.
    ended: HashMap<usize, &'static str>,
}

impl Expected {
    /// What is of no use any more may be dropped at any time.
    fn drop_useless(&mut self, now: Instant) {
        let (useful, useless) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(job, _)| is_useful(job, now));
        self.waiting = useful;
        let useless: Vec<(Job, Ticket)> = useless;
        useless
            .iter()
            .for_each(|(job, _)| self.end(job.id, "dropped"));
    }

    fn end(&mut self, id: usize, how: &'static str) {
        let before = self.ended.insert(id, how);
        assert_eq!(before, None, "{id} has ended twice");
    }

    fn size(&self) -> Size {
        self.waiting.iter().map(|(job, _)| job.size).sum()
    }

    fn take(&mut self, batch: &[Job], idle: usize, now: Instant) {
        assert_eq!(
            batch.is_empty(),
            self.waiting.is_empty(),
            "an idle worker takes at once what is there"
        );
        let Some(head) = batch.first() else { return };
        let rows: usize = batch.iter().map(|job| job.size.rows).sum();
        match head.class {
            None => assert_eq!(batch.len(), 1, "it shares its run with nobody"),
            Some(class) => {
                assert!(batch.iter().all(|job| job.class == head.class), "{batch:?}");
                assert!(batch.len() == 1 || rows <= plan(&class, None), "{batch:?}");
                let mates = self
                    .waiting
                    .iter()
                    .filter(|(job, _)| job.class == head.class);
                let waiting: usize = mates.map(|(job, _)| job.size.rows).sum();
                let share = waiting.div_ceil(idle);
                let pays = plan(
                    &class,
                    Some(share).filter(|share| *share < plan(&class, None)),
                );
                let most = share.min(pays).max(head.size.rows);
                assert!(rows <= most, "others are idle too: {batch:?} of {waiting}");
            }
        }
        for job in batch {
            assert!(is_useful(job, now), "{job:?} costs compute");
            let alike = |other: &Job| (other.level, other.class) == (job.level, job.class);
            let first = self
                .waiting
                .iter()
                .position(|(other, _)| alike(other))
                .expect("it was waiting");
            assert_eq!(
                self.waiting[first].0.id, job.id,
                "in order within a level and class"
            );
            self.waiting.remove(first);
            self.end(job.id, "taken");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes and goes: nothing is lost, nothing comes out twice, late or out of order, and the bounds hold.
    #[test]
    fn every_job_ends_once_and_as_the_rules_say(steps in steps()) {
        let start = Instant::now();
        let levels = vec![LevelRules::default(); LEVELS];
        let mut batcher = Batcher::new(Rules { most: MOST, levels, ..Rules::default() });
        let mut expected = Expected::default();
        let mut now = start;
        for (at, step) in steps.into_iter().enumerate() {
            now = start + Duration::from_millis(at as u64);
            match step {
                Step::Push(sizes, class, level, lifetime) => {
                    let job = |(part, (rows, bytes)): (usize, (usize, usize))| Job {
                        id: expected.accepted + part,
                        size: Size { rows, bytes },
                        class,
                        level,
                        deadline: now + Duration::from_millis(lifetime),
                        abandoned: Rc::default(),
                    };
                    let jobs: Vec<_> = sizes.into_iter().enumerate().map(job).collect();
                    let more: Size = jobs.iter().map(|job| job.size).sum();
                    // Whoever asks first learns what would come of it.
                    let has_place = (at % 2 == 0).then(|| batcher.makes_place(more, None, now));
                    let pushed = batcher.push_all(jobs.clone(), now);
                    prop_assert!(has_place.is_none_or(|has_place| has_place == pushed.is_ok()));
                    match pushed {
                        Ok(tickets) => {
                            expected.accepted += jobs.len();
                            expected.waiting.extend(jobs.into_iter().zip(tickets));
                        }
                        Err(refused) => {
                            expected.drop_useless(now);
                            let never = !fits(more, MOST);
                            prop_assert_eq!(refused == Refused::TooLarge, never);
                            let both = expected.size() + more;
                            prop_assert!(never || !fits(both, MOST), "jobs that fit were refused");
                        }
                    }
                }
                Step::Take(idle) => {
                    expected.drop_useless(now);
                    let batch = batcher.take_ripe(now, idle, plan);
                    expected.take(&batch, idle, now);
                }
                Step::Withdraw(which) if !expected.waiting.is_empty() => {
                    let (job, ticket) = expected.waiting.remove(which % expected.waiting.len());
                    let withdrawn = batcher.withdraw(ticket);
                    // What expired before may have been dropped.
                    prop_assert_eq!(withdrawn.map_or(job.id, |job| job.id), job.id);
                    expected.end(job.id, "withdrawn");
                }
                Step::Abandon(which) if !expected.waiting.is_empty() => {
                    let at = which % expected.waiting.len();
                    expected.waiting[at].0.abandoned.set(true);
                }
                Step::Withdraw(_) | Step::Abandon(_) => {}
            }
            prop_assert!(fits(batcher.waiting(), MOST));
            prop_assert!(fits(useful(&expected, now), batcher.waiting()));
        }
        expected.drop_useless(now);
        while !expected.waiting.is_empty() {
            let batch = batcher.take_ripe(now, 1, plan);
            expected.take(&batch, 1, now);
        }
        prop_assert_eq!(expected.ended.len(), expected.accepted);
        prop_assert!(batcher.take_ripe(now, 1, plan).is_empty());
        prop_assert_eq!(batcher.waiting(), Size::default());
    }

    /// However many come above it, a job below gets out.
    #[test]
    fn lower_levels_do_not_starve(above in 0usize..2, below in 1usize..3, ahead in 0usize..4) {
        let now = Instant::now();
        let (high, low) = (above.min(below - 1), below);
        let most = Size { rows: 1000, bytes: 1000 };
        let levels = vec![LevelRules::default(); LEVELS];
        let mut batcher = Batcher::new(Rules { most, levels, ..Rules::default() });
        for _ in 0..ahead {
            push(&mut batcher, now, low, 1);
        }
        let mut taken_above = 0;
        for _ in 0..TURNS as usize * (ahead + 1) {
            push(&mut batcher, now, high, 0);
            let batch = batcher.take_ripe(now, 1, |_, _| 1);
            taken_above += usize::from(batch[0].level == high);
        }
        prop_assert_eq!(taken_above, TURNS as usize * (ahead + 1) - ahead, "all below got their turn, and no more");
    }
}

fn useful(expected: &Expected, now: Instant) -> Size {
    let useful = expected
        .waiting
        .iter()
        .filter(|(job, _)| is_useful(job, now));
    useful.map(|(job, _)| job.size).sum()
}

fn push(batcher: &mut Batcher<Job>, now: Instant, level: usize, class: u8) {
    let job = Job {
        id: 0,
        size: Size { rows: 1, bytes: 1 },
        class: Some(class),
        level,
        deadline: now + Duration::from_secs(60),
        abandoned: Rc::default(),
    };
    batcher.push(job, now).expect("there is place");
}

const MILLI: Duration = Duration::from_millis(1);

fn with(rules: Rules) -> (Batcher<Job>, Instant) {
    let most = Size {
        rows: 100,
        bytes: 1000,
    };
    (Batcher::new(Rules { most, ..rules }), Instant::now())
}

#[test]
fn a_delayed_batch_waits_until_it_is_full_or_late() {
    let (mut batcher, now) = with(Rules {
        delay: MILLI * 5,
        ..Rules::default()
    });
    push(&mut batcher, now, 0, 0);
    assert!(batcher.take_ripe(now + MILLI, 1, |_, _| 2).is_empty());
    assert_eq!(batcher.next_deadline(), Some(now + MILLI * 5));
    push(&mut batcher, now + MILLI, 0, 1);
    assert!(batcher.take_ripe(now + MILLI, 1, |_, _| 2).is_empty());
    push(&mut batcher, now + MILLI * 2, 0, 1);
    let full = batcher.take_ripe(now + MILLI * 2, 1, |_, _| 2);
    assert_eq!(full.len(), 2, "the later class is full first");
    let late = batcher.take_ripe(now + MILLI * 5, 1, |_, _| 2);
    assert_eq!(late.len(), 1);
    assert_eq!(batcher.next_deadline(), None);
}

#[test]
fn a_preferred_size_is_taken_as_soon_as_it_is_there() {
    let (mut batcher, now) = with(Rules {
        delay: MILLI * 5,
        preferred: vec![2, 4],
        ..Rules::default()
    });
    let take = |batcher: &mut Batcher<Job>| batcher.take_ripe(now, 1, |_, _| 8).len();
    push(&mut batcher, now, 0, 0);
    assert_eq!(take(&mut batcher), 0);
    (0..2).for_each(|_| push(&mut batcher, now, 0, 0));
    assert_eq!(take(&mut batcher), 2, "the largest that is filled");
    (0..4).for_each(|_| push(&mut batcher, now, 0, 0));
    assert_eq!(take(&mut batcher), 4);
    assert_eq!(take(&mut batcher), 0, "one is left, which waits");
}

#[test]
fn a_level_holds_no_more_rows_than_its_own() {
    let own = LevelRules {
        most_rows: Some(1),
        ..LevelRules::default()
    };
    let (mut batcher, now) = with(Rules {
        levels: vec![LevelRules::default(), own],
        ..Rules::default()
    });
    push(&mut batcher, now, 1, 0);
    let job = |level, rows| Job {
        id: 1,
        size: Size { rows, bytes: 0 },
        class: None,
        level,
        deadline: now + MILLI,
        abandoned: Rc::default(),
    };
    assert_eq!(batcher.push(job(1, 1), now), Err(Refused::Full));
    assert_eq!(batcher.push(job(1, 2), now), Err(Refused::TooLarge));
    assert!(batcher.push(job(0, 2), now).is_ok());
}

#[test]
fn who_has_waited_beyond_the_patience_lets_others_go_first() {
    let rules = LevelRules {
        yields_after: Some(MILLI * 2),
        ..LevelRules::default()
    };
    let (mut batcher, now) = with(Rules {
        levels: vec![rules],
        ..Rules::default()
    });
    push(&mut batcher, now, 0, 0);
    push(&mut batcher, now + MILLI, 0, 1);
    let class = |batch: Vec<Job>| batch[0].class;
    let later = now + MILLI * 2;
    assert_eq!(class(batcher.take_ripe(later, 1, |_, _| 1)), Some(1));
    assert_eq!(class(batcher.take_ripe(later, 1, |_, _| 1)), Some(0));
}

#[test]
fn what_has_expired_or_was_abandoned_makes_place_and_is_counted() {
    let now = Instant::now();
    let most = Size { rows: 2, bytes: 10 };
    let mut batcher = Batcher::new(Rules {
        most,
        ..Rules::default()
    });
    let job = |milliseconds, abandoned| Job {
        id: 0,
        size: Size { rows: 1, bytes: 1 },
        class: Some(0),
        level: 0,
        deadline: now + MILLI * milliseconds,
        abandoned: Rc::new(Cell::new(abandoned)),
    };
    assert!(batcher.push(job(1, false), now).is_ok());
    assert!(batcher.push(job(9, true), now).is_ok());
    for _ in 0..2 {
        assert!(batcher.push(job(9, false), now + MILLI).is_ok());
    }
    let (expired, abandoned) = (1, 1);
    assert_eq!(batcher.take_dropped(), Dropped { expired, abandoned });
    let full = batcher.push(job(9, false), now + MILLI);
    assert_eq!(full, Err(Refused::Full));
}

//! The queue in front of a model: a state machine without clock or I/O, which forms the batches.
//!
//! It is bounded in rows and in bytes. Whoever asks for a batch gets what is there: jobs of one class, in order, as many
//! rows as the plan allows; no job waits while somebody is idle, unless its owner wants it to ([`Rules::delay`]). What
//! has expired or was abandoned never costs compute and makes place for others.
//!
//! Levels of priority come in order, and cannot starve: of every [`TURNS`] batches that could be taken from a higher
//! level while a lower one waits, one goes to what has waited longest below.

mod forming;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::iter::Sum;
use std::ops::Add;
use std::time::{Duration, Instant};

/// Of so many batches one begins with a lower level, where one waits.
pub const TURNS: u32 = 8;

/// What the queue must know of a job.
pub trait Queued {
    /// What jobs that may share a batch have in common.
    type Class: PartialEq;

    /// The rows that the job takes up, at least one, and the bytes of its inputs.
    fn size(&self) -> Size;
    /// Its class; nothing for a job that shares its run with nobody.
    fn class(&self) -> Option<&Self::Class>;
    /// Which level of priority it has; 0 is the first.
    fn level(&self) -> usize;
    /// When its answer is no longer of use.
    fn deadline(&self) -> Instant;
    /// Whether nobody waits for its answer any more.
    fn is_abandoned(&self) -> bool;
}

/// What the owner of a model may set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    pub most: Size,
    /// One for each level of priority, the first first; without any there is one level.
    pub levels: Vec<LevelRules>,
    /// How long a job may wait for others to fill its batch.
    pub delay: Duration,
    /// Sizes that a batch is best taken at, ascending.
    pub preferred: Vec<usize>,
}

/// How much may wait, asks to be run, or ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    pub rows: usize,
    pub bytes: usize,
}

impl Add for Size {
    type Output = Size;

    fn add(self, more: Size) -> Size {
        Size {
            rows: self.rows + more.rows,
            bytes: self.bytes + more.bytes,
        }
    }
}

impl Sum for Size {
    fn sum<I: Iterator<Item = Size>>(sizes: I) -> Size {
        sizes.fold(Size::default(), Add::add)
    }
}

/// What goes for one level of priority.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LevelRules {
    /// How many of its rows may wait.
    pub most_rows: Option<usize>,
    /// After so long in the queue, others go first.
    pub yields_after: Option<Duration>,
}

/// Why a job was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It has more rows or bytes than the queue can ever hold.
    TooLarge,
    /// There is no place now.
    Full,
}

/// By which a job that waits is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// How many jobs left the queue because nobody needs their answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    pub expired: u64,
    pub abandoned: u64,
}

/// A bounded queue of jobs that comes out in batches.
#[derive(Debug)]
pub struct Batcher<J> {
    rules: Rules,
    levels: Vec<VecDeque<Waiting<J>>>,
    waiting: Size,
    last: Ticket,
    /// How often a higher level went first since a lower one did.
    turns: u32,
    dropped: Dropped,
}

#[derive(Debug)]
struct Waiting<J> {
    job: J,
    ticket: Ticket,
    since: Instant,
    /// The level's patience is over: others go first.
    yields: bool,
}

impl<J: Queued> Batcher<J> {
    /// An empty queue.
    pub fn new(rules: Rules) -> Self {
        let levels = rules.levels.len().max(1);
        Self {
            rules,
            levels: (0..levels).map(|_| VecDeque::new()).collect(),
            waiting: Size::default(),
            last: Ticket(0),
            turns: 0,
            dropped: Dropped::default(),
        }
    }

    /// What is waiting.
    pub fn waiting(&self) -> Size {
        self.waiting
    }

    /// What nobody needed any more since this was last asked.
    pub fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }

    /// Queues a job, or refuses it at once.
    pub fn push(&mut self, job: J, now: Instant) -> Result<Ticket, Refused> {
        let tickets = self.push_all(vec![job], now)?;
        // One job, one ticket.
        tickets.last().copied().ok_or(Refused::Full)
    }

    /// Queues jobs of one level, all or none.
    pub fn push_all(&mut self, jobs: Vec<J>, now: Instant) -> Result<Vec<Ticket>, Refused> {
        let more: Size = jobs.iter().map(Queued::size).sum();
        let level = jobs.first().map_or(0, |job| self.level_of(job));
        if !fits(more, self.rules.most) || more.rows > self.most_rows(level) {
            return Err(Refused::TooLarge);
        }
        if !self.makes_place(more, Some(level), now) {
            return Err(Refused::Full);
        }
        let mut tickets = Vec::with_capacity(jobs.len());
        for job in jobs {
            self.waiting = self.waiting + job.size();
            self.last.0 += 1;
            tickets.push(self.last);
            self.levels[level].push_back(Waiting {
                job,
                ticket: self.last,
                since: now,
                yields: false,
            });
        }
        Ok(tickets)
    }

    /// Whether there is a place for this much of a level, or at all; what is useless gives way to it.
    pub fn makes_place(&mut self, more: Size, level: Option<usize>, now: Instant) -> bool {
        if self.has_place(more, level) {
            return true;
        }
        self.drop_useless(now);
        self.has_place(more, level)
    }

    /// Takes a job out before it has run.
    pub fn withdraw(&mut self, ticket: Ticket) -> Option<J> {
        for level in 0..self.levels.len() {
            let queue = &self.levels[level];
            // What yields stands behind what came after it.
            let at = queue.iter().position(|waiting| waiting.ticket == ticket);
            if let Some(at) = at {
                return self.remove(level, at);
            }
        }
        None
    }

    /// Takes the next batch, if one is ripe, for one of so many workers that are idle: what is there is shared out over
    /// them. `plan` says how many rows a batch of a class should have at most, and how many where there are only so many
    /// for it; a job that has more comes alone.
    pub fn take_ripe(
        &mut self,
        now: Instant,
        idle: usize,
        mut plan: impl FnMut(&J::Class, Option<usize>) -> usize,
    ) -> Vec<J> {
        self.drop_useless_heads(now);
        self.let_yield(now);
        let Some((level, at)) = self.ripe(now, &mut |class| plan(class, None)) else {
            return Vec::new();
        };
        let Some(head) = self.remove(level, at) else {
            return Vec::new();
        };
        let Some(class) = head.class() else {
            return vec![head];
        };
        let most = plan(class, None).max(1);
        let waiting = head.size().rows + self.rows_of(class, most.saturating_mul(idle.max(1)), now);
        let share = match waiting.div_ceil(idle.max(1)) {
            few if few < most => plan(class, Some(few)).min(few),
            _ => most,
        };
        let rows = self.preferred(share, waiting.min(most));
        let mut batch = vec![head];
        self.fill(&mut batch, rows, level, now);
        batch
    }

    /// Whether a batch can be taken now.
    pub fn is_ripe(&self, now: Instant, mut most_rows: impl FnMut(&J::Class) -> usize) -> bool {
        let mut levels = 0..self.levels.len();
        levels.any(|level| self.ripe_in(level, now, &mut most_rows).is_some())
    }

    /// When a batch becomes ripe that is not yet, or a job expires; nothing while nothing waits.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.levels.iter().flatten();
        waiting
            .map(|waiting| {
                let ripe = waiting.since + self.rules.delay;
                ripe.min(waiting.job.deadline())
            })
            .min()
    }

    /// Takes everything, useful or not.
    pub fn drain(&mut self) -> Vec<J> {
        self.waiting = Size::default();
        let levels = self.levels.iter_mut().flat_map(std::mem::take);
        levels.map(|waiting| waiting.job).collect()
    }

    fn level_of(&self, job: &J) -> usize {
        job.level().min(self.levels.len() - 1)
    }

    fn most_rows(&self, level: usize) -> usize {
        let rules = self.rules.levels.get(level);
        rules
            .and_then(|rules| rules.most_rows)
            .unwrap_or(usize::MAX)
    }

    fn has_place(&self, more: Size, level: Option<usize>) -> bool {
        let all = self.waiting + more;
        fits(all, self.rules.most) && level.is_none_or(|level| self.level_holds(more.rows, level))
    }

    /// Whether so many rows more are within what is a level's own.
    fn level_holds(&self, more: usize, level: usize) -> bool {
        let most = self.most_rows(level);
        let own = || -> usize {
            let jobs = self.levels[level].iter();
            jobs.map(|waiting| waiting.job.size().rows).sum()
        };
        most == usize::MAX || own() + more <= most
    }

    fn remove(&mut self, level: usize, at: usize) -> Option<J> {
        let Waiting { job, .. } = self.levels[level].remove(at)?;
        let Size { rows, bytes } = job.size();
        self.waiting.rows -= rows;
        self.waiting.bytes -= bytes;
        Some(job)
    }

    /// Puts those behind the others that have waited for longer than their level lets them go first.
    fn let_yield(&mut self, now: Instant) {
        for (level, queue) in self.levels.iter_mut().enumerate() {
            let rules = self.rules.levels.get(level);
            let Some(patience) = rules.and_then(|rules| rules.yields_after) else {
                continue;
            };
            let is_over = |waiting: &Waiting<J>| {
                !waiting.yields && now.saturating_duration_since(waiting.since) >= patience
            };
            // In order of their coming, but for those that have yielded.
            while queue.front().is_some_and(is_over) {
                if let Some(mut waiting) = queue.pop_front() {
                    waiting.yields = true;
                    queue.push_back(waiting);
                }
            }
        }
    }

    /// Drops what is of no use at the head of each level, where it is looked at anyway.
    fn drop_useless_heads(&mut self, now: Instant) {
        for level in 0..self.levels.len() {
            while let Some(head) = self.levels[level].front()
                && !is_useful(&head.job, now)
            {
                self.drop_at(level, 0, now);
            }
        }
    }

    /// Drops what is of no use any more.
    pub fn drop_useless(&mut self, now: Instant) {
        for level in 0..self.levels.len() {
            let mut at = 0;
            while at < self.levels[level].len() {
                match is_useful(&self.levels[level][at].job, now) {
                    true => at += 1,
                    false => self.drop_at(level, at, now),
                }
            }
        }
    }

    fn drop_at(&mut self, level: usize, at: usize, now: Instant) {
        if let Some(job) = self.remove(level, at) {
            match job.deadline() <= now {
                true => self.dropped.expired += 1,
                false => self.dropped.abandoned += 1,
            }
        }
    }
}

fn fits(size: Size, most: Size) -> bool {
    size.rows <= most.rows && size.bytes <= most.bytes
}

/// Whether somebody still waits for the job's answer.
pub fn is_useful(job: &impl Queued, now: Instant) -> bool {
    !job.is_abandoned() && job.deadline() > now
}

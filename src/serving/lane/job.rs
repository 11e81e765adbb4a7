//! A request, or a piece of one, on its way to a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracing::Span;

use super::Completed;
use super::stretch::Stretch;
use crate::error::Result;
use crate::in_flight::Room;
use crate::serving::batcher::{Queued, Size};
use crate::tensor::batch::ShapeClass;
use crate::tensor::signature::CheckedInputs;

/// What a worker runs.
pub struct Job {
    pub inputs: CheckedInputs,
    pub class: ShapeClass,
    /// Whether it may share its run.
    pub joins: bool,
    pub level: usize,
    pub deadline: Instant,
    pub queued_at: Instant,
    pub span: Span,
    pub reply: Reply,
    pub room: Room,
    /// What it counts for in the backlog, until it is dropped.
    pub load: Load,
}

impl Job {
    /// Answers; with an error where there is no room for the outputs.
    pub fn answer(self, result: Result<Completed>) {
        let fits = |completed: Completed| completed.within(&self.room);
        self.reply.send(result.and_then(fits));
    }
}

impl Queued for Job {
    type Class = ShapeClass;

    fn size(&self) -> Size {
        size(&self.inputs)
    }

    fn class(&self) -> Option<&ShapeClass> {
        self.joins.then_some(&self.class)
    }

    fn level(&self) -> usize {
        self.level
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn is_abandoned(&self) -> bool {
        match &self.reply {
            Reply::Whole(answer) => answer.is_closed(),
            Reply::Piece(_, answers) => answers.is_closed(),
        }
    }
}

/// How much a request asks for.
pub fn size(inputs: &CheckedInputs) -> Size {
    Size {
        rows: inputs.places(),
        bytes: inputs.bytes(),
    }
}

/// Where the answer goes.
pub enum Reply {
    Whole(oneshot::Sender<Result<Completed>>),
    /// To the others, under its place among them.
    Piece(usize, mpsc::Sender<(usize, Result<Completed>)>),
}

impl Reply {
    /// Answers; the receiver may have gone, and then nobody needs the answer.
    pub fn send(self, result: Result<Completed>) {
        match self {
            Reply::Whole(answer) => _ = answer.send(result),
            // There is a place for each piece.
            Reply::Piece(at, answers) => _ = answers.try_send((at, result)),
        }
    }
}

/// The work that waits or runs, by level of priority, in the time that one worker would take for it.
#[derive(Debug, Default)]
pub struct Backlog(Vec<Level>);

#[derive(Debug, Default)]
struct Level {
    nanos: AtomicU64,
    stretch: Stretch,
}

impl Backlog {
    /// Nothing to do, on so many levels.
    pub fn new(levels: usize) -> Arc<Backlog> {
        Arc::new(Backlog((0..levels).map(|_| Level::default()).collect()))
    }

    /// The work that goes before a new request of this level.
    pub fn ahead(&self, level: usize) -> Ahead<'_> {
        let levels = self.0.iter().take(level + 1);
        let nanos = levels.map(|level| level.nanos.load(Ordering::Relaxed));
        Ahead {
            work: Duration::from_nanos(nanos.sum()),
            stretch: &self.0[level].stretch,
        }
    }

    /// Counts work until what is returned is dropped.
    pub fn add(self: &Arc<Self>, level: usize, work: Duration) -> Load {
        let level = level.min(self.0.len() - 1);
        let nanos = u64::try_from(work.as_nanos()).unwrap_or(u64::MAX >> 16);
        let ahead = self.ahead(level).work;
        self.0[level].nanos.fetch_add(nanos, Ordering::Relaxed);
        Load {
            backlog: self.clone(),
            level,
            nanos,
            ahead,
        }
    }
}

/// What a request finds before it.
#[derive(Debug, Clone, Copy)]
pub struct Ahead<'a> {
    /// In the time that one worker would take.
    pub work: Duration,
    /// What is known of how long those of its level wait.
    pub stretch: &'a Stretch,
}

/// One request's part of the backlog.
#[derive(Debug)]
pub struct Load {
    backlog: Arc<Backlog>,
    level: usize,
    nanos: u64,
    ahead: Duration,
}

impl Load {
    /// The work that was there before it.
    pub fn ahead(&self) -> Ahead<'_> {
        Ahead {
            work: self.ahead,
            stretch: &self.backlog.0[self.level].stretch,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let Level { nanos, .. } = &self.backlog.0[self.level];
        nanos.fetch_sub(self.nanos, Ordering::Relaxed);
    }
}

//! A mirrored repository as a source of models: looked at when its time has come, and otherwise the folder that it is.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::mirror::{Mirror, Refreshed, SecondListing};
use super::status::Status;
use crate::error::{Error, Result};
use crate::repository::stamp::Stamping;
use crate::repository::store::{Local, Source};
use crate::repository::{FoundModel, Snapshot};

/// How often a store is looked at where nothing else is set.
const USUAL_INTERVAL: Duration = Duration::from_secs(30);
/// How often the folder is: it changes only after a look at the store, and reading it costs little.
const FOLDER_INTERVAL: Duration = Duration::from_secs(1);
/// What could not be fetched at a start that is the only look is tried so often.
const MOST_TRIES: usize = 3;

/// When the store is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Again and again; `None` is the usual interval.
    Every(Option<Duration>),
    /// Whenever somebody asks, who then wants to know how the store has it and not how it was.
    OnDemand,
}

/// A repository that is mirrored into a folder.
pub struct Remote {
    folder: PathBuf,
    local: Local,
    pace: Pace,
    status: Status,
    looks: Mutex<Looks>,
}

struct Looks {
    mirror: Mirror,
    last: Option<Result<Refreshed, String>>,
    due: Instant,
}

impl Remote {
    pub fn new(mirror: Mirror, pace: Pace) -> Remote {
        let mirror = mirror.with_second(match pace {
            Pace::Every(_) => SecondListing::NextLook,
            // Nobody may ever ask again, and whoever does wants to know how it is.
            Pace::OnDemand => SecondListing::AtOnce,
        });
        Remote {
            folder: mirror.folder(),
            local: Local::new(mirror.folder()),
            pace,
            status: mirror.status(),
            looks: Mutex::new(Looks {
                mirror,
                last: None,
                due: Instant::now(),
            }),
        }
    }

    /// How the store is, for others to look at.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    fn interval(&self) -> Duration {
        match self.pace {
            Pace::Every(interval) => interval.unwrap_or(USUAL_INTERVAL),
            Pace::OnDemand => USUAL_INTERVAL,
        }
    }

    fn with_looks<T>(&self, work: impl FnOnce(&mut Looks) -> T) -> T {
        work(&mut self.looks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Source for Remote {
    fn look(&self, before: &Snapshot) -> Result<Snapshot> {
        self.with_looks(|looks| {
            let is_first = looks.last.is_none();
            let is_demanded = self.pace == Pace::OnDemand;
            match is_demanded {
                true if is_first => looks.persist(self.interval()),
                true => looks.refresh(self.interval()),
                false => looks.refresh_if_due(self.interval()),
            }
            let refreshed = match &looks.last {
                Some(Ok(refreshed)) => refreshed.clone(),
                // What the cache holds is better than nothing, but no answer to an order.
                Some(Err(reason)) if !self.folder.is_dir() || (is_demanded && !is_first) => {
                    return Err(Error::unavailable(reason.clone()));
                }
                _ => Refreshed::default(),
            };
            let mut snapshot = self.local.look(before)?;
            // Nobody else writes there, so nobody has to listen.
            snapshot.folders.clear();
            for (model, reason) in refreshed.problems {
                let problem = problem(&reason);
                if is_demanded && !is_first {
                    snapshot.models.insert(model, problem);
                } else {
                    snapshot.models.entry(model).or_insert(problem);
                }
            }
            Ok(snapshot)
        })
    }

    fn path(&self) -> &Path {
        &self.folder
    }

    fn interval(&self) -> Duration {
        FOLDER_INTERVAL.min(self.interval())
    }

    fn again(&self) -> Option<Duration> {
        self.with_looks(|looks| {
            let has_failed = matches!(looks.last, Some(Err(_)));
            has_failed.then(|| looks.due.saturating_duration_since(Instant::now()))
        })
    }
}

impl Looks {
    fn refresh(&mut self, interval: Duration) {
        let refreshed = self.mirror.refresh();
        self.last = Some(refreshed.map_err(|error| error.chain()));
        self.due = Instant::now() + self.mirror.delay(interval);
    }

    fn refresh_if_due(&mut self, interval: Duration) {
        if self.due <= Instant::now() {
            self.refresh(interval);
        }
    }

    /// Looks until everything is there, but not for ever.
    fn persist(&mut self, interval: Duration) {
        for attempt in 1..=MOST_TRIES {
            self.refresh(interval);
            let is_incomplete =
                matches!(&self.last, Some(Ok(refreshed)) if !refreshed.problems.is_empty());
            if !is_incomplete || attempt == MOST_TRIES {
                return;
            }
            std::thread::sleep(self.due.saturating_duration_since(Instant::now()));
        }
    }
}

fn problem(reason: &str) -> FoundModel {
    let reason = format!("it cannot be fetched: {reason}");
    let mut stamping = Stamping::default();
    stamping.remark(&reason);
    FoundModel {
        files: Err(reason),
        stamp: stamping.stamp(),
    }
}

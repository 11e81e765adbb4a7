//! Looks at a repository again and again, and tells what is there once it has settled.
//!
//! One way: look → what has settled → whoever loads. A look comes at the latest when the interval is over, and sooner
//! when the file system tells of a change. Blocking for as long as the storage does, it has a thread of its own.

mod events;
mod settle;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub use self::events::Stopper;
use self::events::{Events, Woken};
use self::settle::{Moment, Settling};
use super::Snapshot;
use super::store::Source;
use crate::error::{Error, Result};

/// How long a change must stay as it is before it counts, unless looks come more often.
const SETTLE: Duration = Duration::from_secs(1);
/// Between two looks lies at least this, however many events there are.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
/// And so many times what the look took, so that a writer that never pauses does not keep a large repository's looks
/// going all the time.
const PAUSES_A_LOOK: u32 = 10;

/// What a watch tells.
#[derive(Debug)]
pub enum Seen {
    /// What is to be served from now on.
    Found(Found),
    /// Nobody can tell what is to be served, so that what is served stays.
    Unreadable(Error),
}

/// What a look has found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    pub snapshot: Snapshot,
    /// Models whose files are still being written.
    pub unsettled: Vec<String>,
}

impl Found {
    /// All models that are there, whether their files have been written or still are.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.snapshot.models.keys().chain(&self.unsettled)
    }

    /// Whether a model is there.
    pub fn has(&self, model: &str) -> bool {
        self.names().any(|name| name == model)
    }
}

/// Watches one repository.
pub struct Watch {
    source: Arc<dyn Source>,
    interval: Duration,
    settle: Duration,
    events: Events,
}

impl Watch {
    /// A watch over `source` that looks at least as often as `interval` says, and what ends it when it is dropped.
    pub fn new(source: Arc<dyn Source>, interval: Option<Duration>) -> Result<(Watch, Stopper)> {
        let (events, stopper) = Events::new()?;
        let interval = interval.unwrap_or_else(|| source.interval());
        let watch = Watch {
            settle: SETTLE.min(interval),
            source,
            interval,
            events,
        };
        Ok((watch, stopper))
    }

    /// Tells what is there, and again when that has changed, until it is stopped.
    pub fn run(mut self, mut tell: impl FnMut(Seen)) {
        let mut eye = Eye::new(self.settle);
        loop {
            let began = Instant::now();
            let look = self.source.look(&eye.last);
            let moment = Moment {
                at: Instant::now(),
                wall: SystemTime::now(),
            };
            if let Some(seen) = eye.see(look, moment) {
                tell(seen);
            }
            let is_new = self.events.listen(&eye.last.folders);
            let next = match is_new {
                true => began,
                false => eye.due().unwrap_or(began + self.interval),
            };
            let pause = self.pause(moment.at - began);
            if self.wait(pause, next.min(began + self.interval)) == Woken::End {
                return;
            }
        }
    }

    /// How long events are not heeded after a look that took so long.
    fn pause(&self, took: Duration) -> Duration {
        let pause = LEAST_PAUSE.max(took.saturating_mul(PAUSES_A_LOOK));
        pause.min(self.interval)
    }

    fn wait(&mut self, pause: Duration, next: Instant) -> Woken {
        match self.events.pause(Instant::now() + pause) {
            Woken::End => Woken::End,
            Woken::Time | Woken::Event => self.events.wait(next),
        }
    }
}

/// Makes sense of looks, one after the other.
struct Eye {
    settling: Settling,
    settle: Duration,
    /// What was found last, settled or not.
    last: Snapshot,
    /// What counts.
    counts: Snapshot,
    told: Option<Found>,
    trouble: Option<Trouble>,
    began: Option<Instant>,
}

/// Since when looking fails, and whether that was told.
struct Trouble {
    since: Instant,
    is_told: bool,
}

impl Eye {
    fn new(settle: Duration) -> Eye {
        Eye {
            settling: Settling::new(settle),
            settle,
            last: Snapshot::default(),
            counts: Snapshot::default(),
            told: None,
            trouble: None,
            began: None,
        }
    }

    /// When to look again at the latest, because something may have settled then.
    fn due(&self) -> Option<Instant> {
        let trouble = self.trouble.as_ref().filter(|trouble| !trouble.is_told);
        let trouble = trouble.map(|trouble| trouble.since + self.settle);
        trouble.or_else(|| self.settling.due())
    }

    fn see(&mut self, look: Result<Snapshot>, moment: Moment) -> Option<Seen> {
        match look.and_then(|now| self.believe(now)) {
            Ok(now) => self.found(now, moment),
            Err(error) => self.unreadable(error, moment),
        }
    }

    /// A folder that is empty where another one was full is a mount that has gone, and no wish to serve nothing.
    fn believe(&self, now: Snapshot) -> Result<Snapshot> {
        let is_gone = now.root != self.last.root && now.models.is_empty();
        match is_gone && !self.last.models.is_empty() {
            true => Err(Error::unavailable(
                "another folder is in the place of the model repository, and holds no model",
            )),
            false => Ok(now),
        }
    }

    fn found(&mut self, now: Snapshot, moment: Moment) -> Option<Seen> {
        let was_told = self.trouble.take().is_some_and(|trouble| trouble.is_told);
        let snapshot = self.settling.look(&self.counts, &now, moment);
        let unsettled = self.settling.withheld(&now, &snapshot);
        let unsettled: Vec<String> = unsettled.into_iter().cloned().collect();
        self.counts = snapshot.clone();
        self.last = now;
        let began = *self.began.get_or_insert(moment.at);
        // What was written just before the start has the time to settle.
        let is_early =
            moment.at.duration_since(began) < self.settle && self.settling.due().is_some();
        if self.told.is_none() && is_early {
            return None;
        }
        let found = Found {
            snapshot,
            unsettled,
        };
        let is_told = !was_told && self.told.as_ref().is_some_and(|told| is_same(told, &found));
        (!is_told).then(|| {
            self.told = Some(found.clone());
            Seen::Found(found)
        })
    }

    fn unreadable(&mut self, error: Error, moment: Moment) -> Option<Seen> {
        self.settling.interrupted();
        let trouble = self.trouble.get_or_insert(Trouble {
            since: moment.at,
            is_told: false,
        });
        // At the start nothing is served that could go on, and whoever asks should learn why.
        let is_lasting = moment.at.duration_since(trouble.since) >= self.settle;
        let is_told = !trouble.is_told && (is_lasting || self.told.is_none());
        is_told.then(|| {
            trouble.is_told = true;
            Seen::Unreadable(error)
        })
    }
}

/// Whether two looks say the same to whoever loads.
fn is_same(one: &Found, other: &Found) -> bool {
    let (a, b) = (&one.snapshot, &other.snapshot);
    one.unsettled == other.unsettled
        && a.models == b.models
        && a.default_model == b.default_model
        && a.passed_over == b.passed_over
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::stamp::Stamp;
    use super::super::{FoundModel, ModelFiles};
    use super::*;

    const SETTLE: Duration = Duration::from_secs(1);

    fn repository(root: u64, models: &[&str]) -> Snapshot {
        let found = FoundModel {
            files: Ok(ModelFiles {
                versions: BTreeMap::from([(1, "model.onnx".into())]),
                stamps: BTreeMap::from([(1, Stamp::numbered(1))]),
                ..ModelFiles::default()
            }),
            stamp: Stamp::default(),
        };
        let models = models
            .iter()
            .map(|name| ((*name).to_owned(), found.clone()));
        Snapshot {
            models: models.collect(),
            root: Some((1, root)),
            ..Snapshot::default()
        }
    }

    /// What is told of looks that come a second apart, in a few letters each.
    fn told(looks: Vec<Result<Snapshot>>) -> Vec<String> {
        let (mut eye, start) = (Eye::new(SETTLE), Instant::now());
        let see = |(seconds, look): (u64, _)| {
            let moment = Moment {
                at: start + Duration::from_secs(seconds),
                wall: SystemTime::now(),
            };
            match eye.see(look, moment) {
                None => "-".to_owned(),
                Some(Seen::Unreadable(error)) => error.to_string(),
                Some(Seen::Found(found)) => {
                    let mut names: Vec<_> = found.snapshot.models.into_keys().collect();
                    let unsettled = found.unsettled.iter().map(|name| format!("({name})"));
                    names.extend(unsettled);
                    names.join(" ")
                }
            }
        };
        (0..).zip(looks).map(see).collect()
    }

    fn away() -> Result<Snapshot> {
        Err(Error::unavailable("away"))
    }

    #[test]
    fn what_is_the_same_is_told_once_and_what_is_new_once_it_has_settled() {
        let one = || Ok(repository(1, &["a"]));
        let two = || Ok(repository(1, &["a", "b"]));
        let seen = told(vec![one(), one(), two(), two(), two(), one(), one()]);
        assert_eq!(seen, ["a", "-", "a (b)", "a b", "-", "-", "a"]);
    }

    #[test]
    fn a_look_that_takes_long_is_paid_for_with_a_long_pause() {
        let source = Arc::new(super::super::store::Local::new("models".into()));
        let (watch, _stopper) =
            Watch::new(source, Some(Duration::from_secs(2))).expect("sockets open");
        let pause = |took| watch.pause(Duration::from_millis(took)).as_millis();
        assert_eq!([0, 5, 30, 199].map(pause), [50, 50, 300, 1990]);
        assert_eq!(pause(5000), 2000, "no longer than looks are apart anyway");
    }

    #[test]
    fn a_repository_that_cannot_be_read_is_told_once_and_so_is_its_return() {
        let here = || Ok(repository(1, &["a"]));
        let seen = told(vec![
            here(),
            away(),
            here(),
            away(),
            away(),
            away(),
            here(),
            here(),
        ]);
        assert_eq!(
            seen,
            ["a", "-", "-", "-", "away", "-", "a", "-"],
            "one look that fails is not worth a word"
        );
        let seen = told(vec![away(), away(), here()]);
        assert_eq!(seen, ["away", "-", "a"], "at the start it is told at once");
    }

    #[test]
    fn an_empty_folder_in_the_place_of_a_full_one_is_not_believed() {
        let full = || Ok(repository(1, &["a"]));
        let other = || Ok(repository(2, &[]));
        let gone = "another folder is in the place of the model repository, and holds no model";
        assert_eq!(
            told(vec![full(), other(), other(), full()]),
            ["a", "-", gone, "a"]
        );
        let emptied = || Ok(repository(1, &[]));
        let seen = told(vec![full(), emptied(), emptied()]);
        assert_eq!(seen, ["a", "-", ""], "the same folder is believed");
    }
}

//! Where every change of a model's state is shown: in the registry, which requests read, and in the metrics.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::deployment::Deployment;
use super::registry::{ModelEntry, Registry, Table, VersionState};
use crate::repository::Version;
use crate::telemetry::metrics::Metrics;

/// How often it is looked whether a request still holds what takes no more of them.
const LOOK: Duration = Duration::from_millis(5);

/// Shows states. Cloning shares it.
#[derive(Clone)]
pub struct Board {
    registry: Arc<Registry>,
    metrics: Metrics,
    /// One change at a time, so that the metrics end as the registry does.
    turn: Arc<Mutex<()>>,
}

/// What takes no more requests, with its version.
pub type Leaving = Vec<(Version, Arc<Deployment>)>;

impl Board {
    /// A board over these.
    pub fn new(registry: Arc<Registry>, metrics: Metrics) -> Board {
        Board {
            registry,
            metrics,
            turn: Arc::default(),
        }
    }

    /// A model's entry now.
    pub fn entry(&self, model: &str) -> Option<ModelEntry> {
        self.registry.table().models.get(model).cloned()
    }

    /// What serves as this version of a model.
    pub fn serving(&self, model: &str, version: Version) -> Option<Arc<Deployment>> {
        let table = self.registry.table();
        let state = table.models.get(model)?.versions.get(&version)?;
        state.deployment().cloned()
    }

    /// Changes a model's entry, which is new if there was none, and tells what takes no more requests since.
    pub fn change(&self, model: &str, change: impl FnMut(&mut ModelEntry)) -> Leaving {
        self.registry_change(model, change, |table| {
            table.models.entry(model.to_owned()).or_default();
        })
    }

    /// The same, if there is an entry.
    pub fn change_if_there(&self, model: &str, change: impl FnMut(&mut ModelEntry)) -> Leaving {
        self.registry_change(model, change, |_| ())
    }

    /// A model has left the repository: requests do not find it any more, and it is gone once those that it has are
    /// answered.
    pub fn remove(&self, model: &str) {
        let leaving = self.change_if_there(model, |entry| {
            entry.unload();
            entry.is_removed = true;
        });
        self.drain(model, leaving, None, || ());
    }

    fn registry_change(
        &self,
        model: &str,
        mut change: impl FnMut(&mut ModelEntry),
        prepare: impl Fn(&mut Table),
    ) -> Leaving {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = self.registry.update(|table| {
            prepare(table);
            let entry = table.models.get_mut(model)?;
            let before = entry.clone();
            change(entry);
            if entry.is_removed {
                entry.problem = None;
                let is_draining = |state: &VersionState| matches!(state, VersionState::Draining(_));
                entry.versions.retain(|_, state| is_draining(state));
            }
            let after = entry.clone();
            if after.is_removed && after.versions.is_empty() {
                table.models.remove(model);
            }
            Some((before, after))
        });
        let Some((before, after)) = changed else {
            return Leaving::new();
        };
        self.tell(model, &before, &after);
        let stays = |old: &Arc<Deployment>| after.served().any(|(_, new)| Arc::ptr_eq(old, new));
        let leaving = before.served().filter(|(_, old)| !stays(old));
        leaving
            .map(|(version, old)| (version, old.clone()))
            .collect()
    }

    /// Shows a fresh entry.
    pub fn announce(&self, model: &str, entry: &ModelEntry) {
        self.tell(model, &ModelEntry::default(), entry);
    }

    fn tell(&self, model: &str, before: &ModelEntry, after: &ModelEntry) {
        let metrics = &self.metrics;
        match (&before.problem, &after.problem) {
            (_, Some(_)) => metrics.set_model_state(model, "", "failed"),
            (Some(_), None) => metrics.forget_model(model, ""),
            (None, None) => {}
        }
        for (version, old) in &before.versions {
            let new = after.versions.get(version);
            let version = version.to_string();
            let engine = |state: Option<&VersionState>| Some(state?.deployment()?.loaded);
            if let Some(old) = engine(Some(old))
                && engine(new).is_none_or(|new| new.engine != old.engine)
            {
                metrics.unset_model_engine(model, &version, &old);
            }
            if matches!(new, None | Some(VersionState::Unloaded)) {
                metrics.forget_model(model, &version);
            }
        }
        for (version, state) in &after.versions {
            if matches!(state, VersionState::Unloaded) {
                continue;
            }
            let version = version.to_string();
            metrics.set_model_state(model, &version, state.name());
            if let Some(deployment) = state.deployment() {
                metrics.set_model_loaded(model, &version, &deployment.loaded);
            }
        }
    }

    /// Waits on a thread of its own until no request holds `leaving` any more, and drops it there: dropping joins
    /// workers. What then still drains becomes `end`, or is gone.
    pub fn drain(
        &self,
        model: &str,
        leaving: Leaving,
        end: Option<VersionState>,
        then: impl FnOnce() + Send + 'static,
    ) {
        let thread = thread::Builder::new().name(format!("drain-{model}"));
        self.drain_on(
            thread,
            Drain {
                board: self.clone(),
                model: model.to_owned(),
                leaving,
                end,
                then,
            },
        );
    }

    /// Without a thread nobody waits: the last request drops what it holds.
    fn drain_on(&self, thread: thread::Builder, drain: Drain<impl FnOnce() + Send + 'static>) {
        // What is given to a thread that does not start is lost, so it is given afterwards.
        let (give, given) = sync_channel::<Drain<_>>(1);
        let started = thread.spawn(move || {
            if let Ok(drain) = given.recv() {
                drain.end(drop_when_idle);
            }
        });
        match started {
            Ok(_) => {
                let given = give.send(drain);
                given.unwrap_or_else(|unheard| unheard.0.end(drop));
            }
            Err(error) => {
                let (model, reason) = (&drain.model, error.to_string());
                tracing::error!(
                    model,
                    reason,
                    "nobody waits for the last request: a thread did not start"
                );
                drain.end(drop);
            }
        }
    }
}

/// What takes no more requests, and what comes once it has answered those that it has.
struct Drain<Then> {
    board: Board,
    model: String,
    leaving: Leaving,
    end: Option<VersionState>,
    then: Then,
}

impl<Then: FnOnce()> Drain<Then> {
    fn end(self, let_go: fn(Arc<Deployment>)) {
        let Drain {
            board,
            model,
            leaving,
            end,
            then,
        } = self;
        let weak = |(version, deployment): &(Version, Arc<Deployment>)| {
            (*version, Arc::downgrade(deployment))
        };
        let left: Vec<(Version, Weak<Deployment>)> = leaving.iter().map(weak).collect();
        for (_, deployment) in leaving {
            let_go(deployment);
        }
        board.change_if_there(&model, |entry| {
            for (version, deployment) in &left {
                // It may be loaded anew already, or another one of the same version drains.
                let state = entry.versions.get(version);
                if state.is_some_and(|state| state.is_draining(deployment)) {
                    match &end {
                        Some(end) => entry.versions.insert(*version, end.clone()),
                        None => entry.versions.remove(version),
                    };
                }
            }
        });
        then();
    }
}

fn drop_when_idle(mut deployment: Arc<Deployment>) {
    loop {
        match Arc::try_unwrap(deployment) {
            Ok(idle) => return drop(idle),
            Err(held) => deployment = held,
        }
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn without_a_thread_a_drain_ends_all_the_same() {
        let board = Board::new(Arc::default(), Metrics::new());
        let (tell, told) = channel();
        let drain = Drain {
            board: board.clone(),
            model: "m".to_owned(),
            leaving: Leaving::new(),
            end: None,
            then: move || tell.send(()).expect("it is waited for"),
        };
        let more_than_there_is = 1 << 50;
        let thread = thread::Builder::new().stack_size(more_than_there_is);
        board.drain_on(thread, drain);
        assert_eq!(told.try_recv(), Ok(()), "it was not left to a thread");
    }
}

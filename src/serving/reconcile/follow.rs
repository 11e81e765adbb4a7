//! Follows a repository that changes: each change is brought to its own model, beside all others.
//!
//! One thread decides, and never waits for the storage nor for a load: looks come from the watch, and loads run on
//! threads of their own, at most one for each model. What changes while its model is being loaded is brought after that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::Reconciler;
use super::load::Effort;
use super::tries::Tries;
use crate::error::{Error, Result, guarded};
use crate::repository::FoundModel;
use crate::repository::diff::diff;
use crate::repository::watch::{Found, Seen, Watch};
use crate::serving::registry::Scan;

/// Nothing is due for so long that it is all the same.
const IDLE: Duration = Duration::from_secs(3600);
/// How often it is looked whether memory was given back, while a model waits for some.
const MEMORY_LOOK: Duration = Duration::from_secs(1);
/// Between two loads of a model for the same files lies at least this, whatever went wrong.
const LEAST_REST: Duration = Duration::from_secs(1);
/// A model that takes long to load does not keep others waiting, even on one CPU.
const LEAST_LOADS: usize = 2;

/// What the deciding thread is told.
enum News {
    Seen(Seen),
    Ended(Ended),
    /// The watch is over.
    Over,
}

/// A model's load has ended.
struct Ended {
    name: String,
    tries: Tries,
}

/// What is known of the repository, and what is being done about it.
struct Follower {
    reconciler: Arc<Reconciler>,
    tell: Sender<News>,
    current: Option<Found>,
    /// Models that are to be brought in line.
    pending: BTreeSet<String>,
    busy: BTreeSet<String>,
    /// What was there at the start and has not been brought in line yet.
    starting: BTreeSet<String>,
    tries: BTreeMap<String, Tries>,
    /// How often memory had been given back when that was last looked at.
    freed: u64,
    /// Models that were being loaded when some was.
    freed_meanwhile: BTreeSet<String>,
}

impl Reconciler {
    /// Loads what `watch` finds, and what changes after that, until the watch is stopped.
    pub fn follow(self, watch: Watch) -> Result<()> {
        let (tell, news) = channel();
        let seen = tell.clone();
        let look = move || {
            // Whoever decides may have ended.
            watch.run(|look| drop(seen.send(News::Seen(look))));
            let _ = seen.send(News::Over);
        };
        let unstarted =
            |error| Error::internal("the watching thread did not start").with_source(error);
        let watching = thread::Builder::new().name("watcher".to_owned());
        watching.spawn(look).map_err(unstarted)?;
        let follower = Follower {
            reconciler: Arc::new(self),
            tell,
            current: None,
            pending: BTreeSet::new(),
            busy: BTreeSet::new(),
            starting: BTreeSet::new(),
            tries: BTreeMap::new(),
            freed: 0,
            freed_meanwhile: BTreeSet::new(),
        };
        follower.run(&news);
        Ok(())
    }
}

impl Follower {
    fn run(mut self, news: &Receiver<News>) {
        loop {
            match news.recv_timeout(self.idle()) {
                Ok(News::Over) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(News::Seen(Seen::Found(found))) => self.found(found),
                Ok(News::Seen(Seen::Unreadable(error))) => self.reconciler.unreadable(&error),
                Ok(News::Ended(ended)) => self.ended(ended),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.take_up_again();
            self.start_loads();
            self.settle();
        }
    }

    /// How long nothing is due.
    fn idle(&self) -> Duration {
        let tries = self.tries.iter();
        let tries = tries.filter(|(name, _)| !self.pending.contains(*name));
        let due = tries.filter_map(|(_, tries)| tries.again()).min();
        let idle = due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
        let waits_for_memory = self.tries.values().any(Tries::waits_for_memory);
        let idle = match waits_for_memory {
            true => idle.min(MEMORY_LOOK),
            false => idle,
        };
        // What is pending while nothing is busy waits for a thread that did not start.
        match self.busy.is_empty() && !self.pending.is_empty() {
            true => idle.min(LEAST_REST),
            false => idle,
        }
    }

    fn found(&mut self, found: Found) {
        let is_first = self.current.is_none();
        let before = self.current.take().unwrap_or_default();
        let changes = diff(&before.snapshot, &found.snapshot);
        for (name, change) in &changes.models {
            if !is_first {
                tracing::info!(model = name, ?change, "the model repository has changed");
            }
            self.pending.insert(name.clone());
        }
        if is_first {
            self.starting = self.pending.clone();
            self.reconciler.announce(&found);
        } else {
            self.pending.extend(self.reconciler.shift_default(&found));
        }
        for name in before.unsettled {
            let is_gone = !found.unsettled.contains(&name);
            if is_gone && !found.snapshot.models.contains_key(&name) {
                self.pending.insert(name);
            }
        }
        for reason in &found.snapshot.passed_over {
            if !before.snapshot.passed_over.contains(reason) {
                tracing::warn!(reason, "passed over in the model repository");
            }
        }
        self.current = Some(found);
    }

    fn ended(&mut self, ended: Ended) {
        let Ended { name, mut tries } = ended;
        let now = Instant::now();
        // Where the load broke off, what was due is due as before.
        tries.rest(now + LEAST_REST);
        if self.freed_meanwhile.remove(&name) {
            tries.memory_is_freed(now);
        }
        self.busy.remove(&name);
        self.starting.remove(&name);
        self.tries.insert(name, tries);
        if self.busy.is_empty() && self.pending.is_empty() {
            self.reconciler.rest();
        }
    }

    /// What failed and may be better now is tried again.
    fn take_up_again(&mut self) {
        let now = Instant::now();
        let freed = self.reconciler.machinery.memory.freed();
        let is_freed = freed != std::mem::replace(&mut self.freed, freed);
        if is_freed {
            self.freed_meanwhile.extend(self.busy.iter().cloned());
        }
        for (name, tries) in &mut self.tries {
            if is_freed {
                tries.memory_is_freed(now);
            }
            if tries.again().is_some_and(|again| again <= now) {
                self.pending.insert(name.clone());
            }
        }
    }

    fn start_loads(&mut self) {
        let most = self.reconciler.machinery.budget.threads().max(LEAST_LOADS);
        let ready = self.pending.difference(&self.busy).cloned();
        let ready: Vec<String> = ready.collect();
        for name in ready {
            if self.busy.len() >= most {
                return;
            }
            self.pending.remove(&name);
            let tries = self.tries.remove(&name).unwrap_or_default();
            match self.model(&name) {
                Some(found) => self.start_load(name, found, tries),
                None => {
                    self.starting.remove(&name);
                    self.reconciler.remove(&name);
                }
            }
        }
    }

    fn model(&self, name: &str) -> Option<FoundModel> {
        let current = self.current.as_ref()?;
        current.snapshot.models.get(name).cloned()
    }

    fn start_load(&mut self, name: String, found: FoundModel, mut tries: Tries) {
        self.busy.insert(name.clone());
        let (reconciler, tell) = (self.reconciler.clone(), self.tell.clone());
        let thread = thread::Builder::new().name(format!("bring-{name}"));
        let model = name.clone();
        let bring = move || {
            let brought = guarded("while loading", || {
                reconciler.bring_found(&model, found, &mut tries);
                Ok(())
            });
            if let Err(error) = brought {
                tracing::error!(model, reason = error.chain(), "loading broke off");
            }
            // Whoever decides may have ended.
            let _ = tell.send(News::Ended(Ended { name: model, tries }));
        };
        if let Err(error) = thread.spawn(bring) {
            tracing::error!(model = name, %error, "a loading thread did not start");
            self.busy.remove(&name);
            self.pending.insert(name);
        }
    }

    /// The start is over once everything that was there has been tried.
    fn settle(&self) {
        let table = self.reconciler.registry.table();
        if self.current.is_some() && self.starting.is_empty() && !table.is_settled {
            self.reconciler
                .registry
                .update(|table| table.is_settled = true);
        }
    }
}

impl Reconciler {
    /// Brings one model in line with what was found of it.
    fn bring_found(&self, name: &str, found: FoundModel, tries: &mut Tries) {
        match found.files {
            Err(problem) => {
                *tries = Tries::default();
                self.show_problem(name, &problem);
            }
            Ok(files) => {
                let is_default = self.registry.table().default_model.as_deref() == Some(name);
                let load = self.plan(name, files, is_default, Effort::Changes);
                self.bring(&load, tries);
            }
        }
    }

    fn remove(&self, name: &str) {
        tracing::info!(model = name, "the model has left the repository");
        self.board.remove(name);
    }

    /// The repository may name another default model now. Gives the models that are concerned by a pin.
    fn shift_default(&self, found: &Found) -> Vec<String> {
        self.machinery.metrics.set_repository_readable(true);
        let before = self.registry.table().default_model.clone();
        let default_model = self.default_model(found);
        // A model that was the only one stays what requests mean that name none, as long as it is there.
        let stays = before
            .as_ref()
            .filter(|before| default_model.is_none() && found.has(before));
        let default_model = stays.cloned().or(default_model);
        self.registry.update(|table| {
            table.default_model = default_model.clone();
            table.scan = Scan::Done;
        });
        if before == default_model {
            return Vec::new();
        }
        tracing::info!(model = default_model, "the default model is another one");
        let is_pinned = self.models.version.is_some();
        let concerned = [before, default_model].into_iter().flatten();
        concerned
            .filter(|name| is_pinned && found.snapshot.models.contains_key(name))
            .collect()
    }

    /// What serves goes on while nobody can tell what is to be served.
    fn unreadable(&self, error: &Error) {
        let reason = error.chain();
        tracing::error!(
            reason,
            "the model repository cannot be read; what is served goes on"
        );
        self.machinery.metrics.set_repository_readable(false);
        self.registry.update(|table| {
            if table.scan != Scan::Done {
                table.scan = Scan::Failed(reason.clone());
            }
        });
    }
}

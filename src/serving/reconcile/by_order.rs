//! Carries out orders, one at a time, off the way of requests.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::load::Effort;
use super::tries::Tries;
use super::{Reconciler, only};
use crate::error::{Error, ErrorKind, Result, guarded};
use crate::repository::manifest::quoted;
use crate::repository::{Snapshot, Version};
use crate::serving::orders::{Action, Order};
use crate::serving::registry::{ModelEntry, Scan, VersionState};

/// Refuses orders for so long.
pub fn refuse(orders: &Receiver<Order>, pause: Duration) {
    let over = Instant::now() + pause;
    let left = || over.saturating_duration_since(Instant::now());
    loop {
        match orders.recv_timeout(left()) {
            Ok(order) => {
                let error = Error::unavailable(
                    "the model repository could not be read yet, see /health; it is tried again",
                );
                // Whoever gave the order may have left.
                let _ = order.reply.send(Err(error.with_retry_after(left())));
            }
            Err(RecvTimeoutError::Timeout) => return,
            // Nobody can give any.
            Err(RecvTimeoutError::Disconnected) => return thread::sleep(left()),
        }
    }
}

impl Reconciler {
    /// Carries out orders until nobody can give any more.
    pub fn carry_out(&self, orders: Receiver<Order>) {
        for order in orders {
            self.obey(order);
            self.rest();
        }
    }

    fn obey(&self, order: Order) {
        let Order {
            action,
            model,
            reply,
        } = order;
        // Whoever gave the order may have left, here and below.
        match action {
            Action::Load => {
                let loaded = guarded("while loading", || self.load(&model));
                let _ = reply.send(loaded);
            }
            Action::Unload => match self.registry.table().model(&model) {
                Err(unknown) => drop(reply.send(Err(unknown))),
                Ok(_) => {
                    let leaving = self.board.change(&model, ModelEntry::unload);
                    let name = model.clone();
                    let then = move || {
                        tracing::info!(model = name, "model unloaded");
                        let _ = reply.send(Ok(()));
                    };
                    let unloaded = Some(VersionState::Unloaded);
                    self.board.drain(&model, leaving, unloaded, then);
                }
            },
        }
    }

    /// Loads one model as the repository has it now.
    fn load(&self, name: &str) -> Result<()> {
        let mut snapshot = self.source.look(&Snapshot::default())?;
        let found = snapshot.models.remove(name);
        let found = found.ok_or_else(|| not_in_repository(name, &snapshot))?;
        self.registry.update(|table| {
            if matches!(table.scan, Scan::Failed(_)) {
                (table.scan, table.is_settled) = (Scan::Done, true);
            }
        });
        let files = found
            .files
            .map_err(|problem| self.has_problem(name, problem))?;
        let is_default = self.registry.table().default_model.as_deref() == Some(name);
        let load = self.plan(name, files, is_default, Effort::Everything);
        let outcome = self.bring(&load, &mut Tries::default());
        self.registry.update(|table| {
            if table.default_model.is_none() {
                table.default_model = only(table.models.keys());
            }
        });
        match outcome.failed.first() {
            None => Ok(()),
            Some((version, error)) => Err(self.failed(name, *version, error)),
        }
    }

    /// What a model's owner wrote beside it cannot be used.
    fn has_problem(&self, name: &str, problem: String) -> Error {
        self.show_problem(name, &problem);
        Error::unavailable(format!("model '{name}' cannot be loaded: {problem}"))
    }

    fn failed(&self, name: &str, version: Version, error: &Error) -> Error {
        let kind = match error.kind() {
            ErrorKind::Unimplemented => ErrorKind::Unimplemented,
            _ => ErrorKind::Unavailable,
        };
        let entry = self.board.entry(name).unwrap_or_default();
        let mut message = format!(
            "model '{name}' version {version} failed to load: {}",
            error.chain()
        );
        if entry.is_served() {
            message.push_str("; versions served: ");
            message.push_str(&entry.version_list());
        }
        Error::new(kind, message)
    }
}

fn not_in_repository(name: &str, snapshot: &Snapshot) -> Error {
    Error::not_found(match snapshot.models.is_empty() {
        true => format!("there is no model '{name}' in the repository, which is empty"),
        false => format!(
            "there is no model '{name}' in the repository; its models are {}",
            quoted(snapshot.models.keys())
        ),
    })
}

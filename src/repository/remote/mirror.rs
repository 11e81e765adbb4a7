//! Keeps a folder of this machine as a store has it.
//!
//! A look lists the store, fetches what is new, lists it again to see that nothing moved meanwhile, and only then
//! changes the folder, as far as both listings agree. Whatever goes wrong leaves the folder as it was.

mod look;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tokio::runtime::{Builder, Runtime};

use self::look::Look;
pub use self::look::Refreshed;
use super::backoff::Backoff;
use super::cache::{Bytes, Cache};
use super::download::download;
use super::failure::Failure;
use super::index::{self, Entry, Files, Identity};
use super::names::FileName;
use super::status::Status;
use super::store::{Listing, Store};
use super::transport::Transport;
use super::units::Unit;
use crate::config::RemoteConfig;
use crate::config::remote_url::RemoteUrl;
use crate::error::{Error, Result};
use crate::telemetry::metrics::{RepositoryMetrics, SyncOutcome};

/// So many objects are read side by side.
const DOWNLOADS: usize = 4;
/// After so many failed downloads the rest of a look is not tried.
const MOST_FAILURES: usize = 8;
/// A repository that changes all the while is published as far as it held still in so many listings.
const MOST_ROUNDS: usize = 3;

/// When a store is asked a second time about what has changed, so that it can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondListing {
    AtOnce,
    /// At once all the same where something was fetched.
    NextLook,
}

/// A store's mirror. It blocks while it looks, so it belongs on a thread of its own.
pub struct Mirror {
    url: RemoteUrl,
    transport: Transport,
    /// Opened at a look, since credentials may come later than the server.
    store: Option<Store>,
    cache: Cache,
    most_bytes: Option<u64>,
    published: Files,
    /// What was read whole and is not published yet.
    fetched: Files,
    /// What could not be read last time.
    failed: BTreeSet<FileName>,
    /// The last two listings, the last one last.
    listings: [Listing; 2],
    second: SecondListing,
    backoff: Backoff,
    status: Status,
    metrics: RepositoryMetrics,
    /// Made at the first look, on the thread that looks.
    runtime: Option<Runtime>,
}

impl Mirror {
    /// Takes the cache, without reading it yet.
    pub fn open(
        config: &RemoteConfig,
        usual: &[PathBuf],
        metrics: RepositoryMetrics,
    ) -> Result<Mirror> {
        Ok(Mirror {
            url: config.url.clone(),
            transport: Transport::default(),
            store: None,
            cache: Cache::open(config, usual)?,
            most_bytes: config.cache_bytes,
            published: Files::new(),
            fetched: Files::new(),
            failed: BTreeSet::new(),
            listings: Default::default(),
            second: SecondListing::NextLook,
            backoff: Backoff::default(),
            status: Status::new(&config.url),
            metrics,
            runtime: None,
        })
    }

    /// The same over a store that is there already.
    #[cfg(test)]
    pub fn with_store(mut self, store: Store) -> Mirror {
        self.store = Some(store);
        self
    }

    /// The same, which asks a second time when this says.
    pub fn with_second(mut self, second: SecondListing) -> Mirror {
        self.second = second;
        self
    }

    /// The folder that the repository is mirrored to; it is there once something is.
    pub fn folder(&self) -> PathBuf {
        self.cache.models()
    }

    /// How the store is, for others to look at.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// How long to wait before the next look, where looks are `interval` apart.
    pub fn delay(&self, interval: Duration) -> Duration {
        let random = RandomState::new().build_hasher().finish();
        let chance = random as f64 / u64::MAX as f64;
        let asked = self.transport.take_retry_after();
        self.backoff.delay(interval, asked, chance)
    }

    /// Looks at the store once. An error leaves the folder as it was. The first look brings back what the cache holds.
    pub fn refresh(&mut self) -> Result<Refreshed> {
        self.begin()?;
        let looked = self.look();
        let incomplete = looked.as_ref().map(|look| {
            let shown = |(unit, reason): (&Unit, &String)| (unit.to_string(), reason.clone());
            look.incomplete
                .iter()
                .map(shown)
                .collect::<BTreeMap<_, _>>()
        });
        let outcome = match &looked {
            Err(_) => SyncOutcome::Failed,
            Ok(look) if !look.incomplete.is_empty() => SyncOutcome::Incomplete,
            Ok(look) if look.has_changed => SyncOutcome::Changed,
            Ok(_) => SyncOutcome::Unchanged,
        };
        match outcome {
            SyncOutcome::Failed | SyncOutcome::Incomplete => self.backoff.failed(),
            SyncOutcome::Changed | SyncOutcome::Unchanged => self.backoff.succeeded(),
        }
        self.metrics.synced(outcome, SystemTime::now());
        let outcome = incomplete.map_err(|failure| failure.reason().to_owned());
        self.status.looked(SystemTime::now(), outcome);
        looked.map(Look::refreshed).map_err(|failure| {
            Error::unavailable(format!(
                "the model repository {} cannot be read: {failure}",
                self.url
            ))
        })
    }

    /// What the first look begins with, on the thread that looks.
    fn begin(&mut self) -> Result<()> {
        if self.runtime.is_none() {
            let runtime = Builder::new_current_thread().enable_all().build();
            let unmade = |error| Error::internal("no runtime for the mirror").with_source(error);
            self.runtime = Some(runtime.map_err(unmade)?);
            self.bring_back()?;
        }
        Ok(())
    }

    /// Publishes what the cache holds from an earlier process, but for units of which something is broken.
    fn bring_back(&mut self) -> Result<()> {
        let (files, broken) = self.cache.verified(&self.url);
        for name in &broken {
            tracing::warn!(file = %name, "the cache's copy is not what it was and is fetched anew");
        }
        // It was listed so when it was mirrored.
        let listed = files.iter();
        let listed = listed.map(|(name, entry)| (name.clone(), entry.identity.clone()));
        self.listings[1].files = listed.collect();
        let broken: BTreeSet<Unit> = broken.iter().map(Unit::of).collect();
        let is_whole = |name: &FileName| {
            let unit = Unit::of(name);
            !broken.contains(&unit) && !broken.contains(&unit.of_model())
        };
        let (whole, rest) = files.into_iter().partition(|(name, _)| is_whole(name));
        (self.published, self.fetched) = (whole, rest);
        // A process that died may have left what no index knows, which takes the place of others.
        self.cache.tidy(&[&self.published, &self.fetched]);
        if self.published.is_empty() {
            return Ok(());
        }
        let files = self.published.len();
        tracing::info!(url = %self.url, files, "the cache holds the repository as it was");
        self.cache
            .publish(&self.url, &Files::new(), &self.published)
            .map_err(|error| Error::unavailable("the cache cannot be written").with_source(error))
    }

    fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        let runtime = self.runtime.as_ref();
        runtime.expect("the first look made it").block_on(work)
    }

    fn look(&mut self) -> Result<Look, Failure> {
        let store = match self.store.take() {
            Some(store) => store,
            None => Store::open(&self.url, self.transport.clone())?,
        };
        let looked = self.look_at(&store);
        // A file with credentials is read once; after a failure it may have been mended.
        if looked.is_ok() || cfg!(test) {
            self.store = Some(store);
        }
        looked
    }

    fn look_at(&mut self, store: &Store) -> Result<Look, Failure> {
        let mut failures = BTreeMap::new();
        self.list(store)?;
        for _ in 0..MOST_ROUNDS {
            let [_, listing] = &self.listings;
            let plan = index::to_fetch(listing, &self.published, &self.fetched);
            let mut has_fetched = false;
            if !plan.is_empty() {
                let (fetched, failed) = self.fetch(store, plan);
                has_fetched = !fetched.is_empty();
                self.fetched.extend(fetched);
                failures = failed;
            }
            if !has_fetched && !self.asks_again() {
                break;
            }
            self.list(store)?;
        }
        self.publish(failures)
    }

    fn asks_again(&self) -> bool {
        let [before, listing] = &self.listings;
        self.second == SecondListing::AtOnce && !index::agree(before, listing)
    }

    fn list(&mut self, store: &Store) -> Result<(), Failure> {
        let listing = self.block_on(store.list())?;
        let [_, before] = &mut self.listings;
        if listing.passed_over != before.passed_over {
            for name in &listing.passed_over {
                tracing::warn!(name, "passed over in the remote repository");
            }
        }
        self.listings = [std::mem::take(before), listing];
        Ok(())
    }

    fn check_room(&self, plan: &BTreeMap<FileName, Identity>) -> Result<(), Failure> {
        let new: u64 = plan
            .values()
            .fold(0, |sum, file| sum.saturating_add(file.size));
        let Bytes { kept, free } = self.cache.bytes();
        let (most, limit) = match self.most_bytes {
            Some(most) => (most, "repository.cache_bytes"),
            None => (kept.saturating_add(free / 20 * 19), "the disk's free space"),
        };
        match kept.saturating_add(new) > most {
            true => Err(Failure::new(format!(
                "{new} bytes have to be fetched beside the {kept} in the cache, and {limit} allows {most} together"
            ))),
            false => Ok(()),
        }
    }

    fn fetch(
        &mut self,
        store: &Store,
        files: BTreeMap<FileName, Identity>,
    ) -> (Files, BTreeMap<FileName, Failure>) {
        if let Err(failure) = self.check_room(&files) {
            // What is gone from the store still goes, and makes room.
            let failed = files.into_keys().map(|name| (name, failure.clone()));
            return (Files::new(), failed.collect());
        }
        let (cache, tried_in_vain) = (&self.cache, RefCell::new(BTreeSet::new()));
        let one = |(number, (name, listed)): (usize, (FileName, Identity))| {
            let tried_in_vain = &tried_in_vain;
            async move {
                if tried_in_vain.borrow().len() >= MOST_FAILURES {
                    return (name, Err(Failure::new("not tried, since others failed")));
                }
                let half = cache.half(number);
                let fetched = download(store, cache, &name, &listed, &half).await;
                if fetched.is_err() {
                    tried_in_vain.borrow_mut().insert(name.clone());
                    let _ = std::fs::remove_file(half);
                }
                (name, fetched)
            }
        };
        // What failed before comes last, so that it holds nothing else back.
        let (again, first): (Vec<_>, Vec<_>) = files
            .into_iter()
            .partition(|(name, _)| self.failed.contains(name));
        let files = first.into_iter().chain(again);
        let downloads = futures_util::stream::iter(files.enumerate());
        let downloads = downloads.map(one).buffer_unordered(DOWNLOADS);
        let ended: Vec<(FileName, Result<Entry, Failure>)> = self.block_on(downloads.collect());
        let (mut fetched, mut failed) = (Files::new(), BTreeMap::new());
        for (name, result) in ended {
            match result {
                Ok(entry) => {
                    self.metrics.fetched(entry.identity.size);
                    fetched.insert(name, entry);
                }
                Err(failure) => {
                    let failure = failure.about(name.as_str());
                    failed.insert(name, failure);
                }
            }
        }
        self.failed = tried_in_vain.into_inner();
        (fetched, failed)
    }

    fn publish(&mut self, failures: BTreeMap<FileName, Failure>) -> Result<Look, Failure> {
        // Somebody may have cleaned up in the cache.
        self.fetched
            .retain(|name, entry| self.cache.holds(name, entry));
        let [before, listing] = &self.listings;
        let next = index::publish([before, listing], &self.published, &self.fetched);
        let bytes = |files: &Files| -> Vec<(FileName, String)> {
            let files = files.iter();
            files
                .map(|(name, entry)| (name.clone(), entry.sha256.clone()))
                .collect()
        };
        let is_new = !self.folder().exists();
        let has_changed = is_new || bytes(&next.files) != bytes(&self.published);
        if is_new || next.files != self.published {
            let published = self.cache.publish(&self.url, &self.published, &next.files);
            published
                .map_err(|error| Failure::new(format!("the cache cannot be written: {error}")))?;
        }
        self.published = next.files;
        let listed = &listing.files;
        self.fetched.retain(|name, entry| {
            self.published.get(name) != Some(entry) && listed.get(name) == Some(&entry.identity)
        });
        self.cache.tidy(&[&self.published, &self.fetched]);
        let mut incomplete = BTreeMap::new();
        for unit in next.incomplete {
            let reason = failures.iter().find(|(name, _)| Unit::of(name) == unit);
            let reason = reason.map(|(_, failure)| failure.reason().to_owned());
            incomplete.insert(
                unit,
                reason.unwrap_or_else(|| "it keeps changing".to_owned()),
            );
        }
        let failed = failures
            .into_iter()
            .map(|(name, failure)| (name, failure.reason().to_owned()));
        Ok(Look {
            has_changed,
            incomplete,
            failed: failed.collect(),
        })
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // It may be dropped on a thread of another runtime, which must not wait for this one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests;

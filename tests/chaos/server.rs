//! The server under test, in this process, and what must hold of it at the end.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onnxd::engine::{Engine, Engines};
use onnxd::serving::choosing::Intervals;
use onnxd::shutdown::Stop;
use onnxd::telemetry::metrics::Metrics;
use tempfile::TempDir;

use super::books::{Books, Seen};
use super::disk::{self, STEADY};
use super::engine::Affine;
use super::random::Random;
use super::store::Store;
use super::support::client::Request;
use super::support::eventually;
use super::support::running::{Parts, Running};

/// Rows that may wait for a model: few, so that bursts are refused.
pub const QUEUE_ROWS: usize = 48;
/// The most bytes of a body.
pub const BODY_BYTES: usize = 64 << 10;

pub struct ChaosServer {
    running: Running,
    /// Whether changes are noticed, or have to be told.
    pub is_watching: bool,
    /// Where the models are, if the server does not read the folder itself.
    pub store: Option<Store>,
    folder: TempDir,
    cache: TempDir,
}

impl Deref for ChaosServer {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

/// Where the server has its models from.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    Folder,
    Store { longest_fault: Duration },
}

impl ChaosServer {
    /// A server with the steady models.
    pub fn start(
        books: &Books,
        mut random: Random,
        mode: &'static str,
        place: Place,
    ) -> ChaosServer {
        let [folder, cache] = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        disk::put_steady(folder.path(), books);
        let (store, path, poll_ms) = match place {
            Place::Folder => (None, folder.path().to_string_lossy().into_owned(), "auto"),
            Place::Store { longest_fault } => {
                let store = Store::start(folder.path(), random.split(), longest_fault);
                let url = store.url();
                (Some(store), url, "200")
            }
        };
        let settings = [
            ("server.address", "127.0.0.1".to_owned()),
            ("server.port", "0".to_owned()),
            ("server.grpc_port", "off".to_owned()),
            ("server.drain_delay_ms", "0".to_owned()),
            ("server.request_timeout_ms", "20000".to_owned()),
            ("limits.body_bytes", BODY_BYTES.to_string()),
            ("inference.threads", "2".to_owned()),
            ("inference.queue_rows", QUEUE_ROWS.to_string()),
            ("repository.mode", mode.to_owned()),
            ("repository.path", path),
            ("repository.poll_ms", poll_ms.to_owned()),
            (
                "repository.cache_path",
                cache.path().to_string_lossy().into_owned(),
            ),
        ];
        let engine = |name, is_liar, random| {
            Arc::new(Affine {
                name,
                is_liar,
                faults: Arc::new(Mutex::new(random)),
            }) as Arc<dyn Engine>
        };
        let engines = Engines::of([
            engine("tract", false, random.split()),
            engine("rten", true, random.split()),
        ]);
        let running = Running::start(Parts {
            settings: settings.into(),
            engines,
            metrics: Metrics::new(),
            intervals: Intervals {
                pause: Duration::from_millis(20),
                measured_again: Duration::from_millis(200),
            },
        });
        let server = ChaosServer {
            running,
            is_watching: mode == "watch",
            store,
            folder,
            cache,
        };
        eventually("the server is ready", || {
            server.ask(&Request::get("/health/ready")).status == 200
        });
        server
    }

    pub fn repository(&self) -> &Path {
        self.folder.path()
    }

    /// The values of all series of this metric, by their labels.
    fn metric(&self, name: &str) -> BTreeMap<String, f64> {
        let page = self.ask(&Request::get("/metrics"));
        let series = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let is_whole_name = labels.is_empty() || labels.starts_with('{');
            let value = value.parse().ok()?;
            is_whole_name.then(|| (labels.to_owned(), value))
        };
        page.text().lines().filter_map(series).collect()
    }

    /// What is served from a store comes from files that are those of the store, to the last byte.
    pub fn check_the_mirror(&self) {
        let mirrored = || -> BTreeMap<PathBuf, Vec<u8>> {
            let caches = disk::files(self.cache.path()).into_iter();
            let models = caches.filter_map(|(path, bytes)| {
                let mut parts = path.iter().skip(1);
                let is_served = parts.next()? == "models";
                is_served.then(|| (parts.collect(), bytes))
            });
            models.collect()
        };
        eventually("the mirror is as the store", || {
            self.store.is_none() || mirrored() == disk::files(self.repository())
        });
    }

    /// Nothing is left behind, everything was counted, and the server ends.
    pub fn check_the_end(self, books: &Books) {
        eventually("nothing is in flight", || {
            // The request that asks is.
            self.metric("onnxd_http_requests_in_flight")
                .values()
                .sum::<f64>()
                <= 1.0
        });
        eventually("no row waits", || {
            self.metric("onnxd_queue_rows").values().sum::<f64>() == 0.0
        });
        self.check_counts(books);
        let answer = self.ask(&disk::steady_request());
        assert_eq!(
            answer.status, 200,
            "the queue has all its places: {answer:?}"
        );
        self.stop(Stop::Terminate);
        self.wait_until_ended();
    }

    /// Else nothing was seen of what happens to those who share one.
    fn check_that_runs_were_shared(&self, requests: u64) {
        let runs = self.metric("onnxd_inference_batches_total");
        let of_steady = runs.iter().filter(|(labels, _)| labels.contains(STEADY));
        let runs: f64 = of_steady.map(|(_, runs)| runs).sum();
        println!("{STEADY}: {requests} requests, {runs} runs");
        assert!(
            requests < 1000 || runs < 0.8 * requests as f64,
            "hardly any run was shared"
        );
    }

    /// What clients saw is what the server counted, but for requests of which they cannot know.
    fn check_counts(&self, books: &Books) {
        let counted = self.metric("onnxd_inference_requests_total");
        let count = |model: &str, outcome: &str| -> u64 {
            let is_one = |labels: &&String| {
                labels.contains(&format!("model=\"{model}\""))
                    && labels.contains(&format!("outcome=\"{outcome}\""))
            };
            let values = counted.iter().filter(|(labels, _)| is_one(labels));
            values.map(|(_, value)| *value as u64).sum()
        };
        for (model, Seen { answers, unsure }) in books.seen() {
            let seen = |statuses: &[u16]| -> u64 {
                statuses
                    .iter()
                    .filter_map(|status| answers.get(status))
                    .sum()
            };
            let mut total = (0, 0);
            for (outcome, statuses) in [
                ("ok", &[200][..]),
                ("invalid", &[400, 413]),
                ("rejected", &[429]),
                ("expired", &[504]),
                ("canceled", &[]),
                ("failed", &[500]),
            ] {
                let (seen, counted) = (seen(statuses), count(&model, outcome));
                assert!(
                    (seen..=seen + unsure).contains(&counted),
                    "{model}: clients saw {seen} {outcome} and were unsure of {unsure}, the server counted {counted}"
                );
                total = (total.0 + seen, total.1 + counted);
            }
            assert!(
                (total.0..=total.0 + unsure).contains(&total.1),
                "{model}: clients saw {} and were unsure of {unsure}, the server counted {}",
                total.0,
                total.1
            );
            if model == STEADY {
                self.check_that_runs_were_shared(total.1);
                assert!(
                    answers.get(&200).is_some_and(|count| *count > 0),
                    "nothing was answered"
                );
            }
        }
    }
}

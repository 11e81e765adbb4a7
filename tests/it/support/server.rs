//! A server in this process over models that a test makes up, or over the bundled ones.

use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use onnxd::engine::Engine;
use onnxd::engine::Engines;
use onnxd::engine::tract::TractEngine;
use onnxd::serving::choosing::Intervals;
use onnxd::telemetry::metrics::Metrics;
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Answer, Connection, Request};
use super::engine::{Gate, ScriptEngine};
use super::planted::{Habit, Planted};
use super::running::{Parts, Running};
use super::{eventually, in_repository};

/// A server that is to be started.
pub struct Setup {
    folder: TempDir,
    settings: Vec<(&'static str, String)>,
    is_scripted: bool,
    /// Engines around the one, by name.
    planted: Vec<(&'static str, Habit)>,
}

impl Setup {
    /// The bundled models on the real engine.
    pub fn bundled() -> Setup {
        let models = in_repository("models");
        Setup {
            is_scripted: false,
            ..Setup::empty().with("repository.path", &models.to_string_lossy())
        }
    }

    /// An empty repository on the engine of scripts.
    pub fn empty() -> Setup {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().to_string_lossy().into_owned();
        let settings = [
            ("server.address", "127.0.0.1"),
            ("server.port", "0"),
            ("server.grpc_port", "0"),
            ("server.drain_delay_ms", "0"),
            ("inference.threads", "1"),
            ("repository.path", &path),
            ("repository.poll_ms", "20"),
        ];
        Setup {
            folder,
            settings: settings.map(|(key, value)| (key, value.to_owned())).into(),
            is_scripted: true,
            planted: Vec::new(),
        }
    }

    /// One model `m`, version 1.
    pub fn scripted(script: Value) -> Setup {
        Setup::empty().model("m/1", script)
    }

    /// Adds a model's version, such as `m/2`.
    pub fn model(self, version: &str, script: Value) -> Setup {
        self.file(&format!("{version}/model.onnx"), script.to_string())
    }

    /// Adds a file to the repository.
    pub fn file(self, path: &str, contents: impl AsRef<[u8]>) -> Setup {
        put(self.folder.path(), path, contents.as_ref());
        self
    }

    /// Where the models are that are added.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Loads what is added on the real engine.
    pub fn on_tract(self) -> Setup {
        Setup {
            is_scripted: false,
            ..self
        }
    }

    /// Puts engines with these habits in the place of the one, the preferred first.
    pub fn engines(self, planted: &[(&'static str, Habit)]) -> Setup {
        Setup {
            planted: planted.to_vec(),
            ..self
        }
    }

    /// Changes a setting; the last word counts.
    pub fn with(mut self, key: &'static str, value: &str) -> Setup {
        self.settings.push((key, value.to_owned()));
        self
    }

    /// Starts the server and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> TestServer {
        let server = self.start_loading();
        eventually("the server is ready", || {
            server.get("/health/ready").status == 200
        });
        server
    }

    /// Starts a server that lives as long as the process, which would leave its folder behind.
    pub fn start_shared(self) -> TestServer {
        let mut server = self.with("repository.mode", "static").start();
        server.folder = None;
        server
    }

    /// Starts the server and waits until nothing is being loaded any more.
    #[track_caller]
    pub fn start_loaded(self) -> TestServer {
        let server = self.start_loading();
        eventually("everything is loaded", || {
            let health = server.get("/health");
            let reason = health.json()["error"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            !reason.contains("being read") && !health.text().contains("\"loading\"")
        });
        server
    }

    /// Starts the server and does not wait.
    pub fn start_loading(self) -> TestServer {
        let Setup {
            folder,
            settings,
            is_scripted,
            planted,
        } = self;
        let gate = Arc::new(Gate::default());
        let metrics = Metrics::new();
        let engine: Arc<dyn Engine> = match is_scripted {
            true => Arc::new(ScriptEngine { gate: gate.clone() }),
            false => Arc::new(TractEngine::new(metrics.plan_cache())),
        };
        let engines = match planted.is_empty() {
            true => Engines::of([engine]),
            false => Engines::of(planted.into_iter().map(|(name, habit)| {
                let (inner, gate) = (engine.clone(), gate.clone());
                Arc::new(Planted {
                    name,
                    habit,
                    inner,
                    gate,
                }) as Arc<dyn Engine>
            })),
        };
        let intervals = Intervals {
            pause: Duration::from_millis(10),
            measured_again: Duration::ZERO,
        };
        TestServer {
            running: Running::start(Parts {
                settings,
                engines,
                metrics,
                intervals,
            }),
            gate,
            folder: Some(folder),
        }
    }
}

fn put(folder: &Path, path: &str, contents: &[u8]) {
    let path = folder.join(path);
    let parent = path.parent().expect("a file has a folder");
    std::fs::create_dir_all(parent).expect("a temporary folder");
    std::fs::write(path, contents).expect("a temporary file");
}

/// A server on the engine of scripts, or on a real one.
pub struct TestServer {
    running: Running,
    pub gate: Arc<Gate>,
    folder: Option<TempDir>,
}

impl Deref for TestServer {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

/// The bundled models, for the tests that only ask.
pub fn bundled() -> &'static TestServer {
    static SERVER: LazyLock<TestServer> = LazyLock::new(|| Setup::bundled().start_shared());
    &SERVER
}

impl TestServer {
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.ask(&Request::get(path))
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.ask(&Request::post(path, body))
    }

    /// Sends a request to where the server is controlled.
    #[track_caller]
    pub fn ask_admin(&self, request: &Request) -> Answer {
        let admin = self.admin.expect("the server has an admin address");
        let mut connection = Connection::open(admin).expect("the server accepts");
        connection.send(request);
        connection.answer()
    }

    /// Writes a model's version into the repository while the server runs.
    pub fn put_model(&self, version: &str, script: &Value) {
        self.put(&format!("{version}/model.onnx"), &script.to_string());
    }

    /// Writes a file into the repository while the server runs.
    pub fn put(&self, path: &str, contents: &str) {
        put(self.repository(), path, contents.as_ref());
    }

    /// Where the models are.
    pub fn repository(&self) -> &Path {
        let folder = self.folder.as_ref().expect("the server has a folder");
        folder.path()
    }

    /// The repository's index as `name version STATE reason`, a line each.
    #[track_caller]
    pub fn index(&self, body: &str) -> Vec<String> {
        let index = self.post("/v2/repository/index", body).ok();
        let entries = index.as_array().expect("a list").iter();
        let line = |entry: &Value| {
            let fields = ["name", "version", "state", "reason"]
                .map(|key| entry[key].as_str().expect("text"));
            fields.join(" ").trim_end().to_owned()
        };
        entries.map(line).collect()
    }

    /// The value of one series, written as the metrics page has it.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let page = self.get("/metrics");
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        page.text().lines().find_map(value)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // Else what it holds up would hold the server up.
        self.gate.open();
    }
}

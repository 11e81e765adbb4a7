//! A server in this process, with a runtime of its own, so that a test blocks without holding it up.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::Duration;

use onnxd::config::Config;
use onnxd::config::load::Sources;
use onnxd::engine::Engine;
use onnxd::engine::Engines;
use onnxd::engine::tract::TractEngine;
use onnxd::error::Result;
use onnxd::server::Server;
use onnxd::serving::choosing::Intervals;
use onnxd::shutdown::Stop;
use onnxd::telemetry::metrics::Metrics;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::client::{Answer, Connection, Request};
use super::engine::{Gate, ScriptEngine};
use super::planted::{Habit, Planted};
use super::{PATIENCE, eventually, in_repository};

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
        let config = Config::load(&Sources {
            flags: settings,
            ..Sources::default()
        });
        let config = config.expect("the test's settings are valid");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let server = runtime
            .block_on(Server::build_with(config, engines, metrics))
            .expect("loopback has a free port")
            .with_intervals(Intervals {
                pause: Duration::from_millis(10),
                measured_again: Duration::ZERO,
            });
        let (address, admin) = (server.address(), server.admin_address());
        let grpc_address = server.grpc_address();
        let (stop, stopped) = oneshot::channel();
        let (done, ended) = mpsc::channel();
        runtime.spawn(async move {
            // A test that ends without stopping its server drops the sender.
            let result = server
                .run_until(async { stopped.await.unwrap_or(Stop::Interrupt) })
                .await;
            let _ = done.send(result);
        });
        TestServer {
            address,
            grpc_address,
            admin,
            gate,
            folder: Some(folder),
            stop: Mutex::new(Some(stop)),
            ended: Mutex::new(ended),
            runtime: Some(runtime),
        }
    }
}

fn put(folder: &Path, path: &str, contents: &[u8]) {
    let path = folder.join(path);
    let parent = path.parent().expect("a file has a folder");
    std::fs::create_dir_all(parent).expect("a temporary folder");
    std::fs::write(path, contents).expect("a temporary file");
}

/// A server that runs until it is dropped.
pub struct TestServer {
    pub address: SocketAddr,
    pub grpc_address: Option<SocketAddr>,
    /// Where it is controlled, if not there.
    pub admin: Option<SocketAddr>,
    pub gate: Arc<Gate>,
    folder: Option<TempDir>,
    stop: Mutex<Option<oneshot::Sender<Stop>>>,
    ended: Mutex<mpsc::Receiver<Result<()>>>,
    runtime: Option<Runtime>,
}

/// The bundled models, for the tests that only ask.
pub fn bundled() -> &'static TestServer {
    static SERVER: LazyLock<TestServer> = LazyLock::new(|| Setup::bundled().start_shared());
    &SERVER
}

impl TestServer {
    /// Sends a request on a connection of its own, and does not wait.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Connection {
        let mut connection = Connection::open(self.address).expect("the server accepts");
        connection.send(request);
        connection
    }

    #[track_caller]
    pub fn ask(&self, request: &Request) -> Answer {
        self.send(request).answer()
    }

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

    /// Asks the server to stop, and does not wait.
    pub fn stop(&self, why: Stop) {
        let stop = self.stop.lock().expect("no test panics here").take();
        // The server may have ended by itself; then the test will see so.
        let _ = stop.expect("a server is stopped once").send(why);
    }

    /// Waits until the server has ended.
    #[track_caller]
    pub fn wait_until_ended(&self) {
        let ended = self.ended.lock().expect("no test panics here");
        let result = ended
            .recv_timeout(PATIENCE)
            .expect("the server ends in time");
        result.expect("the server ends well");
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.gate.open();
        drop(self.stop.lock().map(|mut stop| stop.take()));
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

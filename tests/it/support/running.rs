//! A server that runs in this process, on a runtime of its own, so that a test blocks without holding it up.

use std::net::SocketAddr;
use std::sync::{Mutex, mpsc};

use onnxd::config::Config;
use onnxd::config::load::Sources;
use onnxd::engine::Engines;
use onnxd::error::Result;
use onnxd::server::Server;
use onnxd::serving::choosing::Intervals;
use onnxd::shutdown::Stop;
use onnxd::telemetry::metrics::Metrics;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::PATIENCE;
use super::client::{Answer, Connection, Request};

/// A server that runs until it is dropped.
pub struct Running {
    pub address: SocketAddr,
    pub grpc_address: Option<SocketAddr>,
    /// Where it is controlled, if not there.
    pub admin: Option<SocketAddr>,
    stop: Mutex<Option<oneshot::Sender<Stop>>>,
    ended: Mutex<mpsc::Receiver<Result<()>>>,
    runtime: Option<Runtime>,
}

/// What a server is started from.
pub struct Parts {
    pub settings: Vec<(&'static str, String)>,
    pub engines: Engines,
    pub metrics: Metrics,
    pub intervals: Intervals,
}

impl Running {
    /// Starts a server and does not wait until it is ready.
    #[track_caller]
    pub fn start(parts: Parts) -> Running {
        let Parts {
            settings,
            engines,
            metrics,
            intervals,
        } = parts;
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
            .with_intervals(intervals);
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
        Running {
            address,
            grpc_address,
            admin,
            stop: Mutex::new(Some(stop)),
            ended: Mutex::new(ended),
            runtime: Some(runtime),
        }
    }

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

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.lock().map(|mut stop| stop.take()));
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

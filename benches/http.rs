//! How long does one request take from socket to socket, and what of that is not the model?
//!
//! The server runs in this process on the bundled models, with two async threads and no log; a blocking client on
//! one keep-alive loopback connection sends a request when it has the answer to the last. The peer is
//! `/health/live`, which passes the same layers and touches no model: the difference is JSON, queue and model. The
//! allocator is the binary's.
//!
//! `cargo bench --bench http`

mod support;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use onnxd::config::Config;
use onnxd::config::load::Sources;
use onnxd::server::Server;
use onnxd::shutdown::Stop;
use onnxd::telemetry::metrics::Metrics;
use support::{Client, digits_rows, iris_rows, post, wait_until_ready};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn latency(criterion: &mut Criterion) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the async runtime starts");
    let server = runtime.block_on(Server::build(config(), Metrics::new()));
    let server = server.expect("loopback has a free port");
    let address = server.address();
    let (stop, stopped) = oneshot::channel();
    let running =
        runtime.spawn(server.run_until(async { stopped.await.unwrap_or(Stop::Interrupt) }));
    wait_until_ready(address);

    let mut group = criterion.benchmark_group("latency");
    let mut client = Client::connect(address);
    for (name, request) in [
        (
            "health",
            b"GET /health/live HTTP/1.1\r\nhost: bench\r\n\r\n".to_vec(),
        ),
        ("iris, 1 row", post("/predict", &iris_rows(1))),
        ("digits, 32 rows", post("/predict/digits", &digits_rows(32))),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_eq!(client.send(&request), 200))
        });
    }
    group.finish();

    drop(client);
    stop.send(Stop::Interrupt).expect("the server still runs");
    let ended = runtime
        .block_on(running)
        .expect("the server does not panic");
    ended.expect("the server ends well");
}

fn config() -> Config {
    let flags = [
        ("server.address", "127.0.0.1"),
        ("server.port", "0"),
        ("server.grpc_port", "off"),
        ("repository.path", "models"),
    ];
    let sources = Sources {
        flags: flags.map(|(key, value)| (key, value.to_owned())).to_vec(),
        ..Sources::default()
    };
    Config::load(&sources).expect("the settings are valid")
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_secs(2))
        .measurement_time(Duration::from_secs(10))
}

criterion_group! { name = benches; config = settings(); targets = latency }
criterion_main!(benches);

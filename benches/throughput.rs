//! How much of a bare axum server's throughput is left when it serves a real model?
//!
//! The model is the tiny one (iris, one row of JSON), so nearly all of the cost is the server's own. The peer is an
//! axum handler that only echoes the body. Both run as processes of their own on the same cores, loaded by wrk over
//! 16 keep-alive connections, in turns, so that what slows the machine slows both; read the ratios. Then the same
//! load on cheaper routes and with less turned on shows where the rest goes.
//!
//! `cargo bench --bench throughput` (needs Debian's `wrk`)

mod support;

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use support::{IRIS_BODY, Process, median, wrk};

const ROUNDS: usize = 5;
const CONNECTIONS: usize = 16;
const TIME: Duration = Duration::from_secs(3);
const ECHO: &str = "--echo";

fn main() {
    match std::env::args().any(|argument| argument == ECHO) {
        true => echo(),
        false => compare(),
    }
}

struct Contender {
    name: &'static str,
    url: String,
    body: Option<&'static str>,
    rates: Vec<f64>,
}

fn compare() {
    let echo = Process::own(ECHO);
    let onnxd = Process::onnxd(&[]);
    let silent = Process::onnxd(&[("RUST_LOG", "off")]);
    let contender = |name, server: &Process, path: &str, body| Contender {
        name,
        url: format!("http://{}{path}", server.address),
        body,
        rates: Vec::new(),
    };
    let mut contenders = [
        contender("axum echo", &echo, "/", Some(IRIS_BODY)),
        contender("onnxd /predict", &onnxd, "/predict", Some(IRIS_BODY)),
        contender(
            "onnxd /predict, log off",
            &silent,
            "/predict",
            Some(IRIS_BODY),
        ),
        contender(
            "onnxd GET /v2 (layers, metrics, log; no model)",
            &onnxd,
            "/v2",
            None,
        ),
        contender("onnxd GET /v2, log off", &silent, "/v2", None),
    ];
    for _ in 0..ROUNDS {
        for contender in &mut contenders {
            let load = wrk(&contender.url, contender.body, CONNECTIONS, TIME);
            assert_eq!(load.errors, 0, "{} failed requests", contender.name);
            contender.rates.push(load.requests_per_second);
        }
    }
    let rates = contenders
        .each_ref()
        .map(|contender| median(contender.rates.clone()));
    println!(
        "{:<50} {:>12} {:>8}",
        "16 connections, median of rounds", "requests/s", "of echo"
    );
    for (contender, rate) in contenders.iter().zip(rates) {
        println!(
            "{:<50} {rate:>12.0} {:>7.0}%",
            contender.name,
            100.0 * rate / rates[0]
        );
    }
    let [echo, predict, silent, layers, silent_layers] = rates.map(|rate| 1e6 / rate);
    println!(
        "machine time of a request: echo {echo:.1} µs + layers and metrics {:.1} µs + access log {:.1} µs + JSON, queue and \
         model {:.1} µs = {predict:.1} µs (log measured twice: {:.1} and {:.1} µs)",
        silent_layers - echo,
        predict - silent,
        silent - silent_layers,
        predict - silent,
        layers - silent_layers,
    );
}

#[tokio::main]
async fn echo() {
    let router = Router::new().route("/", post(|body: Bytes| async move { body }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    println!(
        "{}",
        listener
            .local_addr()
            .expect("a bound socket has an address")
    );
    loop {
        let (stream, _) = listener
            .accept()
            .await
            .expect("loopback connections are accepted");
        stream
            .set_nodelay(true)
            .expect("a fresh socket takes the option");
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

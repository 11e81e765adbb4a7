//! How much of a bare axum server's throughput is left when it serves a real model?
//!
//! The model is the tiny one (iris, one row of JSON), so nearly all of the cost is the server's own. The peer is an
//! axum handler that only echoes the body. Both run as processes of their own on the same cores, loaded by wrk over
//! 16 keep-alive connections, in short turns, so that what slows the machine slows both; each ratio is the median of
//! those within a round. Then the same
//! load on cheaper routes and with less turned on shows where the rest goes.
//!
//! `cargo bench --bench throughput` (needs Debian's `wrk`)

mod support;

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use support::{IRIS_BODY, Process, median, wrk};

const ROUNDS: usize = 9;
const CONNECTIONS: usize = 16;
const TIME: Duration = Duration::from_secs(2);
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
    let of_echo = |rates: &[f64]| {
        let ratios = rates
            .iter()
            .zip(&contenders[0].rates)
            .map(|(rate, echo)| rate / echo);
        median(ratios.collect())
    };
    println!(
        "{:<50} {:>12} {:>8}",
        "16 connections, median of rounds", "requests/s", "of echo"
    );
    for Contender { name, rates, .. } in &contenders {
        println!(
            "{name:<50} {:>12.0} {:>7.0}%",
            median(rates.clone()),
            100.0 * of_echo(rates)
        );
    }
    // In units of the echo's own cost, so that what slows the whole machine cancels out.
    let [_, predict, silent, layers, silent_layers] = contenders
        .each_ref()
        .map(|contender| 1.0 / of_echo(&contender.rates));
    println!(
        "a request costs {predict:.2} times the echo: 1 for HTTP itself, {:.2} for layers and metrics, {:.2} for the access \
         log ({:.2} without a model), {:.2} for JSON, queue and model",
        silent_layers - 1.0,
        predict - silent,
        layers - silent_layers,
        silent - silent_layers,
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

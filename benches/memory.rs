//! Does the process's memory stay level however many requests it has served?
//!
//! The real binary answers a mix over eight keep-alive connections: one and 100 rows of iris, eight of digits, and
//! requests that are refused as malformed, misshapen or for no model. Resident memory is read after 10,000 requests,
//! when every buffer and thread has been used, and after 100,000; each time once it has settled. There is no peer:
//! a ratio near 1 means that nothing is kept per request.
//!
//! `cargo bench --bench memory`

mod support;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use support::{Client, Process, digits_rows, iris_rows, pause, post};

const FEW: usize = 10_000;
const MANY: usize = 100_000;
const CONNECTIONS: usize = 8;
/// Memory has settled when so many readings in a row, a tenth of a second apart, differ by less than a hundredth.
const STEADY_READINGS: usize = 10;
const LONGEST_SETTLING: Duration = Duration::from_secs(15);

fn main() {
    let onnxd = Process::onnxd(&[]);
    let fresh = settled_bytes(&onnxd);
    send(&onnxd, FEW);
    let few = settled_bytes(&onnxd);
    send(&onnxd, MANY - FEW);
    let many = settled_bytes(&onnxd);
    let report =
        |when: &str, bytes: u64| println!("{when:<26} {:>7.1} MiB", bytes as f64 / 1048576.0);
    report("before the first request", fresh);
    report("after 10,000 requests", few);
    report("after 100,000 requests", many);
    println!(
        "{:<26} {:>7.3}",
        "ratio of the last two",
        many as f64 / few as f64
    );
}

/// Sends `count` requests of the mix, each connection beginning at another place in it.
fn send(onnxd: &Process, count: usize) {
    let mix = [
        (200, post("/predict", &iris_rows(1))),
        (200, post("/predict", &iris_rows(100))),
        (200, post("/predict/digits", &digits_rows(8))),
        (400, post("/predict", r#"{"instances": [[5.1, 3.5"#)),
        (200, post("/predict/iris/1", &iris_rows(1))),
        (400, post("/predict", r#"{"instances": [[5.1, 3.5, 1.4]]}"#)),
        (200, post("/predict", &iris_rows(1))),
        (404, post("/predict/nothing", &iris_rows(1))),
    ];
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let requests = mix
                .iter()
                .cycle()
                .skip(connection)
                .take(count / CONNECTIONS);
            scope.spawn(move || {
                let mut client = Client::connect(onnxd.address);
                for (status, request) in requests {
                    assert_eq!(client.send(request), *status);
                }
            });
        }
    });
}

/// The resident memory once it is steady, or at least after a while.
fn settled_bytes(onnxd: &Process) -> u64 {
    let give_up = Instant::now() + LONGEST_SETTLING;
    let mut readings = VecDeque::new();
    loop {
        let now = onnxd.resident_bytes();
        readings.push_back(now);
        if readings.len() > STEADY_READINGS {
            readings.pop_front();
        }
        let is_steady = readings.len() == STEADY_READINGS
            && readings
                .iter()
                .all(|&bytes| bytes.abs_diff(now) < now / 100);
        if is_steady || Instant::now() > give_up {
            return now;
        }
        pause(Duration::from_millis(100));
    }
}

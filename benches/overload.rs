//! Does health stay quick when inference is overloaded, and how much of the capacity is left for what is accepted?
//!
//! The real binary serves digits version 2 with 128 rows a request, some milliseconds each, and a queue of eight
//! such requests. Three rounds, so that what slows the machine slows all phases: health without load; then the
//! capacity, by a closed loop of two connections for each inference thread, so that a worker never waits for its
//! client and nothing is refused; then twice that rate in an open loop, 64 connections with a fixed schedule each,
//! which a refusal or a slow answer does not change. Load and server share the machine. `/health/live` and
//! `/health/ready` are each asked 50 times a second, over a new connection every time, as Kubernetes does; a probe
//! that could not begin in time counts from when it was due. There is no peer: the figures under load stand beside
//! those without.
//!
//! `cargo bench --bench overload`

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::{Client, LoadPlan, Process, Statuses, digits_rows, median, pause, post};

const ROWS: usize = 128;
const QUEUED_REQUESTS: usize = 8;
const CONNECTIONS: usize = 64;
const OVERLOAD: f64 = 2.0;
const ROUNDS: usize = 3;
const CALM_TIME: Duration = Duration::from_secs(4);
const LOADED_TIME: Duration = Duration::from_secs(10);
const PROBE_INTERVAL: Duration = Duration::from_millis(20);

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let onnxd = Process::onnxd(&[
        ("ONNXD_INFERENCE__THREADS", &threads.to_string()),
        (
            "ONNXD_INFERENCE__QUEUE_ROWS",
            &(ROWS * QUEUED_REQUESTS).to_string(),
        ),
    ]);
    let request = post("/predict/digits/2", &digits_rows(ROWS));
    let plan = |connections, interval, time| LoadPlan {
        address: onnxd.address,
        request: &request,
        connections,
        interval,
        time,
    };

    let (mut calm, mut loaded, mut rounds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        calm.extend(probe(onnxd.address, CALM_TIME));
        let closed = plan(2 * threads, Duration::ZERO, CALM_TIME).run();
        assert!(closed.keys().eq([&200]), "the closed loop fits: {closed:?}");
        let capacity = rate(&closed, 200, CALM_TIME);

        let interval = Duration::from_secs_f64(CONNECTIONS as f64 / (OVERLOAD * capacity));
        let open = plan(CONNECTIONS, interval, LOADED_TIME);
        let (answers, health) = std::thread::scope(|scope| {
            let health = scope.spawn(|| probe(onnxd.address, LOADED_TIME));
            (open.run(), health.join().expect("health was always 200"))
        });
        let are_expected = answers.keys().all(|status| [200, 429].contains(status));
        assert!(are_expected, "only 200 and 429: {answers:?}");
        loaded.extend(health);
        rounds.push(Round { capacity, answers });
    }
    report(threads, &rounds);
    println!("health without load     {}", percentiles(calm));
    println!("health under overload   {}", percentiles(loaded));
}

/// One capacity, and what became of twice that.
struct Round {
    capacity: f64,
    answers: Statuses,
}

impl Round {
    fn answered(&self, status: u16) -> f64 {
        rate(&self.answers, status, LOADED_TIME)
    }
}

fn report(threads: usize, rounds: &[Round]) {
    let line = |what: &str, unit: &str, value: &dyn Fn(&Round) -> f64| {
        let values: Vec<_> = rounds.iter().map(value).collect();
        println!("{what:<23} {:>8.0} {unit}", median(values));
    };
    let total = |status| -> u64 {
        rounds
            .iter()
            .map(|round| count(&round.answers, status))
            .sum()
    };
    let unit = format!("requests/s of {ROWS} rows, {threads} inference threads");
    line("capacity", &unit, &|round| round.capacity);
    line("offered", "requests/s", &|round| {
        round.answered(200) + round.answered(429)
    });
    line(
        "answered 200",
        &format!("requests/s, {} in all", total(200)),
        &|round| round.answered(200),
    );
    line(
        "answered 429",
        &format!("requests/s, {} in all", total(429)),
        &|round| round.answered(429),
    );
    line("accepted of capacity", "%", &|round| {
        100.0 * round.answered(200) / round.capacity
    });
}

fn count(answers: &Statuses, status: u16) -> u64 {
    answers.get(&status).copied().unwrap_or(0)
}

fn rate(answers: &Statuses, status: u16, time: Duration) -> f64 {
    count(answers, status) as f64 / time.as_secs_f64()
}

/// Asks for health until the time is up; returns how long each answer took.
fn probe(address: SocketAddr, time: Duration) -> Vec<Duration> {
    let start = Instant::now();
    let mut took = Vec::new();
    let mut due = start;
    while due < start + time {
        let is_late = Instant::now() > due;
        pause(due.saturating_duration_since(Instant::now()));
        let mut asked = if is_late { due } else { Instant::now() };
        for path in ["/health/live", "/health/ready"] {
            let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n");
            let status = Client::connect(address).send(request.as_bytes());
            assert_eq!(status, 200, "{path}");
            took.push(asked.elapsed());
            asked = Instant::now();
        }
        due += PROBE_INTERVAL;
    }
    took
}

fn percentiles(mut took: Vec<Duration>) -> String {
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let (median, p99, longest) = (at(0.5), at(0.99), at(1.0));
    format!(
        "p50 {median:>6.2} ms, p99 {p99:>6.2} ms, longest {longest:>6.2} ms, {} probes",
        took.len()
    )
}

//! Does a server that measures for itself when to join requests serve as well as the better of the two usual settings,
//! whatever the load, and what becomes of the requests that it cannot serve?
//!
//! Two networks: a recurrent one, whose rows are cheaper joined, and convolutions, whose rows are not. Each is served by
//! three processes of the real binary at once, of which one is loaded at a time: with nothing set but a latency target;
//! with batching off (`max_batch_rows = 1`); and with the classic fixed delay (batches of up to 32 rows that wait 5 ms to
//! fill). The latency target is the same for all three, and the engine is the one that ours chose. Requests of one row
//! come in an open loop, at equal distances and as a Poisson process (the same arrivals for all three), at 50 to 200 % of
//! the capacity, which is what the best of the three answers to more than that. The three take turns in each round, so
//! that what slows the machine slows all. One half of the machine's CPUs has the servers and the other one the load, so
//! that a server does not lack what refused requests cost their senders; what is told of each load is from half a second
//! on. What is told is the median of the rounds, and of the rounds' ratios. `p99` is of accepted requests, from when each
//! was due.
//!
//! In the comparison each load stands for itself: the answers a second against the better of the other two, and p99
//! against the better of those of the other two that answer as much; one that refuses most has it easy with the rest.
//! Ours is worse where the median of the ratios says so and the quartile on that side does as well: three rounds of four.
//! The peak is where ours answered the most. Of ten loads that is one that had luck too, so that an overload is compared with
//! it in rounds of their own, side by side.
//!
//! `cargo bench --bench batching -- [--rounds 12] [--seconds 1] [--network NAME] [--load 200]`; ORT_DYLIB_PATH names
//! ONNX Runtime. A third network, `light`, has convolutions whose rows cost little more than reading them.

mod support;

use std::cmp::Ordering;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use support::onnx::{Convolutions, INPUT, OUTPUT, Recurrent};
use support::open_loop::{Arrivals, Outcome, Target};
use support::{Cpus, Process, Statuses, get, median, pause};

/// Shares of the capacity, in hundredths.
const LOADS: [u32; 5] = [50, 80, 95, 120, 200];
const OVERLOAD: u32 = 200;
const ARRIVALS: [Arrivals; 2] = [Arrivals::Constant, Arrivals::Poisson];
/// So long each load goes on before answers are counted: connections are opened, and queues come to stand.
const LEAD_IN: Duration = Duration::from_millis(500);
const WARM_UP: Duration = Duration::from_secs(2);
/// So often each is overloaded once all are warm.
const CAPACITY_ROUNDS: usize = 3;
const MOST_WARM_UPS: usize = 15;
const CLIENTS: usize = 96;
/// How much worse than the better of the others is as good.
const TOLERANCE: f64 = 0.05;
/// The cap of the classic setting.
const BATCH_ROWS: usize = 32;

/// A network and how long its answers may take.
struct Network {
    name: &'static str,
    file: Vec<u8>,
    row: &'static [usize],
    latency_target_ms: u64,
}

fn networks() -> [Network; 3] {
    let recurrent = Recurrent {
        steps: 24,
        features: 64,
        hidden: 512,
        classes: 10,
    };
    let convolutions = |channels| Convolutions {
        side: 64,
        channels,
        classes: 10,
    };
    [
        Network {
            name: "recurrent",
            file: recurrent.file(),
            row: &[24, 64],
            latency_target_ms: 60,
        },
        Network {
            name: "convolutions",
            file: convolutions(&[96, 192, 288, 384, 480, 576]).file(),
            row: &[3, 64, 64],
            latency_target_ms: 120,
        },
        // A row takes a quarter of a millisecond, so that reading it counts.
        Network {
            name: "light",
            file: convolutions(&[32, 64, 96, 128, 160, 192]).file(),
            row: &[3, 64, 64],
            latency_target_ms: 120,
        },
    ]
}

/// A way to serve a network, what its `model.toml` says, and what was measured of it.
struct Contender {
    name: &'static str,
    settings: String,
    server: Process,
}

impl Contender {
    fn target<'a>(&self, request: &'a [u8]) -> Target<'a> {
        Target {
            address: self.server.address,
            request,
        }
    }
}

fn main() {
    let options = Options::read();
    let [load, server] = Cpus::halves();
    load.confine_this_process();
    let mut all_hold = true;
    for network in networks() {
        if options
            .network
            .as_ref()
            .map_or(network.name != "light", |wanted| wanted == network.name)
        {
            all_hold &= compare(&network, &server, &options);
        }
    }
    println!(
        "{}",
        if all_hold {
            "every verdict holds"
        } else {
            "NOT every verdict holds"
        }
    );
}

struct Options {
    rounds: usize,
    time: Duration,
    network: Option<String>,
    load: Option<u32>,
}

impl Options {
    fn read() -> Options {
        let arguments: Vec<String> = std::env::args().collect();
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            arguments.get(at + 1).cloned()
        };
        let number = |name, otherwise: f64| {
            value(name).map_or(otherwise, |text| text.parse().expect("a number"))
        };
        Options {
            rounds: number("--rounds", 12.0) as usize,
            time: Duration::from_secs_f64(number("--seconds", 1.0)),
            network: value("--network"),
            load: value("--load").map(|load| load.parse().expect("a number")),
        }
    }
}

/// Measures one network and prints what came of it; whether every verdict holds.
fn compare(network: &Network, cpus: &Cpus, options: &Options) -> bool {
    let request = request(network);
    let contenders = contenders(network, cpus, &request);
    // Only now does none of them measure any more while another one is loaded.
    let capacities = contenders
        .each_ref()
        .map(|contender| capacity(&contender.target(&request)));
    for (contender, capacity) in contenders.iter().zip(&capacities) {
        println!("{}", line_of(contender, Some(*capacity)));
    }
    let capacity = capacities.into_iter().fold(0.0, f64::max);
    println!(
        "{}: capacity {capacity:.0} requests/s of one row ({} bytes), latency target {} ms",
        network.name,
        request.len(),
        network.latency_target_ms
    );
    let measure = |contender: &Contender, load: u32, arrivals: Arrivals, round: usize| {
        let rate = capacity * f64::from(load) / 100.0;
        let seed = u64::from(load) + 1000 * round as u64;
        let schedule = arrivals.schedule(rate, LEAD_IN + options.time, seed);
        contender.target(&request).open_loop(&schedule, LEAD_IN)
    };
    let loads = LOADS.into_iter();
    let loads = loads.filter(|load| options.load.is_none_or(|wanted| wanted == *load));
    let mut cells: Vec<Cell> = Vec::new();
    for round in 0..options.rounds {
        for load in loads.clone() {
            for arrivals in ARRIVALS {
                // Whoever comes first in one round comes later in the next.
                for turn in 0..contenders.len() {
                    let at = (turn + round) % contenders.len();
                    let outcome = measure(&contenders[at], load, arrivals, round);
                    let key = (load, arrivals, contenders[at].name);
                    let cell = match cells.iter_mut().find(|cell| cell.key == key) {
                        Some(cell) => cell,
                        None => {
                            cells.push(Cell::new(key));
                            cells.last_mut().expect("it was just pushed")
                        }
                    };
                    cell.add(outcome, options.time);
                }
            }
        }
    }
    print_table(network, &cells);
    let peak = peak(&cells);
    let overloads = ARRIVALS.map(|arrivals| {
        let loads = [(OVERLOAD, arrivals), (peak.key.0, peak.key.1)];
        let mut answers = [Vec::new(), Vec::new()];
        for round in options.rounds..2 * options.rounds {
            for turn in 0..loads.len() {
                let at = (turn + round) % loads.len();
                let (load, arrivals) = loads[at];
                let outcome = measure(&contenders[0], load, arrivals, round);
                answers[at].push(outcome.accepted.len() as f64);
            }
        }
        let [overload, peak] = answers;
        (arrivals, Ratio::of(&overload, &peak))
    });
    let batch = longest_batch(&contenders[0].server);
    for contender in &contenders {
        println!("{}", line_of(contender, None));
    }
    judge(network, &cells, &overloads, batch)
}

/// Ours, and then the others on the engine that ours has chosen: how rows are joined is in question here. All are warm.
fn contenders(network: &Network, cpus: &Cpus, request: &[u8]) -> [Contender; 3] {
    let warm = |name, settings| {
        let contender = start(network, cpus, name, settings);
        warm_up(&contender, request);
        contender
    };
    let target = format!("latency_target_ms = {}\n", network.latency_target_ms);
    let ours = warm("ours", target.clone());
    let common = format!("{target}engine = {}\n", health(&ours.server)["engine"]);
    let off = format!("{common}max_batch_rows = 1\n");
    let fixed = format!(
        "{common}max_batch_rows = {BATCH_ROWS}\npreferred_batch_rows = [{BATCH_ROWS}]\nmax_queue_delay_us = 5000\n"
    );
    [ours, warm("batching off", off), warm("fixed 5 ms", fixed)]
}

fn start(network: &Network, cpus: &Cpus, name: &'static str, settings: String) -> Contender {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("batching/{}/{name}", network.name));
    std::fs::create_dir_all(folder.join("m/1")).expect("the target folder is writable");
    let write = |file: &str, contents: &[u8]| {
        std::fs::write(folder.join(file), contents).expect("the target folder is writable");
    };
    write("m/1/model.onnx", &network.file);
    write("m/model.toml", settings.as_bytes());
    Contender {
        name,
        settings: settings.replace('\n', " "),
        server: Process::onnxd_on(cpus, &folder, &[("RUST_LOG", "warn,onnxd::serving=info")]),
    }
}

/// A request of one row with a binary body and a binary answer, so that neither side spends its time on JSON.
fn request(network: &Network) -> Vec<u8> {
    let elements: usize = network.row.iter().product();
    let row = (0..elements).map(|at| (at * 37 % 101) as f32 / 50.0 - 1.0);
    let row: Vec<u8> = row.flat_map(f32::to_le_bytes).collect();
    let shape: Vec<usize> = [1].into_iter().chain(network.row.iter().copied()).collect();
    let json = json!({
        "inputs": [{ "name": INPUT, "shape": shape, "datatype": "FP32", "parameters": { "binary_data_size": row.len() } }],
        "outputs": [{ "name": OUTPUT, "parameters": { "binary_data": true } }],
    })
    .to_string();
    let head = format!(
        "POST /v2/models/m/infer HTTP/1.1\r\nhost: bench\r\ninference-header-content-length: {}\r\ncontent-length: {}\r\n\r\n",
        json.len(),
        json.len() + row.len()
    );
    [head.as_bytes(), json.as_bytes(), &row].concat()
}

/// Loads a server until its choice of engine stands.
fn warm_up(contender: &Contender, request: &[u8]) {
    let mut steady = 0;
    let mut engine = engine_of(&contender.server);
    for _ in 0..MOST_WARM_UPS {
        if steady == 4 {
            break;
        }
        contender.target(request).closed_loop(CLIENTS, WARM_UP);
        // Measuring takes turns with requests, and pauses.
        pause(Duration::from_millis(500));
        let now = engine_of(&contender.server);
        steady = if now == engine { steady + 1 } else { 0 };
        engine = now;
    }
}

/// What a warm server answers a second when it is sent twice of what a closed loop reaches.
fn capacity(target: &Target<'_>) -> f64 {
    let rate = 2.0 * target.closed_loop(CLIENTS, WARM_UP);
    let round = |seed: usize| {
        let schedule = Arrivals::Poisson.schedule(rate, LEAD_IN + WARM_UP, seed as u64);
        let answered = target.open_loop(&schedule, LEAD_IN).accepted.len();
        answered as f64 / WARM_UP.as_secs_f64()
    };
    median((0..CAPACITY_ROUNDS).map(round).collect())
}

fn health(server: &Process) -> Value {
    let answer = get(server.address, "/health");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str::<Value>(body).expect("health is JSON")["models"][0].take()
}

fn engine_of(server: &Process) -> String {
    let model = health(server);
    format!(
        "{} on {} × {} threads",
        model["engine"], model["workers"], model["threads_per_worker"]
    )
}

fn line_of(contender: &Contender, capacity: Option<f64>) -> String {
    let model = health(&contender.server);
    let rows = model
        .get("batch_reason")
        .and_then(Value::as_str)
        .unwrap_or("-");
    let reached = capacity.map_or_else(String::new, |capacity| {
        format!("{capacity:.0} answers/s at most; ")
    });
    format!(
        "  {:<13} {}: {reached}{}; {rows}",
        contender.name,
        contender.settings,
        engine_of(&contender.server)
    )
}

/// What was measured of one contender under one load.
struct Cell {
    key: (u32, Arrivals, &'static str),
    answers: Vec<f64>,
    medians: Vec<f64>,
    p99s: Vec<f64>,
    statuses: Statuses,
    latest: Duration,
}

impl Cell {
    fn new(key: (u32, Arrivals, &'static str)) -> Cell {
        Cell {
            key,
            answers: Vec::new(),
            medians: Vec::new(),
            p99s: Vec::new(),
            statuses: Statuses::new(),
            latest: Duration::ZERO,
        }
    }

    fn add(&mut self, outcome: Outcome, time: Duration) {
        let Outcome {
            statuses,
            mut accepted,
            latest,
        } = outcome;
        accepted.sort_unstable();
        let at = |share: f64| {
            let at = (accepted.len().saturating_sub(1) as f64 * share) as usize;
            accepted
                .get(at)
                .map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
        };
        self.medians.push(at(0.5));
        self.p99s.push(at(0.99));
        self.answers
            .push(accepted.len() as f64 / time.as_secs_f64());
        self.latest = self.latest.max(latest);
        for (status, count) in statuses {
            *self.statuses.entry(status).or_default() += count;
        }
    }

    fn rate(&self) -> f64 {
        median(self.answers.clone())
    }

    fn p99(&self) -> f64 {
        median(self.p99s.clone())
    }
}

fn print_table(network: &Network, cells: &[Cell]) {
    println!(
        "| {} | arrivals | served by | answers/s | p50 ms | p99 ms | by status | load late by ms |",
        network.name
    );
    println!("| --- | --- | --- | ---: | ---: | ---: | --- | ---: |");
    for cell in cells {
        let (load, arrivals, name) = cell.key;
        let statuses: Vec<_> = cell
            .statuses
            .iter()
            .map(|(status, count)| format!("{status}: {count}"))
            .collect();
        println!(
            "| {load} % | {arrivals} | {name} | {:.0} | {:.1} | {:.1} | {} | {:.1} |",
            cell.rate(),
            median(cell.medians.clone()),
            cell.p99(),
            statuses.join(", "),
            cell.latest.as_secs_f64() * 1e3
        );
    }
}

/// The mean time of the slowest size of batch that was usual.
fn longest_batch(server: &Process) -> Duration {
    let answer = get(server.address, "/v2/models/m/stats");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let stats: Value = serde_json::from_str(body).expect("statistics are JSON");
    let batches = stats["model_stats"][0]["batch_stats"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let counted = |batch: &Value| {
        let infer = &batch["compute_infer"];
        (
            infer["count"].as_f64().unwrap_or(0.0),
            infer["ns"].as_f64().unwrap_or(0.0),
        )
    };
    let all: f64 = batches.iter().map(|batch| counted(batch).0).sum();
    let usual = batches
        .iter()
        .map(counted)
        .filter(|(count, _)| *count >= all / 100.0);
    Duration::from_nanos(
        usual
            .map(|(count, nanos)| nanos / count)
            .fold(0.0, f64::max) as u64,
    )
}

/// Where ours answered the most.
fn peak(cells: &[Cell]) -> &Cell {
    let ours = cells.iter().filter(|cell| cell.key.2 == "ours");
    ours.max_by(by_rate).expect("loads were measured")
}

fn by_rate(a: &&Cell, b: &&Cell) -> Ordering {
    a.rate().total_cmp(&b.rate())
}

/// Prints the verdicts; whether all of them hold.
fn judge(
    network: &Network,
    cells: &[Cell],
    overloads: &[(Arrivals, Ratio)],
    batch: Duration,
) -> bool {
    let of = |name: &'static str| cells.iter().filter(move |cell| cell.key.2 == name);
    let mut all_hold = true;
    let mut verdict = |holds: bool, what: String| {
        all_hold &= holds;
        println!(
            "{} {}: {what}",
            if holds { "holds:" } else { "FAILS:" },
            network.name
        );
    };
    let peak = peak(cells);
    let (load, arrive, _) = peak.key;
    for (arrivals, share) in overloads {
        verdict(
            share.is_as_much(),
            format!(
                "overload, {arrivals} arrivals: {share} of the peak ({:.0}/s at {load} %, {arrive})",
                peak.rate()
            ),
        );
    }
    let bound = network.latency_target_ms as f64 + batch.as_secs_f64() * 1e3;
    let worst = of("ours").map(Cell::p99).fold(0.0, f64::max);
    verdict(
        worst <= bound,
        format!("p99 of accepted is at most {worst:.1} ms; target and one batch are {bound:.1} ms"),
    );
    let others: Statuses = of("ours")
        .flat_map(|cell| cell.statuses.clone())
        .filter(|(status, _)| ![200, 429].contains(status))
        .collect();
    verdict(
        others.is_empty(),
        format!("nothing but 200 and 429 ({others:?} beside)"),
    );
    for ours in of("ours") {
        let (load, arrivals, _) = ours.key;
        let is_other =
            |cell: &&Cell| (cell.key.0, cell.key.1) == (load, arrivals) && cell.key.2 != "ours";
        let others: Vec<_> = cells.iter().filter(is_other).collect();
        let most = others.iter().copied().max_by(by_rate);
        let most = most.expect("there are two");
        let share = Ratio::of(&ours.answers, &most.answers);
        verdict(
            share.is_as_much(),
            format!(
                "{load} %, {arrivals}: {share} of the better one's answers/s ({:.0}, {})",
                most.rate(),
                most.key.2
            ),
        );
        let as_much =
            |cell: &&&Cell| Ratio::of(&cell.answers, &ours.answers).median >= 1.0 - TOLERANCE;
        let by_p99 = |a: &&&Cell, b: &&&Cell| a.p99().total_cmp(&b.p99());
        if let Some(soonest) = others.iter().filter(as_much).min_by(by_p99) {
            let share = Ratio::of(&ours.p99s, &soonest.p99s);
            verdict(
                share.is_as_little(),
                format!(
                    "{load} %, {arrivals}: {share} of the better one's p99 ({:.1} ms, {})",
                    soonest.p99(),
                    soonest.key.2
                ),
            );
        }
    }
    all_hold
}

/// What the rounds say, in each of which both took their turns: the median of the ratios, and their quartiles.
struct Ratio {
    lower: f64,
    median: f64,
    upper: f64,
}

impl Ratio {
    fn of(these: &[f64], those: &[f64]) -> Ratio {
        let ratios = these.iter().zip(those).map(|(this, that)| this / that);
        let mut ratios: Vec<f64> = ratios.collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let last = ratios.len() - 1;
        Ratio {
            lower: ratios[last / 4],
            median: ratios[last / 2],
            upper: ratios[last - last / 4],
        }
    }

    /// Whether three rounds of four do not show that it is less.
    fn is_as_much(&self) -> bool {
        self.median >= 1.0 - TOLERANCE || self.upper >= 1.0
    }

    /// Whether three rounds of four do not show that it is more.
    fn is_as_little(&self) -> bool {
        self.median <= 1.0 + TOLERANCE || self.lower <= 1.0
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ratio {
            lower,
            median,
            upper,
        } = self;
        write!(f, "{median:.3} ({lower:.3} to {upper:.3})")
    }
}

//! Does `engine = "auto"` serve as fast as the fastest engine alone?
//!
//! Every model is served four times in this process, by each engine alone and by `auto`, which sees a hundred requests
//! of one row, and later of eight, and may choose. Then as many workers as the choice says, two or one on two threads, run
//! it without a pause: what is compared is the engines and the choice, not how requests get to them. The four take turns,
//! a fifth of a second each, and what is told is the median of the rounds: rows a second, and for `auto` the ratio to the
//! fastest of the others in the same round. The allocator is the binary's.
//!
//! `cargo bench --bench engines [FOLDER or FILE…]`; without, the bundled models and those that
//! `./tests/run.sh models` and `exports` have left under target/. ORT_DYLIB_PATH names ONNX Runtime.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use onnxd::config::load::Sources;
use onnxd::config::{Config, EngineRules, ModelsConfig};
use onnxd::engine::{Engines, STACK_BYTES, Session};
use onnxd::in_flight::{RequestBudget, Room};
use onnxd::repository::store::Local;
use onnxd::serving::batcher::Size;
use onnxd::serving::board::Board;
use onnxd::serving::budget::ComputeBudget;
use onnxd::serving::choosing::{Chooser, Intervals};
use onnxd::serving::deployment::{Deployment, Machinery};
use onnxd::serving::knobs::Defaults;
use onnxd::serving::lane::Request;
use onnxd::serving::memory::Ledger;
use onnxd::serving::orders;
use onnxd::serving::reconcile::Reconciler;
use onnxd::serving::registry::Registry;
use onnxd::telemetry::metrics::{Metrics, PlanCacheMetrics};
use onnxd::tensor::sample::Sample;
use onnxd::tensor::signature::{CheckedInputs, TensorSpec};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WORKERS: usize = 2;
const BATCHES: [usize; 2] = [1, 8];
const ROUNDS: usize = 9;
const TURN: Duration = Duration::from_millis(200);
/// So many requests tell `auto` how the model is used.
const REQUESTS_FIRST: usize = 100;
/// How long they may take.
const FIRST_FOR: Duration = Duration::from_secs(10);
/// What dynamic dimensions beside the rows are, where a model's name has this in it: images, lines of text, tokens.
const LENGTHS: [(&str, usize); 3] = [("det_infer", 320), ("rec_infer", 320), ("minilm", 32)];
const FOLDERS: [&str; 3] = ["models", "target/packages", "target/exports"];

fn main() {
    let sources = Sources::of_process(None, Vec::new());
    let config = Config::load(&sources).expect("the environment's settings are valid");
    let all = Engines::of_machine(&config.inference.onnxruntime, PlanCacheMetrics::default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS + 1)
        .enable_all()
        .build()
        .expect("the async runtime starts");
    let given: Vec<_> = std::env::args()
        .skip(1)
        .filter(|text| text != "--bench")
        .collect();
    let given = if given.is_empty() {
        FOLDERS.map(str::to_owned).to_vec()
    } else {
        given
    };
    let mut files = Vec::new();
    given
        .iter()
        .for_each(|path| find(Path::new(path), &mut files));
    files.sort();
    println!("rows a second; auto: the engine it chose, and its share of the fastest\n");
    println!(
        "| model | rows | {} | auto | share |",
        all.names().join(" | ")
    );
    println!(
        "| --- | --- | {} --- | --- |",
        "--- | ".repeat(all.names().len())
    );
    let mut shares = Vec::new();
    for file in &files {
        compare(&runtime, &all, file, &mut shares);
    }
    shares.sort_by(f64::total_cmp);
    if let (Some(least), Some(middle)) = (shares.first(), shares.get(shares.len() / 2)) {
        println!(
            "\n{} cells; least share {least:.2}, median {middle:.2}",
            shares.len()
        );
    }
}

fn find(path: &Path, files: &mut Vec<PathBuf>) {
    if path
        .extension()
        .is_some_and(|extension| extension == "onnx")
    {
        files.push(path.to_owned());
    }
    for entry in path.read_dir().into_iter().flatten().flatten() {
        find(&entry.path(), files);
    }
}

fn compare(runtime: &Runtime, all: &Engines, file: &Path, shares: &mut Vec<f64>) {
    let alone = all
        .list()
        .iter()
        .map(|engine| Live::load(Engines::of([engine.clone()]), file));
    let alone: Vec<_> = alone.collect();
    let auto = Live::load(all.clone(), file);
    let Some(deployment) = auto.deployment() else {
        println!("| {} | | no engine serves it |", name(file));
        return;
    };
    for rows in BATCHES {
        let Some(inputs) = inputs(&deployment, file, rows) else {
            continue;
        };
        runtime.block_on(first_requests(
            &auto.deployment().expect("it is served"),
            &inputs,
        ));
        Chooser::new(&auto.registry, auto.machinery.clone(), Intervals::default()).round();
        // An engine that fails where others answer is no peer.
        let verdict = &deployment.facts.verdict;
        let is_sound = |system: &Arc<Deployment>| {
            let finding = verdict.finding(system.loaded.engine);
            finding.is_some_and(|finding| finding.standing.may_serve())
        };
        let systems = alone.iter().chain([&auto]).map(Live::deployment);
        let systems: Vec<_> = systems.map(|system| system.filter(is_sound)).collect();
        let mut rates = vec![Vec::new(); systems.len()];
        let mut round_shares = Vec::new();
        for _ in 0..ROUNDS {
            for (system, rates) in systems.iter().zip(&mut rates) {
                let rate = system.as_ref().map(|system| rows_a_second(system, &inputs));
                rates.push(rate.unwrap_or(0.0));
            }
            let last: Vec<f64> = rates.iter().map(|rates| rates[rates.len() - 1]).collect();
            let (auto, others) = last.split_last().expect("auto is one of them");
            round_shares.push(auto / others.iter().copied().fold(0.0, f64::max));
        }
        let share = median(round_shares);
        let told = rates.into_iter().map(|rates| match median(rates) {
            0.0 => "–".to_owned(),
            rate if rate < 100.0 => format!("{rate:.1}"),
            rate => format!("{rate:.0}"),
        });
        let told: Vec<_> = told.collect();
        let chosen = auto.deployment().map_or("", |auto| auto.loaded.engine);
        println!(
            "| {} | {rows} | {} {chosen} | {share:.2} |",
            name(file),
            told.join(" | ")
        );
        shares.push(share);
    }
}

fn name(file: &Path) -> String {
    let parts: Vec<_> = file
        .iter()
        .rev()
        .take(3)
        .map(|part| part.to_string_lossy())
        .collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}

/// A model that is served.
struct Live {
    registry: Arc<Registry>,
    machinery: Machinery,
}

impl Live {
    fn load(engines: Engines, file: &Path) -> Live {
        let machinery = Machinery {
            engines,
            engine_rules: EngineRules::default(),
            metrics: Metrics::new(),
            budget: Arc::new(ComputeBudget::new(WORKERS, WORKERS + 1)),
            memory: Ledger::boundless(),
            defaults: Defaults {
                queue: Size {
                    rows: 1024,
                    bytes: 1 << 30,
                },
                latency_target: None,
            },
            load_timeout: Duration::from_secs(300),
            trial: None,
        };
        let registry = Arc::new(Registry::default());
        let reconciler = Reconciler {
            source: Arc::new(Local::new(file.to_owned())),
            models: ModelsConfig::default(),
            board: Board::new(registry.clone(), machinery.metrics.clone()),
            machinery: machinery.clone(),
            registry: registry.clone(),
        };
        let (_orders, given) = orders::channel();
        reconciler.run(&given);
        Live {
            registry,
            machinery,
        }
    }

    fn deployment(&self) -> Option<Arc<Deployment>> {
        self.registry.deployments().into_iter().next()
    }
}

/// A request of so many rows, if the model takes such a request.
fn inputs(deployment: &Deployment, file: &Path, rows: usize) -> Option<CheckedInputs> {
    let signature = deployment.signature();
    let sample = deployment.model().sample()?;
    let name = file.to_string_lossy().to_lowercase();
    let length = LENGTHS.iter().find(|(part, _)| name.contains(part));
    let free = length.map_or(sample.free, |(_, length)| *length);
    let is_dynamic = signature.inputs.iter().all(TensorSpec::is_dynamic);
    let sample = Sample {
        rows,
        free,
        seed: 1,
        ..sample
    };
    let inputs = sample.inputs(signature).ok()?;
    let runs = deployment.model().session(1).ok()?.run(&inputs).is_ok();
    (runs && (rows == 1 || is_dynamic)).then_some(inputs)
}

async fn first_requests(deployment: &Arc<Deployment>, inputs: &CheckedInputs) {
    let until = Instant::now() + FIRST_FOR;
    for _ in 0..REQUESTS_FIRST {
        if Instant::now() < until {
            deployment
                .run(Request {
                    inputs: inputs.clone(),
                    deadline: far(),
                    priority: None,
                    room: Room::new(RequestBudget::new(usize::MAX).hold(), 1),
                })
                .await
                .expect("the model runs");
        }
    }
}

/// Keeps the workers busy for a turn.
fn rows_a_second(deployment: &Deployment, inputs: &CheckedInputs) -> f64 {
    let model = deployment.model();
    let sessions = (0..deployment.split.workers).map(|_| model.session(deployment.split.threads));
    let sessions: Vec<_> = sessions
        .map(|session| session.expect("the model runs"))
        .collect();
    let began = Instant::now();
    let rates = thread::scope(|scope| {
        let worker = |mut session: Box<dyn Session>| {
            move || {
                let mut runs = 0;
                while began.elapsed() < TURN {
                    session.run(inputs).expect("the model runs");
                    runs += 1;
                }
                f64::from(runs) / began.elapsed().as_secs_f64()
            }
        };
        let workers = sessions.into_iter().map(|session| {
            let builder = thread::Builder::new().stack_size(STACK_BYTES);
            builder.spawn_scoped(scope, worker(session))
        });
        let workers: Vec<_> = workers
            .map(|worker| worker.expect("a thread starts"))
            .collect();
        let rates = workers
            .into_iter()
            .map(|worker| worker.join().expect("no worker panics"));
        rates.sum::<f64>()
    });
    let rows = inputs
        .tensors()
        .first()
        .and_then(|input| input.shape().dims().first());
    rates * rows.copied().unwrap_or(1) as f64
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

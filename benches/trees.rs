//! Is a tree ensemble at least as fast as in ONNX Runtime, whatever its size and the batch?
//!
//! Forests and boosted trees that scikit-learn trained (`support/tree_models.py`), one thread each side. Ours is timed
//! through the engine contract, the way a worker calls it: one session, checked inputs, outputs as tensors. ONNX
//! Runtime runs in a Python process beside it (`support/onnxruntime_peer.py`), which is told when: rounds alternate, so
//! that both see the same machine. Every run gets other rows than the one before it, as requests have them; a single
//! row over and over would teach the processor the way through every tree. Before a cell is timed, the scores of both
//! are compared.
//!
//! The peer is called with ready arrays and by way of an io-binding, and the faster of the two counts. Both hold some
//! Python, ours holds tract's plan and a copy of the input. What a call costs by itself is measured with a single tree
//! of one question, and the rows of batch 1 are judged without it too. The allocator is the binary's.
//!
//! `cargo bench --bench trees` prints the table of docs/performance.md; `cargo bench --bench trees -- forest_5-100` only
//! the models whose name holds that. `target/venv` (made by tests/run.sh) has the peer.

use std::fmt::{Display, Formatter};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use onnxd::engine::tract::TractEngine;
use onnxd::engine::{Engine, Model, ModelSource, Session};
use onnxd::tensor::shape::Shape;
use onnxd::tensor::signature::CheckedInputs;
use onnxd::tensor::value::{NamedTensor, Tensor};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KINDS: [(&str, &str); 6] = [
    ("forest_2", "forest, 2 classes"),
    ("forest_5", "forest, 5 classes"),
    ("forest_values", "forest, regression"),
    ("boosted_2", "boosted, 2 classes"),
    ("boosted_5", "boosted, 5 classes"),
    ("boosted_values", "boosted, regression"),
];
const TREES: [usize; 3] = [100, 200, 500];
const DEPTHS: [usize; 3] = [4, 8, 16];
const BATCHES: [usize; 3] = [1, 32, 1024];
const FEATURES: usize = 30;
const ROUNDS: usize = 9;
/// A round runs the model so often that it takes about this long.
const ROUND_SECONDS: f64 = 0.02;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let only = arguments.find(|argument| !argument.starts_with("--"));
    let only = only.unwrap_or_default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-trees");
    make_models(&folder);
    let mut peer = Peer::start(&folder);
    let call = cells(&mut peer, "stump", &[1]).remove(0);
    println!("| model | trees | depth | 1 row | 32 rows | 1,024 rows |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let (mut ratios, mut without_call) = (Vec::new(), Vec::new());
    for (kind, title) in KINDS {
        for (trees, depth) in TREES
            .map(|trees| DEPTHS.map(|depth| (trees, depth)))
            .concat()
        {
            let name = format!("{kind}-{trees}-{depth}");
            if !name.contains(&only) {
                continue;
            }
            let cells = cells(&mut peer, &name, &BATCHES);
            let columns: Vec<_> = cells.iter().map(Cell::to_string).collect();
            println!("| {title} | {trees} | {depth} | {} |", columns.join(" | "));
            without_call.push((cells[0].peer - call.peer) / (cells[0].ours - call.ours));
            ratios.extend(cells.iter().map(|cell| cell.ratio));
        }
    }
    println!("\nµs in ours · in ONNX Runtime · **how many times as fast ours is**.");
    println!("{} cells: {}.", ratios.len(), summary(ratios));
    println!(
        "A call by itself: {call}; 1 row without it: {}.",
        summary(without_call)
    );
    println!("{}; ONNX Runtime {}.", machine(), peer.version);
}

fn summary(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    let (least, middle) = (ratios[0], ratios[ratios.len() / 2]);
    format!("least {least:.2}, median {middle:.2}")
}

fn cells(peer: &mut Peer, name: &str, batches: &[usize]) -> Vec<Cell> {
    let ours = Ours::load(&peer.folder, name);
    peer.ask(&format!("load {name}"));
    let cells = batches.iter().map(|batch| measure(&ours, peer, *batch));
    cells.collect()
}

/// What one cell took: medians over the rounds.
struct Cell {
    ours: f64,
    peer: f64,
    ratio: f64,
}

impl Display for Cell {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        let [ours, peer] = [self.ours, self.peer].map(|seconds| seconds * 1e6);
        write!(formatter, "{ours:.1} · {peer:.1} · **{:.2}**", self.ratio)
    }
}

fn measure(ours: &Ours, peer: &mut Peer, batch: usize) -> Cell {
    let mut session = ours.model.session(1).expect("the model runs");
    let inputs = ours.batches(batch);
    let outputs = session.run(&inputs[0]).expect("the model runs");
    peer.assert_agrees(batch, outputs.last().expect("a model has outputs"));
    let runs = (ROUND_SECONDS / peer.seconds_per_run(batch, 1))
        .ceil()
        .max(1.0) as usize;
    let rounds: Vec<(f64, f64)> = (0..ROUNDS)
        .map(|_| {
            (
                seconds_per_run(session.as_mut(), &inputs, runs),
                peer.seconds_per_run(batch, runs),
            )
        })
        .collect();
    let median = |of: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Cell {
        ours: median(|(ours, _)| *ours),
        peer: median(|(_, peer)| *peer),
        ratio: median(|(ours, peer)| peer / ours),
    }
}

fn seconds_per_run(session: &mut dyn Session, inputs: &[CheckedInputs], runs: usize) -> f64 {
    let began = Instant::now();
    for inputs in inputs.iter().cycle().take(runs) {
        std::hint::black_box(session.run(inputs).expect("the model runs"));
    }
    began.elapsed().as_secs_f64() / runs as f64
}

/// Our side: a model, and the rows to run it on.
struct Ours {
    model: std::sync::Arc<dyn Model>,
    rows: Vec<f32>,
}

impl Ours {
    fn load(folder: &Path, name: &str) -> Ours {
        let source = ModelSource::read(&folder.join(format!("{name}.onnx")));
        let source = source.expect("the model was made");
        let model = TractEngine::default().load(&source, &mut Vec::new());
        let model = model.expect("the model loads");
        let rows = floats(&folder.join("rows.f32"));
        Ours { model, rows }
    }

    /// All rows, so many at a time.
    fn batches(&self, rows: usize) -> Vec<CheckedInputs> {
        let batches = self.rows.chunks_exact(rows * FEATURES);
        batches.map(|batch| self.checked(rows, batch)).collect()
    }

    fn checked(&self, rows: usize, batch: &[f32]) -> CheckedInputs {
        let shape = Shape::new(vec![rows, FEATURES]).expect("the shape is small");
        let named = NamedTensor {
            name: "X".to_owned(),
            tensor: Tensor::from_vec(shape, batch.to_vec()).expect("the rows fit the shape"),
        };
        let checked = self.model.signature().check(vec![named]);
        checked.expect("the input is the model's")
    }
}

/// ONNX Runtime in its own process, asked one line at a time.
struct Peer {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    folder: PathBuf,
    version: String,
}

impl Peer {
    fn start(folder: &Path) -> Peer {
        let mut process = python("onnxruntime_peer.py", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("target/venv has Python; tests/run.sh clients makes it");
        let questions = process.stdin.take().expect("it is piped");
        let answers = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut peer = Peer {
            process,
            questions,
            answers,
            folder: folder.to_owned(),
            version: String::new(),
        };
        peer.version = peer.ask("version");
        peer
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.questions, "{question}").expect("the peer reads");
        let mut answer = String::new();
        self.answers
            .read_line(&mut answer)
            .expect("the peer answers");
        assert!(answer.ends_with('\n'), "the peer ended at '{question}'");
        answer.trim().to_owned()
    }

    /// By the faster of its two ways to be called.
    fn seconds_per_run(&mut self, batch: usize, runs: usize) -> f64 {
        let answer = self.ask(&format!("time {batch} {runs}"));
        let ways = answer
            .split(' ')
            .map(|way| way.parse::<f64>().expect("seconds are a number"));
        ways.fold(f64::INFINITY, f64::min)
    }

    fn assert_agrees(&mut self, batch: usize, ours: &Tensor) {
        self.ask(&format!("scores {batch}"));
        let expected = floats(&self.folder.join("scores.f32"));
        let found = ours.elements::<f32>();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            let allowed = 1e-5 + 1e-5 * expected.abs();
            assert!(
                (found - expected).abs() <= allowed,
                "{found} is not {expected}"
            );
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends by itself when nobody asks any more; this only spares the wait.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn make_models(folder: &Path) {
    let made = python("tree_models.py", folder)
        .status()
        .expect("target/venv has Python; tests/run.sh clients makes it");
    assert!(made.success(), "the models could not be made");
}

fn python(script: &str, folder: &Path) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("target/venv/bin/python"));
    command
        .arg(root.join("benches/support").join(script))
        .arg(folder);
    command
}

fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("the file was made");
    bytemuck::pod_collect_to_vec(&bytes)
}

/// The processor, as Linux names it.
fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let [model, family] = ["model name", "cpu family"].map(|name| field(name).unwrap_or_default());
    format!("{model}, family {family}")
}

//! Damaged model files: whatever is done to them, loading ends, in an error or in a model that runs.
//!
//! A file is damaged twice over: in its bytes, which mostly breaks the format, and in its fields, which keeps the
//! format and so reaches the checks and the engine behind it. `ONNXD_FUZZ_SECONDS` makes a longer run of it.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use onnxd::config::{Agreement, LibraryPath};
use onnxd::engine::{Engines, ModelSource};
use onnxd::serving::agreement::Rules;
use onnxd::serving::golden::GoldenFiles;
use onnxd::serving::joining;
use onnxd::serving::memory::Ledger;
use onnxd::serving::trial::{Candidate, Judged, Trial, Tried};
use onnxd::telemetry::metrics::PlanCacheMetrics;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};

use crate::support::in_repository;
use crate::support::protobuf::{Field, Value};

/// The cases of a normal run.
const CASES: u32 = 200;
/// How long the trial of a file may take.
const TRIED_FOR: Duration = Duration::from_secs(5);
/// Nothing that is so small takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_damaged_model_never_harms_the_server() {
    let seeds = seeds();
    let longer = std::env::var("ONNXD_FUZZ_SECONDS").ok();
    let longer =
        longer.map(|seconds| Duration::from_secs(seconds.parse().expect("a number of seconds")));
    let (began, mut round) = (Instant::now(), 0u64);
    loop {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&round.to_le_bytes());
        let rng = TestRng::from_seed(Default::default(), &seed);
        let config = Config {
            cases: CASES,
            failure_persistence: None,
            max_shrink_iters: 200,
            ..Config::default()
        };
        let mut runner = TestRunner::new_with_rng(config, rng);
        let damage = (0..seeds.len(), prop::collection::vec(damage(), 1..6));
        let result = runner.run(&damage, |(model, damages)| {
            let mut bytes = seeds[model].1.clone();
            damages.iter().for_each(|damage| damage.apply(&mut bytes));
            prop_assert!(ends(bytes), "{} hangs", seeds[model].0.display());
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("round {round}: {error}"));
        round += 1;
        if longer.is_none_or(|longer| began.elapsed() > longer) {
            break;
        }
    }
}

/// Small models of different makers: layers, trees, recurrent networks, quantised products.
fn seeds() -> Vec<(PathBuf, Vec<u8>)> {
    let folders = [
        "models/iris/1",
        "models/iris/2",
        "models/digits/1",
        "models/wine/1",
        "tests/data/known_wrong",
    ];
    let files = folders.iter().flat_map(|folder| {
        std::fs::read_dir(in_repository(folder))
            .expect("the folder is in the repository")
            .flatten()
    });
    let mut paths: Vec<_> = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|end| end == "onnx"))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            (
                path.clone(),
                std::fs::read(path).expect("a file that was listed"),
            )
        })
        .collect()
}

/// Loads and tries the model out, as the server does: in a process of its own that may be lost or given up, then here,
/// behind a guard, on a thread that can be given up.
fn ends(bytes: Vec<u8>) -> bool {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&bytes)
        .expect("a temporary file can be written");
    let trial = Trial::new(env!("CARGO_BIN_EXE_onnxd").into(), LibraryPath::Off);
    let engines = Engines::of_machine(&LibraryPath::Off, PlanCacheMetrics::default());
    let memory = Ledger::boundless();
    let candidate = Candidate {
        golden: &GoldenFiles::default(),
        memory: &memory,
        path: file.path(),
        engines: &engines,
        rules: Rules {
            agreement: Agreement::Require,
            patience: TRIED_FOR,
        },
        deadline: Instant::now() + TRIED_FOR,
    };
    // What is refused never comes near the server, and neither does an engine that may not serve.
    let Ok(Tried::Judged(Judged { verdict, .. })) = trial.run(trial.turn(), &candidate) else {
        return true;
    };
    let (done, ended) = mpsc::channel();
    let load = move || {
        let load = AssertUnwindSafe(|| {
            let source = ModelSource::new(bytes.into(), None);
            let serving = verdict.serving().unwrap_or_default();
            for engine in serving
                .iter()
                .filter_map(|finding| engines.named(&finding.engine))
            {
                if let Ok(model) = engine.load(&source, &mut Vec::new()) {
                    let _ = joining::prove(&*model);
                }
            }
        });
        // A panic is what the guard is for; anything worse ends the test's process.
        let _ = catch_unwind(load);
        done.send(()).expect("the test waits");
    };
    std::thread::spawn(load);
    ended.recv_timeout(PATIENCE).is_ok()
}

#[derive(Debug, Clone)]
enum Damage {
    /// Changes one byte.
    Byte { at: prop::sample::Index, to: u8 },
    /// Cuts the end off.
    Cut { at: prop::sample::Index },
    /// Changes one field somewhere in the tree of messages.
    Field {
        path: Vec<prop::sample::Index>,
        how: How,
    },
}

#[derive(Debug, Clone)]
enum How {
    Drop,
    Repeat,
    /// For numbers, and for the first bytes of everything else.
    Set(u64),
    Empty,
}

fn damage() -> impl Strategy<Value = Damage> {
    let extremes = prop::sample::select(vec![
        0,
        1,
        2,
        3,
        7,
        11,
        255,
        1 << 20,
        1 << 31,
        1 << 40,
        (1 << 63) - 1,
        u64::MAX,
    ]);
    let how = prop_oneof![
        Just(How::Drop),
        Just(How::Repeat),
        extremes.prop_map(How::Set),
        Just(How::Empty)
    ];
    let path = prop::collection::vec(any::<prop::sample::Index>(), 1..7);
    prop_oneof![
        1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, to)| Damage::Byte { at, to }),
        1 => any::<prop::sample::Index>().prop_map(|at| Damage::Cut { at }),
        6 => (path, how).prop_map(|(path, how)| Damage::Field { path, how }),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            _ if bytes.is_empty() => {}
            Damage::Byte { at, to } => {
                let at = at.index(bytes.len());
                bytes[at] = *to;
            }
            Damage::Cut { at } => bytes.truncate(at.index(bytes.len())),
            Damage::Field { path, how } => {
                if let Some(mut fields) = Field::read_all(bytes) {
                    change(&mut fields, path, how);
                    *bytes = Field::write_all(&fields);
                }
            }
        }
    }
}

/// Follows the path as deep as there are messages, and changes the field where it ends.
fn change(fields: &mut Vec<Field>, path: &[prop::sample::Index], how: &How) {
    let Some((first, rest)) = path.split_first().filter(|_| !fields.is_empty()) else {
        return;
    };
    let at = first.index(fields.len());
    if let Value::Bytes(bytes) = &mut fields[at].value
        && !rest.is_empty()
        && let Some(mut inner) = Field::read_all(bytes).filter(|inner| !inner.is_empty())
    {
        change(&mut inner, rest, how);
        *bytes = Field::write_all(&inner);
        return;
    }
    match how {
        How::Drop => drop(fields.remove(at)),
        How::Repeat => fields.insert(at, fields[at].clone()),
        How::Set(number) => fields[at].value.set(*number),
        How::Empty => fields[at].value = Value::Bytes(Vec::new()),
    }
}

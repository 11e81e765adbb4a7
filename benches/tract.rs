//! How many rows a second does tract run on one thread, and does a larger batch help?
//!
//! Every bundled model through the engine contract, the way a worker calls it: one session, checked inputs, outputs
//! as tensors. There is no peer in this build; the same rows a second at every batch mean that batching would gain
//! nothing. The allocator is the binary's.
//!
//! `cargo bench --bench tract`

mod support;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onnxd::engine::tract::TractEngine;
use onnxd::engine::{Engine, ModelSource};
use onnxd::oip::request::decode;
use onnxd::tensor::signature::{CheckedInputs, Signature};
use support::{digits_rows, iris_rows, limits};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCHES: [usize; 3] = [1, 8, 32];

fn rows_per_second(criterion: &mut Criterion) {
    for (model, version, body) in [
        ("iris", 1, iris_rows as fn(usize) -> String),
        ("iris", 2, iris_rows),
        ("digits", 1, digits_rows),
        ("digits", 2, digits_rows),
    ] {
        let path = format!("models/{model}/{version}/model.onnx");
        let source = ModelSource::read(path.as_ref()).expect("the bundled model is there");
        let loaded = TractEngine::default().load(&source, &mut Vec::new());
        let loaded = loaded.expect("the bundled model loads");
        let mut session = loaded.session(1).expect("the model runs");
        let mut group = criterion.benchmark_group(format!("{model} version {version}"));
        for batch in BATCHES {
            let inputs = checked(loaded.signature(), &body(batch));
            assert_eq!(inputs.rows(), batch);
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_function(format!("batch {batch}"), |bencher| {
                bencher.iter(|| session.run(&inputs).expect("the model runs"))
            });
        }
    }
}

fn checked(signature: &Signature, body: &str) -> CheckedInputs {
    let decoded = decode(body.as_bytes(), signature, &limits()).expect("the body is valid");
    signature
        .check(decoded.inputs)
        .expect("the body fits the model")
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
}

criterion_group! { name = benches; config = settings(); targets = rows_per_second }
criterion_main!(benches);

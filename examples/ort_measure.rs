use onnxd::engine::onnxruntime::{Library, OnnxRuntimeEngine};
use onnxd::engine::{Engine, Model, ModelSource};
use onnxd::tensor::sample::{Integers, Sample};
use std::sync::Arc;
use std::time::Instant;
const LIB: &str =
    "/work/main/target/venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.31.1";
fn status(key: &str) -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .find(|l| l.starts_with(key))
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mode = &args[1];
    let path = std::path::Path::new(&args[2]);
    let n: usize = args[3].parse().unwrap();
    let engine = OnnxRuntimeEngine::new(Library::At(LIB.into()));
    let mb = path.metadata().unwrap().len() / 1024 / 1024;
    println!(
        "start: rss {} MB, data {} MB",
        status("VmRSS"),
        status("VmData")
    );
    let t = Instant::now();
    let source = ModelSource::read(path).unwrap();
    println!("read {:?} rss {}", t.elapsed(), status("VmRSS"));
    let mut tried = vec![];
    let t = Instant::now();
    let model = engine.load(&source, &mut tried).unwrap_or_else(|e| {
        println!("refused: {}", e.chain());
        std::process::exit(0)
    });
    println!(
        "first load {:?} {:?} rss {} peak {}",
        t.elapsed(),
        tried,
        status("VmRSS"),
        status("VmHWM")
    );
    let sample = model.sample().unwrap_or(Sample::ZEROS);
    let sample = Sample { seed: 7, ..sample };
    let inputs = sample.inputs(model.signature()).unwrap();
    let mut models: Vec<Arc<dyn Model>> = vec![model];
    if mode == "separate" {
        for _ in 1..n {
            let t = Instant::now();
            models.push(engine.load(&source, &mut tried).unwrap());
            println!("later load {:?}", t.elapsed());
        }
    }
    drop(source);
    let expected = models[0].session(1).unwrap().run(&inputs).unwrap();
    println!(
        "{}: file {mb} MB, n {n}, before runs rss {}",
        mode,
        status("VmRSS")
    );
    let rounds: usize = args.get(4).map_or(20, |r| r.parse().unwrap());
    let t = Instant::now();
    std::thread::scope(|s| {
        for at in 0..n {
            let model = &models[at % models.len()];
            let (inputs, expected) = (&inputs, &expected);
            s.spawn(move || {
                let mut session = model.session(1).unwrap();
                for _ in 0..rounds {
                    let got = session.run(inputs).unwrap();
                    assert!(got.iter().zip(expected).all(|(a, b)| a.agrees_with(b)));
                }
            });
        }
    });
    println!(
        "{} runs in {:?}, rss {} MB peak {} MB data {} MB",
        n * rounds,
        t.elapsed(),
        status("VmRSS"),
        status("VmHWM"),
        status("VmData")
    );
    let _ = Integers::Bits;
}

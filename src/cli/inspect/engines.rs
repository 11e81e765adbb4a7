//! What `onnxd inspect` tells of the engines: which would serve, what each tried, and with `--engines` how fast it is.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::examination::Examination;
use crate::config::{Aim, InferenceConfig};
use crate::engine::Attempt;
use crate::server::inference_threads;
use crate::serving::agreement::verdict::{Finding, Loading};
use crate::serving::budget::ComputeBudget;
use crate::serving::choosing::split;
use crate::serving::measuring;
use crate::tensor::sample::Sample;

/// The rows of the requests that engines are measured with; more than one where requests can be joined.
const ROWS: [usize; 2] = [1, 8];

/// What was measured.
pub struct Measured {
    aim: Aim,
    /// The rows of each kind of request.
    rows: Vec<usize>,
    /// The milliseconds that an engine takes for each of them, on the threads that suit it best.
    milliseconds: BTreeMap<&'static str, Vec<Option<f64>>>,
}

/// Measures every engine that loaded the model, as the server does to choose between them.
pub fn measure(examination: &Examination, inference: &InferenceConfig) -> Measured {
    let Examination { verdict, models } = examination;
    let threads = inference_threads(inference.threads);
    let budget = ComputeBudget::new(threads, 1);
    let aim = inference.engines.aim;
    let rows = match verdict.joins {
        Ok(()) => &ROWS[..],
        Err(_) => &ROWS[..1],
    };
    let loaded = models
        .iter()
        .map(|(engine, model)| (*engine, model.clone()));
    let ways = split(threads, None, loaded);
    let mut milliseconds = BTreeMap::<_, Vec<Option<f64>>>::new();
    for rows in rows {
        let sample = models.values().find_map(|model| model.sample());
        let inputs = sample.zip(models.values().next()).map(|(sample, model)| {
            let sample = Sample {
                rows: *rows,
                seed: 1,
                ..sample
            };
            sample.inputs(model.signature())
        });
        let seconds = match inputs {
            Some(Ok(inputs)) => {
                let how = (aim, measuring::OF_REQUESTS);
                measuring::measure(&ways, &inputs, how, &budget, &|| false)
            }
            Some(Err(_)) | None => vec![None; ways.len()],
        };
        for engine in models.keys() {
            let timed = ways.iter().zip(&seconds);
            let of_engine = timed.filter(|(way, _)| way.engine == *engine);
            let best = of_engine
                .filter_map(|(_, seconds)| *seconds)
                .min_by(f64::total_cmp);
            let best = best.map(|seconds| (seconds * 1e9).round() / 1e6);
            milliseconds.entry(*engine).or_default().push(best);
        }
    }
    Measured {
        aim,
        rows: rows.to_vec(),
        milliseconds,
    }
}

impl Measured {
    fn of(&self, engine: &str) -> impl Iterator<Item = (usize, Option<f64>)> {
        let measured = self.milliseconds.get(engine).into_iter().flatten();
        self.rows.iter().copied().zip(measured.copied())
    }
}

/// Prints which engine would serve and why, what each tried, and what was measured.
pub fn print(examination: &Examination, measured: Option<&Measured>) {
    let verdict = &examination.verdict;
    match examination.first() {
        Ok((finding, model)) => {
            let Finding { engine, reason, .. } = finding;
            let runs = match model.sample() {
                Some(_) => "runs the example",
                None => "runs none of the requests that were made up",
            };
            println!("  engine     {engine}: loads, and {runs}; {reason}");
        }
        Err(error) => println!("  engine     none: {}", error.chain()),
    }
    let mut title = "tried";
    for Finding {
        engine, loading, ..
    } in &verdict.findings
    {
        for Attempt { what, outcome } in &loading.tried {
            let outcome = match outcome {
                Ok(seen) => seen.clone(),
                Err(reason) => format!("no: {reason}"),
            };
            println!("  {title:<10} {engine}: {what}: {outcome}");
            title = "";
        }
    }
    match &verdict.joins {
        Ok(()) => println!("  rows       requests can be joined into one run"),
        Err(reason) if examination.first().is_ok() => {
            println!("  rows       a request is one row: {reason}");
        }
        Err(_) => {}
    }
    if let Some(measured) = measured {
        print_table(&verdict.findings, measured);
    }
}

fn print_table(findings: &[Finding], measured: &Measured) {
    let aim = match measured.aim {
        Aim::Throughput => "with every thread busy",
        Aim::Latency => "one request at a time",
    };
    let cell =
        |milliseconds: Option<f64>| milliseconds.map_or("-".to_owned(), |ms| format!("{ms:.3}"));
    let mut head = format!("{:<12} {:<9} {:>11}", "name", "standing", "load ms");
    for rows in &measured.rows {
        let title = match rows {
            1 => "1 row ms".to_owned(),
            rows => format!("{rows} rows ms"),
        };
        head.push_str(&format!(" {title:>11}"));
    }
    println!("  engines    {head}  reason (measured {aim})");
    for finding in findings {
        let Finding {
            engine,
            standing,
            reason,
            loading,
            ..
        } = finding;
        let load = cell(loading.seconds.map(|seconds| seconds * 1e3));
        let mut line = format!("{engine:<12} {:<9} {load:>11}", standing.name());
        let mut times: Vec<_> = measured
            .of(engine)
            .map(|(_, milliseconds)| milliseconds)
            .collect();
        times.resize(measured.rows.len(), None);
        for milliseconds in times {
            line.push_str(&format!(" {:>11}", cell(milliseconds)));
        }
        println!("  {:<10} {line}  {reason}", "");
    }
}

/// The same as a list of objects, one an engine.
pub fn as_json(examination: &Examination, measured: Option<&Measured>) -> Value {
    let Examination { verdict, models } = examination;
    let first = examination.first().ok().map(|(first, _)| first);
    let tried = |Attempt { what, outcome }: &Attempt| match outcome {
        Ok(seen) => json!({ "what": what, "does": true, "seen": seen }),
        Err(reason) => json!({ "what": what, "does": false, "reason": reason }),
    };
    let engine = |finding: &Finding| {
        let Finding {
            engine: name,
            standing,
            reason,
            kind: _,
            loading:
                Loading {
                    tried: ways,
                    seconds,
                    held_bytes: _,
                },
        } = finding;
        let model = models.get(name.as_str());
        let mut engine = json!({
            "name": name,
            "serves": standing.may_serve(),
            "standing": standing.name(),
            "reason": reason,
            "runs_example": model.is_some_and(|model| model.sample().is_some()),
            "load_seconds": seconds,
            "tried": ways.iter().map(tried).collect::<Value>(),
        });
        // Proven with the engine that serves first.
        if first == Some(finding) {
            engine["requests_join"] = verdict.joins.is_ok().into();
        }
        if let Some(measured) = measured {
            let measured = measured
                .of(name)
                .map(|(rows, milliseconds)| json!({ "rows": rows, "milliseconds": milliseconds }));
            engine["measured"] = measured.collect();
        }
        engine
    };
    verdict.findings.iter().map(engine).collect()
}

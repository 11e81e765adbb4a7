//! `onnxd inspect`: what a model takes and gives, whether it loads, and a request that it accepts.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::finish;
use crate::engine::onnx::OnnxFile;
use crate::engine::tract::TractEngine;
use crate::engine::{Attempt, Engine, ModelSource};
use crate::error::{Result, guarded};
use crate::oip::example;
use crate::serving::joining;
use crate::tensor::sample::Sample;
use crate::tensor::shape::Dims;
use crate::tensor::signature::TensorSpec;

/// A longer example is left to `--example`, which prints nothing else.
const MOST_EXAMPLE_BYTES: usize = 2000;

/// Print what a model takes and gives, whether it loads, and an example request.
#[derive(Debug, Args)]
pub struct Inspect {
    /// An ONNX file
    model: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print the example request alone, ready to be sent
    #[arg(long, conflicts_with = "json")]
    example: bool,
}

impl Inspect {
    /// Prints the report; exits 0 only when the model loads.
    pub fn run(self) -> ExitCode {
        finish(self.inspect())
    }

    fn inspect(self) -> Result<()> {
        let source = ModelSource::read(&self.model)?;
        let file = source.file()?;
        let verdict = Verdict::find(&source);
        let sample = verdict.sample.unwrap_or(Sample::ZEROS);
        let inputs = Sample { seed: 0, ..sample }.tensors(&file.signature);
        let example = inputs.map(|inputs| example::body(&inputs));
        if self.example {
            println!("{}", example?);
        } else if self.json {
            println!("{:#}", as_json(file, &verdict, &example));
        } else {
            self.print(file, &verdict, &example);
        }
        verdict.loaded
    }

    fn print(&self, file: &OnnxFile, verdict: &Verdict, example: &Result<String>) {
        println!("{}", self.model.display());
        let opsets: Vec<_> = file
            .opsets
            .iter()
            .map(|(domain, version)| format!("{domain} {version}"))
            .collect();
        println!(
            "  producer   {}",
            if file.producer.is_empty() {
                "unknown"
            } else {
                &file.producer
            }
        );
        println!(
            "  format     ONNX IR {}, operator sets: {}",
            file.ir_version,
            opsets.join(", ")
        );
        let operators: Vec<_> = file
            .operators()
            .iter()
            .map(|(name, count)| format!("{name} ×{count}"))
            .collect();
        println!("  operators  {}", operators.join(", "));
        print_tensors("inputs", &file.signature.inputs);
        print_tensors("outputs", &file.signature.outputs);
        println!("  engine     {}: {}", verdict.engine, verdict.summary());
        for (index, Attempt { what, outcome }) in verdict.tried.iter().enumerate() {
            let title = if index == 0 { "tried" } else { "" };
            match outcome {
                Ok(seen) => println!("  {title:<10} {what}: {seen}"),
                Err(reason) => println!("  {title:<10} {what}: no: {reason}"),
            }
        }
        match &verdict.joins {
            Some(Ok(())) => println!("  rows       requests can be joined into one run"),
            Some(Err(reason)) => println!("  rows       a request is one row: {reason}"),
            None => {}
        }
        match example {
            Ok(example) if example.len() <= MOST_EXAMPLE_BYTES => {
                println!("  example    {example}");
            }
            Ok(example) => println!(
                "  example    {} bytes; print it with --example",
                example.len()
            ),
            Err(error) => println!("  example    none: {}", error.chain()),
        }
    }
}

/// What comes of loading the model as the server would.
struct Verdict {
    engine: &'static str,
    tried: Vec<Attempt>,
    loaded: Result<()>,
    /// What was seen to run.
    sample: Option<Sample>,
    /// Why requests cannot be joined, if they cannot; nothing where the model does not load.
    joins: Option<Result<(), String>>,
}

impl Verdict {
    /// Loads the model and tries it out, behind a guard against panics.
    fn find(source: &ModelSource) -> Verdict {
        let engine = TractEngine::default();
        let mut tried = Vec::new();
        let found = guarded("while loading", || {
            let model = engine.load(source, &mut tried)?;
            Ok((model.sample(), joining::prove(&*model)))
        });
        let engine = engine.name();
        match found {
            Ok((sample, joins)) => Verdict {
                engine,
                tried,
                loaded: Ok(()),
                sample,
                joins: Some(joins),
            },
            Err(error) => Verdict {
                engine,
                tried,
                loaded: Err(error),
                sample: None,
                joins: None,
            },
        }
    }

    fn summary(&self) -> String {
        match (&self.loaded, self.sample) {
            (Ok(()), Some(_)) => "loads, and runs the example".to_owned(),
            (Ok(()), None) => "loads; runs none of the requests that were made up".to_owned(),
            (Err(error), _) => format!("does not serve this model: {}", error.chain()),
        }
    }
}

fn print_tensors(title: &str, specs: &[TensorSpec]) {
    for (index, spec) in specs.iter().enumerate() {
        let title = if index == 0 { title } else { "" };
        let columns = spec.columns.as_ref();
        let columns = columns.map_or_else(String::new, |names| format!(": {}", names.join(", ")));
        println!(
            "  {title:<10} {} {} {}{columns}",
            spec.name,
            spec.dtype,
            Dims(&spec.wire_shape())
        );
    }
}

fn as_json(file: &OnnxFile, verdict: &Verdict, example: &Result<String>) -> Value {
    let tensor = |spec: &TensorSpec| {
        let mut tensor = json!({
            "name": spec.name,
            "datatype": spec.dtype.name(),
            "shape": spec.wire_shape(),
        });
        if let Some(columns) = &spec.columns {
            tensor["columns"] = columns.iter().map(String::as_str).collect();
        }
        tensor
    };
    let tried = |Attempt { what, outcome }: &Attempt| match outcome {
        Ok(seen) => json!({ "what": what, "does": true, "seen": seen }),
        Err(reason) => json!({ "what": what, "does": false, "reason": reason }),
    };
    let mut engine = json!({
        "name": verdict.engine,
        "serves": verdict.loaded.is_ok(),
        "runs_example": verdict.sample.is_some(),
        "tried": verdict.tried.iter().map(tried).collect::<Value>(),
    });
    if let Err(error) = &verdict.loaded {
        engine["reason"] = error.chain().into();
    }
    if let Some(joins) = &verdict.joins {
        engine["requests_join"] = joins.is_ok().into();
    }
    json!({
        "producer": file.producer,
        "ir_version": file.ir_version,
        "opsets": file.opsets,
        "operators": file.operators(),
        "inputs": file.signature.inputs.iter().map(tensor).collect::<Value>(),
        "outputs": file.signature.outputs.iter().map(tensor).collect::<Value>(),
        "engines": [engine],
        "example": example.as_ref().ok().and_then(|text| serde_json::from_str::<Value>(text).ok()),
    })
}

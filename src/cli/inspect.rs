//! `onnxd inspect`: what a model takes and gives, whether it loads, and a request that it accepts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::finish;
use super::predict::read_file;
use crate::engine::onnx::OnnxFile;
use crate::engine::tract::TractEngine;
use crate::engine::{Engine, ModelSource};
use crate::error::{Error, Result};
use crate::oip::example;
use crate::tensor::shape::Dims;
use crate::tensor::signature::TensorSpec;
use crate::tensor::value::NamedTensor;

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
    /// Prints the report; exits 0 only when the model loads and runs.
    pub fn run(self) -> ExitCode {
        finish(self.inspect())
    }

    fn inspect(self) -> Result<()> {
        let bytes = read_file(&self.model)?;
        let file = OnnxFile::read(&bytes)?;
        let inputs = example::inputs(&file.signature)?;
        let example = example::body(&inputs);
        let verdict = match self.example {
            true => Ok(()),
            false => verdict(bytes, inputs),
        };
        if self.example {
            println!("{example}");
        } else if self.json {
            println!("{:#}", as_json(&file, &verdict, &example));
        } else {
            self.print(&file, &verdict, &example);
        }
        verdict
    }

    fn print(&self, file: &OnnxFile, verdict: &Result<()>, example: &str) {
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
        match verdict {
            Ok(()) => println!(
                "  engine     {}: loads, and runs the example",
                TractEngine.name()
            ),
            Err(error) => println!(
                "  engine     {}: does not serve this model: {}",
                TractEngine.name(),
                error.chain()
            ),
        }
        match example.len() <= MOST_EXAMPLE_BYTES {
            true => println!("  example    {example}"),
            false => println!(
                "  example    {} bytes; print it with --example",
                example.len()
            ),
        }
    }
}

/// Loads the model and runs the example, as the server would: behind a guard against panics.
fn verdict(bytes: Vec<u8>, inputs: Vec<NamedTensor>) -> Result<()> {
    let run = AssertUnwindSafe(|| {
        let model = TractEngine.load(&ModelSource {
            bytes: bytes.into(),
        })?;
        let inputs = model.signature().check(inputs)?;
        model.session()?.run(&inputs).map(|_| ())
    });
    catch_unwind(run).unwrap_or_else(|_| Err(Error::internal("the engine panicked")))
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

fn as_json(file: &OnnxFile, verdict: &Result<()>, example: &str) -> Value {
    let tensor = |spec: &TensorSpec| {
        let mut tensor =
            json!({ "name": spec.name, "datatype": spec.dtype.name(), "shape": spec.wire_shape() });
        if let Some(columns) = &spec.columns {
            tensor["columns"] = columns.iter().map(String::as_str).collect();
        }
        tensor
    };
    let engine = match verdict {
        Ok(()) => json!({ "name": TractEngine.name(), "serves": true }),
        Err(error) => {
            json!({ "name": TractEngine.name(), "serves": false, "reason": error.chain() })
        }
    };
    json!({
        "producer": file.producer,
        "ir_version": file.ir_version,
        "opsets": file.opsets,
        "operators": file.operators(),
        "inputs": file.signature.inputs.iter().map(tensor).collect::<Value>(),
        "outputs": file.signature.outputs.iter().map(tensor).collect::<Value>(),
        "engines": [engine],
        "example": serde_json::from_str::<Value>(example).unwrap_or_default(),
    })
}

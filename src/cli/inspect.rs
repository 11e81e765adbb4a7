//! `onnxd inspect`: what a model takes and gives, which engine would serve it and why, and a request that it accepts.

mod batches;
mod engines;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use self::engines::{Measured, measure};
use super::examination::Examination;
use super::{Settings, finish};
use crate::config::Config;
use crate::engine::ModelSource;
use crate::engine::onnx::OnnxFile;
use crate::error::Result;
use crate::oip::example;
use crate::tensor::sample::Sample;
use crate::tensor::shape::Dims;
use crate::tensor::signature::TensorSpec;

/// A longer example is left to `--example`, which prints nothing else.
const MOST_EXAMPLE_BYTES: usize = 2000;

/// Print what a model takes and gives, which engine would serve it, and an example request.
#[derive(Debug, Args)]
pub struct Inspect {
    /// An ONNX file
    model: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Measure every engine, and print what is held of each
    #[arg(long)]
    engines: bool,
    /// Measure what rows cost alone and in batches, and print what the server would choose
    #[arg(long)]
    measure: bool,
    /// Print the example request alone, ready to be sent
    #[arg(long, conflicts_with_all = ["json", "engines", "measure"])]
    example: bool,
}

impl Inspect {
    /// Prints the report; exits 0 only when an engine would serve the model.
    pub fn run(self) -> ExitCode {
        match Settings::default().load() {
            Ok(config) => finish(self.inspect(config)),
            Err(code) => code,
        }
    }

    fn inspect(self, config: Config) -> Result<()> {
        let source = ModelSource::read(&self.model)?;
        let file = source.file()?;
        let examination = Examination::of(&source, &config.inference)?;
        let sample = examination
            .first()
            .ok()
            .and_then(|(_, model)| model.sample());
        let sample = sample.unwrap_or(Sample::ZEROS);
        let inputs = Sample { seed: 0, ..sample }.tensors(&file.signature);
        let example = inputs.map(|inputs| example::body(&inputs));
        let measured = self
            .engines
            .then(|| measure(&examination, &config.inference));
        let curves = self
            .measure
            .then(|| batches::measure(&examination, &config.inference));
        if self.example {
            println!("{}", example?);
        } else if self.json {
            let mut report = as_json(file, &examination, measured.as_ref(), &example);
            if let Some(curves) = curves {
                report["batches"] = curves.as_json();
            }
            println!("{report:#}");
        } else {
            self.print(file, &examination, measured.as_ref(), &example);
            if let Some(curves) = curves {
                curves.print();
            }
        }
        examination.verdict.serving().map(drop)
    }

    fn print(
        &self,
        file: &OnnxFile,
        examination: &Examination,
        measured: Option<&Measured>,
        example: &Result<String>,
    ) {
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
        engines::print(examination, measured);
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

fn as_json(
    file: &OnnxFile,
    examination: &Examination,
    measured: Option<&Measured>,
    example: &Result<String>,
) -> Value {
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
    let first = examination.first().ok();
    json!({
        "producer": file.producer,
        "ir_version": file.ir_version,
        "opsets": file.opsets,
        "operators": file.operators(),
        "inputs": file.signature.inputs.iter().map(tensor).collect::<Value>(),
        "outputs": file.signature.outputs.iter().map(tensor).collect::<Value>(),
        "engine": first.map(|(finding, _)| finding.engine.as_str()),
        "engines": engines::as_json(examination, measured),
        "example": example.as_ref().ok().and_then(|text| serde_json::from_str::<Value>(text).ok()),
    })
}

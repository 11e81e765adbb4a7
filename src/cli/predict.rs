//! `onnxd predict`: one request through the same codec and engines as the server's, without a server.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::examination::Examination;
use super::{Settings, finish};
use crate::config::{Config, EngineChoice};
use crate::engine::ModelSource;
use crate::error::{Error, Result};
use crate::oip::NanForm;
use crate::oip::request::{DecodedRequest, decode};
use crate::oip::response::{Answer, ModelRef, encode, write_nested};
use crate::service::outputs;
use crate::service::types::RequestedOutput;
use crate::tensor::shape::Dims;
use crate::tensor::signature::Signature;
use crate::tensor::value::NamedTensor;

/// Run one request against a model, without a server.
#[derive(Debug, Args)]
pub struct Predict {
    /// An ONNX file
    model: PathBuf,
    /// The request, in any style that /predict takes; - reads standard input
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// The engine to run it on; auto takes the first that may serve [default: inference.engine, which is auto]
    #[arg(long, value_name = "NAME", value_parser = parse_engine)]
    engine: Option<EngineChoice>,
    /// Print the answer as the server would send it
    #[arg(long)]
    json: bool,
}

fn parse_engine(name: &str) -> Result<EngineChoice, String> {
    EngineChoice::try_from(name.to_owned())
}

impl Predict {
    /// Prints the outputs.
    pub fn run(self) -> ExitCode {
        match Settings::default().load() {
            Ok(config) => finish(self.predict(config)),
            Err(code) => code,
        }
    }

    fn predict(self, config: Config) -> Result<()> {
        let Config {
            limits,
            mut inference,
            ..
        } = config;
        if let Some(engine) = self.engine {
            inference.engines.engine = engine;
        }
        let source = ModelSource::read(&self.model)?;
        let examination = Examination::of(&source, &inference)?;
        let (_, model) = examination.first()?;
        let request = decode(&read_input(&self.input)?, model.signature(), &limits)?;
        let DecodedRequest {
            style,
            id,
            parameters,
            inputs,
            outputs: wanted,
        } = request;
        let wanted: Vec<_> = wanted.into_iter().map(RequestedOutput::from).collect();
        outputs::check(&wanted, model.signature())?;
        let inputs = model.signature().check(inputs)?;
        let tensors = model.session(1)?.run(&inputs)?;
        let mut outputs = model.signature().named_outputs(tensors);
        outputs::select(&mut outputs, &wanted);
        let classified = outputs::Classified {
            signature: model.signature(),
            has_rows: model.signature().has_rows(),
            labels: &|_, _| None,
        };
        outputs::classify(&mut outputs, &wanted, &classified)?;
        let text = match self.json {
            true => {
                let name = self.model.file_stem().unwrap_or_default().to_string_lossy();
                let answer = Answer {
                    model: Some(ModelRef {
                        name: &name,
                        version: "1",
                    }),
                    id: id.as_deref(),
                    signature: model.signature(),
                    outputs: &outputs,
                };
                encode(&answer, style, parameters.nan)?
            }
            false => outputs
                .iter()
                .flat_map(|output| readable(output, model.signature()).into_bytes())
                .collect(),
        };
        let mut stdout = std::io::stdout().lock();
        stdout
            .write_all(text.trim_ascii_end())
            .and_then(|()| stdout.write_all(b"\n"))
            .map_err(|error| Error::internal("cannot write to standard output").with_source(error))
    }
}

fn readable(output: &NamedTensor, signature: &Signature) -> String {
    let mut nested = Vec::new();
    write_nested(&mut nested, output, signature, NanForm::Token);
    let NamedTensor { name, tensor } = output;
    let (dtype, dims) = (tensor.dtype(), Dims(tensor.shape().dims()));
    format!(
        "{name} ({dtype} {dims}): {}\n",
        String::from_utf8_lossy(&nested)
    )
}

fn read_input(path: &Path) -> Result<Vec<u8>> {
    if path != Path::new("-") {
        let cannot =
            |error| Error::not_found(format!("cannot read {}", path.display())).with_source(error);
        return std::fs::read(path).map_err(cannot);
    }
    let mut input = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut input);
    read.map_err(|error| Error::not_found("cannot read standard input").with_source(error))?;
    Ok(input)
}

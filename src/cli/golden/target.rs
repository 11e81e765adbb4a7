//! Whose answers are recorded: an ONNX file's on an engine here, or a running server's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use serde::Deserialize;

use crate::cli::client::{self, Answer, Question};
use crate::cli::examination::Examination;
use crate::config::Config;
use crate::engine::{Model, ModelSource};
use crate::error::{Error, Result, guarded};
use crate::oip::recorded::{read_answer, request_body};
use crate::serving::golden::LIMITS;
use crate::tensor::dtype::DataType;
use crate::tensor::sample::Sample;
use crate::tensor::signature::{Dim, Signature, TensorSpec};
use crate::tensor::value::NamedTensor;

/// How long a server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A model that can be asked.
pub struct Target {
    pub signature: Signature,
    /// Made-up requests that it may run, the likeliest first.
    pub samples: Vec<Sample>,
    /// Who answers, for people.
    pub name: String,
    kind: Kind,
}

enum Kind {
    Here(Arc<dyn Model>),
    /// The URL of the model or its version.
    Server(String),
}

/// A model on a running server.
pub struct Remote<'a> {
    pub url: &'a str,
    pub model: &'a str,
    pub version: Option<&'a str>,
}

#[derive(Deserialize)]
struct Metadata {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

impl Target {
    /// The model in an ONNX file, on the engine that would serve it first.
    pub fn file(path: &Path, config: &Config) -> Result<Target> {
        let source = ModelSource::read(path)?;
        let examination = Examination::of(&source, &config.inference)?;
        let (finding, model) = examination.first()?;
        Ok(Target {
            signature: model.signature().clone(),
            samples: vec![model.sample().unwrap_or(Sample::ZEROS)],
            name: finding.engine.clone(),
            kind: Kind::Here(model.clone()),
        })
    }

    /// The model of a server, by the server's own word about it.
    pub fn server(remote: &Remote<'_>) -> Result<Target> {
        let Remote {
            url,
            model,
            version,
        } = remote;
        let url = format!("{}/v2/models/{model}", url.trim_end_matches('/'));
        let url = match version {
            Some(version) => format!("{url}/versions/{version}"),
            None => url,
        };
        let told = ask(&url, None)?;
        let metadata: Metadata = serde_json::from_slice(&told).map_err(|error| {
            Error::invalid(format!("{url} did not describe a model")).with_source(error)
        })?;
        let specs =
            |tensors: Vec<Tensor>| tensors.into_iter().map(spec).collect::<Result<Vec<_>>>();
        let mut signature = Signature {
            inputs: specs(metadata.inputs)?,
            outputs: specs(metadata.outputs)?,
        };
        for input in &mut signature.inputs {
            // A rank that is open is written like one dimension that is.
            input.dims = input
                .dims
                .take()
                .filter(|dims| dims[..] != [Dim::Dynamic(None)]);
        }
        Ok(Target {
            samples: Sample::likely(&signature.inputs),
            signature,
            name: url.clone(),
            kind: Kind::Server(url),
        })
    }

    /// The outputs for these inputs: all, or those that are named.
    pub fn run(&self, inputs: &[NamedTensor], wanted: &[String]) -> Result<Vec<NamedTensor>> {
        let mut outputs = match &self.kind {
            Kind::Here(model) => {
                let inputs = self.signature.check(inputs.to_vec())?;
                let run = || model.session(1)?.run(&inputs);
                self.signature.named_outputs(guarded("while it ran", run)?)
            }
            Kind::Server(url) => {
                let body = Bytes::from(request_body(inputs));
                let answer = ask(&format!("{url}/infer"), Some(body))?;
                read_answer(&answer, &self.signature, &LIMITS)?
            }
        };
        for name in wanted {
            self.signature.output(name)?;
        }
        outputs.retain(|output| wanted.is_empty() || wanted.contains(&output.name));
        Ok(outputs)
    }
}

/// The body of an answer that is good.
fn ask(url: &str, body: Option<Bytes>) -> Result<Bytes> {
    let Answer { status, body } = client::ask(Question {
        url,
        body,
        patience: PATIENCE,
        most_answer_bytes: LIMITS.body_bytes,
    })?;
    match status.is_success() {
        true => Ok(body),
        false => Err(Error::unavailable(format!(
            "{url} answered {status}: {}",
            String::from_utf8_lossy(&body).trim_end()
        ))),
    }
}

fn spec(tensor: Tensor) -> Result<TensorSpec> {
    let Tensor {
        name,
        datatype,
        shape,
    } = tensor;
    let dtype = DataType::from_name(&datatype).ok_or_else(|| {
        Error::invalid(format!(
            "tensor '{name}' has the unknown datatype '{datatype}'"
        ))
    })?;
    let dim = |length: &i64| match usize::try_from(*length) {
        Ok(length) => Dim::Fixed(length),
        Err(_) => Dim::Dynamic(None),
    };
    Ok(TensorSpec {
        name,
        dtype,
        dims: Some(shape.iter().map(dim).collect()),
        columns: None,
    })
}

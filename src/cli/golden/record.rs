//! `onnxd golden record`: writes golden requests with what a model answers now.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use super::requests::{self, Written};
use super::target::{Remote, Target};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::oip::recorded;
use crate::oip::request::{DecodedRequest, decode_rewritten};
use crate::repository::layout::{golden_folder, is_golden};
use crate::serving::golden::{LIMITS, MOST_FILES};
use crate::tensor::sample::Sample;
use crate::tensor::value::NamedTensor;

/// How many requests are made up where none are given.
const MADE_UP: usize = 4;

/// The rows of those that are made up, in turn.
const ROWS: [usize; 2] = [1, 3];

/// Write golden requests with the answers of an ONNX file, or of a running server.
#[derive(Debug, Args)]
pub struct Record {
    /// An ONNX file, to be run on the engine that would serve it first
    #[arg(required_unless_present = "url", conflicts_with_all = ["url", "model", "version"])]
    onnx_file: Option<PathBuf>,
    /// A running server, such as http://127.0.0.1:8000
    #[arg(long, requires = "model")]
    url: Option<String>,
    /// The server's model
    #[arg(long, requires = "url")]
    model: Option<String>,
    /// The model's version [default: the one that the server means without it]
    #[arg(long, requires = "url")]
    version: Option<String>,
    /// Requests in any JSON style that /predict takes, or golden requests: a file of one or several, or a folder of
    /// such files
    #[arg(long, value_name = "FILE_OR_FOLDER")]
    requests: Option<PathBuf>,
    /// Make up so many requests [default: 4, where no requests are given]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    made_up: Option<u8>,
    /// Where to write them [default: the folder golden beside a file that is called model.onnx]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Overwrite golden requests of the same names
    #[arg(long)]
    force: bool,
}

/// A golden request that is ready to be written.
struct Recorded {
    name: String,
    text: Vec<u8>,
}

impl Record {
    /// Asks first and writes then, so that a failure leaves nothing behind.
    pub fn run(self, config: &Config) -> Result<()> {
        let out = self.folder()?;
        let target = match (&self.onnx_file, &self.url, &self.model) {
            (Some(file), ..) => Target::file(file, config)?,
            (None, Some(url), Some(model)) => Target::server(&Remote {
                url,
                model,
                version: self.version.as_deref(),
            })?,
            _ => {
                return Err(Error::invalid(
                    "expected an ONNX file, or --url and --model",
                ));
            }
        };
        let mut recorded = Vec::new();
        if let Some(path) = &self.requests {
            for request in requests::read(path)? {
                recorded.push(record(&target, &request)?);
            }
        }
        let made_up = match (self.made_up, recorded.is_empty()) {
            (Some(count), _) => count.into(),
            (None, true) => MADE_UP,
            (None, false) => 0,
        };
        recorded.extend(make_up(&target, made_up)?);
        self.write(&out, &recorded)?;
        for Recorded { name, .. } in &recorded {
            println!("{}", out.join(format!("{name}.json")).display());
        }
        eprintln!(
            "{} golden requests, answered by {}",
            recorded.len(),
            target.name
        );
        Ok(())
    }

    fn folder(&self) -> Result<PathBuf> {
        let beside = || golden_folder(self.onnx_file.as_deref()?);
        let unknown = || {
            Error::invalid(
                "--out is missing: only a file that is called model.onnx has golden requests beside it",
            )
        };
        self.out.clone().or_else(beside).ok_or_else(unknown)
    }

    /// Writes each file whole, so that a server which watches the folder never reads half of one.
    fn write(&self, out: &Path, recorded: &[Recorded]) -> Result<()> {
        let cannot = |error| {
            Error::unavailable(format!("cannot write to {}", out.display())).with_source(error)
        };
        fs::create_dir_all(out).map_err(cannot)?;
        let there: Vec<_> = fs::read_dir(out)
            .map_err(cannot)?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        let file = |name: &str| format!("{name}.json");
        let is_new = |there: &&String| !recorded.iter().any(|new| file(&new.name) == **there);
        let taken: Vec<_> = there
            .iter()
            .filter(|there| !is_new(there))
            .cloned()
            .collect();
        if !taken.is_empty() && !self.force {
            return Err(Error::invalid(format!(
                "{} already has {}; --force overwrites them",
                out.display(),
                taken.join(", ")
            )));
        }
        let kept = there.iter().filter(is_new).filter(|name| is_golden(name));
        let total = kept.count() + recorded.len();
        if total > MOST_FILES {
            return Err(Error::invalid(format!(
                "{} would have {total} golden requests, more than the {MOST_FILES} that a version may have",
                out.display()
            )));
        }
        for Recorded { name, text } in recorded {
            let unfinished = out.join(format!(".{name}.json"));
            fs::write(&unfinished, text).map_err(cannot)?;
            fs::rename(&unfinished, out.join(file(name))).map_err(cannot)?;
        }
        Ok(())
    }
}

fn record(target: &Target, request: &Written) -> Result<Recorded> {
    let Written { name, json } = request;
    let of_request = |error: Error| Error::new(error.kind(), format!("{name}: {}", error.chain()));
    let decoded =
        decode_rewritten(json.as_bytes(), &target.signature, &LIMITS).map_err(of_request)?;
    let DecodedRequest {
        inputs, outputs, ..
    } = decoded;
    if outputs
        .iter()
        .any(|output| output.parameters.classes.is_some())
    {
        return Err(of_request(Error::invalid(
            "classification is the server's, not the model's; ask for the numbers",
        )));
    }
    let wanted: Vec<_> = outputs.into_iter().map(|output| output.name).collect();
    let outputs = target.run(&inputs, &wanted).map_err(of_request)?;
    golden(name.clone(), &inputs, &outputs)
}

/// Golden requests of numbers that were made up to fit the model.
fn make_up(target: &Target, count: usize) -> Result<Vec<Recorded>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let has_rows = target.signature.has_rows();
    let mut first_error = None;
    for sample in &target.samples {
        let make = |at: usize| {
            let sample = Sample {
                rows: if has_rows {
                    ROWS[at % ROWS.len()]
                } else {
                    sample.rows
                },
                seed: at as u64 + 1,
                ..*sample
            };
            let inputs = sample.tensors(&target.signature)?;
            let outputs = target.run(&inputs, &[])?;
            golden(format!("made-up-{:02}", at + 1), &inputs, &outputs)
        };
        match (0..count).map(make).collect::<Result<Vec<_>>>() {
            Ok(made_up) => return Ok(made_up),
            Err(error) => drop(first_error.get_or_insert(error)),
        }
    }
    let reason = first_error.map(|error| error.chain()).unwrap_or_default();
    Err(Error::invalid(format!(
        "no made-up request runs ({reason}); give some with --requests"
    )))
}

fn golden(name: String, inputs: &[NamedTensor], outputs: &[NamedTensor]) -> Result<Recorded> {
    let text = recorded::write(inputs, outputs);
    match text.len() <= LIMITS.body_bytes {
        true => Ok(Recorded { name, text }),
        false => Err(Error::too_large(format!(
            "{name}: the golden request has {} bytes, more than the {} that it may have; fewer rows or outputs may do",
            text.len(),
            LIMITS.body_bytes
        ))),
    }
}

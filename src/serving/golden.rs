//! Golden requests: what a model's owner sends and what must come back, before a version may serve.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::budget::ComputeBudget;
use crate::config::Limits;
use crate::engine::{Model, ModelSource};
use crate::error::{Error, Result, guarded};
use crate::oip::recorded::{self, Recorded};
use crate::repository::layout::GOLDEN_FOLDER;
use crate::repository::{ModelFiles, Version};
use crate::tensor::difference::Precision;
use crate::tensor::expectation::{Margin, Tolerance};
use crate::tensor::signature::{CheckedInputs, Signature};
use crate::tensor::value::Tensor;

/// The most golden requests of a version: they are few and telling, and each engine runs them at every load.
pub const MOST_FILES: usize = 64;
/// The most bytes of them together.
const MOST_BYTES: u64 = 64 << 20;

/// What one of them may hold.
pub const LIMITS: Limits = Limits {
    body_bytes: 16 << 20,
    tensor_elements: 4 << 20,
    json_depth: 100,
};

/// The golden requests of a version as files, which nobody has read yet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct GoldenFiles {
    pub files: Vec<PathBuf>,
    /// For those that give none themselves.
    pub tolerance: Option<Tolerance>,
}

/// A request and what is expected of its answer.
pub struct Golden {
    /// Its file, from the version's folder on.
    name: String,
    pub inputs: CheckedInputs,
    expected: Vec<Expected>,
    /// Nothing where chance makes the values: then types and shapes are compared alone.
    margin: Option<Margin>,
}

struct Expected {
    output: String,
    /// Where it stands among the model's outputs.
    at: usize,
    tensor: Tensor,
}

impl GoldenFiles {
    /// Those beside this version.
    pub fn of(files: &ModelFiles, version: Version) -> GoldenFiles {
        GoldenFiles {
            files: files.golden.get(&version).cloned().unwrap_or_default(),
            tolerance: files.manifest.golden_tolerance,
        }
    }

    /// Reads them for the model in `source`, whose signature this is. The error names the file and what is wrong in it.
    pub fn read(&self, source: &ModelSource, signature: &Signature) -> Result<Vec<Golden>> {
        if self.files.len() > MOST_FILES {
            return Err(Error::unavailable(format!(
                "there are {} golden requests, more than the {MOST_FILES} that a version may have",
                self.files.len()
            )));
        }
        let file = source.file().ok();
        let is_random = file.is_some_and(|file| file.is_random());
        let precision = file.map_or_else(Precision::default, |file| file.precision);
        let margin = |tolerance: Option<Tolerance>| {
            (!is_random).then_some(Margin {
                precision,
                tolerance: tolerance.or(self.tolerance),
            })
        };
        let mut left = MOST_BYTES;
        let mut read_one = |path: &PathBuf| {
            let name = name(path);
            let wrong = |error: Error| Error::unavailable(format!("{name}: {}", error.chain()));
            let text = read_file(path, &mut left).map_err(wrong)?;
            let Recorded {
                inputs,
                outputs,
                tolerance,
            } = recorded::read(&text, signature, &LIMITS).map_err(wrong)?;
            let inputs = signature
                .check(inputs)
                .map_err(|error| wrong(Error::invalid(format!("request: {}", error.chain()))))?;
            let expected = outputs.into_iter().map(|output| Expected {
                at: position(signature, &output.name),
                output: output.name,
                tensor: output.tensor,
            });
            let expected = expected.collect();
            Ok(Golden {
                inputs,
                expected,
                margin: margin(tolerance),
                name: name.clone(),
            })
        };
        self.files.iter().map(&mut read_one).collect()
    }

    /// Lets the model answer them here, beside requests; the error says which answer is not what was expected, and how.
    pub fn replay(
        &self,
        source: &ModelSource,
        model: &dyn Model,
        budget: &ComputeBudget,
    ) -> Result<()> {
        if self.files.is_empty() {
            return Ok(());
        }
        let golden = self.read(source, model.signature())?;
        let mut session = model.session(1)?;
        for golden in golden {
            let ran = guarded("while it ran a golden request", || {
                let _permit = budget.acquire(1);
                session.run(&golden.inputs)
            });
            let answer = ran.map_err(|error| error.chain());
            golden
                .check(answer.as_deref())
                .map_err(Error::unavailable)?;
        }
        Ok(())
    }
}

impl Golden {
    /// What is wrong with this answer, or with there being none.
    pub fn check(&self, answer: Result<&[Tensor], &String>) -> Result<(), String> {
        let name = &self.name;
        let outputs = answer
            .map_err(|failure| format!("{name}: expected an answer, got an error: {failure}"))?;
        for Expected { output, at, tensor } in &self.expected {
            let wrong = |how: String| format!("{name}: output '{output}': {how}");
            let got = outputs
                .get(*at)
                .ok_or_else(|| wrong(format!("it is missing among {} outputs", outputs.len())))?;
            self.compare(tensor, got).map_err(wrong)?;
        }
        Ok(())
    }

    fn compare(&self, expected: &Tensor, got: &Tensor) -> Result<(), String> {
        match &self.margin {
            Some(margin) => margin.check(expected, got),
            None => {
                let form = |tensor: &Tensor| format!("{} {}", tensor.dtype(), tensor.shape());
                match form(expected) == form(got) {
                    true => Ok(()),
                    false => Err(format!("expected {}, got {}", form(expected), form(got))),
                }
            }
        }
    }
}

fn position(signature: &Signature, output: &str) -> usize {
    let position = signature
        .outputs
        .iter()
        .position(|spec| spec.name == output);
    position.expect("what is read has only outputs of the model")
}

/// A golden request's file as its owner knows it.
fn name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    match file == GOLDEN_FOLDER {
        true => GOLDEN_FOLDER.to_owned(),
        false => format!("{GOLDEN_FOLDER}/{file}"),
    }
}

/// Reads a file of a bounded length, which counts against what is left for all of them.
fn read_file(path: &Path, left: &mut u64) -> Result<Vec<u8>> {
    let cannot = |error: std::io::Error| Error::unavailable(format!("cannot be read: {error}"));
    // A device or a pipe might never end.
    if !fs::metadata(path).map_err(cannot)?.is_file() {
        // A folder that could not be listed says here why not.
        let mut entries = fs::read_dir(path).map_err(cannot)?;
        if path.ends_with(GOLDEN_FOLDER) {
            entries
                .try_for_each(|entry| entry.map(drop))
                .map_err(cannot)?;
            return Err(Error::unavailable("has far too many files"));
        }
        return Err(Error::unavailable("is not a file"));
    }
    let most = u64::min(LIMITS.body_bytes as u64, *left);
    let mut text = Vec::new();
    let file = fs::File::open(path).map_err(cannot)?;
    file.take(most + 1).read_to_end(&mut text).map_err(cannot)?;
    match text.len() as u64 {
        bytes if bytes <= most => {
            *left -= bytes;
            Ok(text)
        }
        _ if most < *left => Err(Error::unavailable(format!(
            "it has more than {} bytes",
            LIMITS.body_bytes
        ))),
        _ => Err(Error::unavailable(format!(
            "the golden requests have more than {MOST_BYTES} bytes together"
        ))),
    }
}

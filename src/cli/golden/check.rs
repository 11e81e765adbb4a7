//! `onnxd golden check`: what a server would make of the golden requests beside a model.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::examination::Examination;
use crate::config::{Config, InferenceConfig};
use crate::engine::ModelSource;
use crate::error::{Error, Result};
use crate::repository::store;
use crate::serving::agreement::verdict::Finding;
use crate::serving::golden::GoldenFiles;

/// Replay the golden requests beside a model; exits 0 if every version answers as expected.
#[derive(Debug, Args)]
pub struct Check {
    /// A model's folder: with model.onnx, or with version folders
    model_folder: PathBuf,
}

impl Check {
    /// Prints what came of each version; fails when one would not serve.
    pub fn run(self, config: &Config) -> Result<()> {
        let files = store::read_model(&self.model_folder)?;
        let mut inference = config.inference.clone();
        inference.engines = files.manifest.engine_rules(&inference.engines);
        let (mut checked, mut failed) = (0, 0);
        for (version, path) in &files.versions {
            let golden = GoldenFiles::of(&files, *version);
            if golden.files.is_empty() {
                println!("version {version}: no golden requests");
                continue;
            }
            checked += 1;
            println!("version {version}: {} golden requests", golden.files.len());
            if let Err(error) = check(path, &inference, &golden) {
                failed += 1;
                println!("  would not serve: {}", error.chain());
            }
        }
        match (checked, failed) {
            (0, _) => Err(Error::not_found(format!(
                "there are no golden requests in {}; onnxd golden record makes some",
                self.model_folder.display()
            ))),
            (_, 0) => Ok(()),
            _ => Err(Error::unavailable(format!(
                "{failed} of {checked} versions with golden requests would not serve"
            ))),
        }
    }
}

/// Prints where each engine stands; fails when none would serve.
fn check(path: &Path, inference: &InferenceConfig, golden: &GoldenFiles) -> Result<()> {
    let source = ModelSource::read(path)?;
    let examination = Examination::with_golden(&source, inference, golden)?;
    for finding in &examination.verdict.findings {
        let Finding {
            engine,
            standing,
            reason,
            ..
        } = finding;
        println!("  {engine:<12} {:<10} {reason}", standing.name());
    }
    examination.first().map(drop)
}

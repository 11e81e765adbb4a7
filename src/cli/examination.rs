//! What the server would make of a model file: its engines, examined by the settings of the process.

use std::sync::Arc;

use crate::config::InferenceConfig;
use crate::engine::{Engines, Model, ModelSource};
use crate::error::{Error, Result};
use crate::serving::agreement::verdict::{Finding, Verdict};
use crate::serving::agreement::{Examined, Models, Rules, examine};
use crate::serving::golden::GoldenFiles;
use crate::telemetry::metrics::PlanCacheMetrics;

/// A model on the engines of this machine.
pub struct Examination {
    pub verdict: Verdict,
    /// By the name of the engine, whatever became of it.
    pub models: Models,
}

impl Examination {
    /// Loads the model with every engine that the settings leave, and judges them.
    pub fn of(source: &ModelSource, inference: &InferenceConfig) -> Result<Examination> {
        Examination::with_golden(source, inference, &GoldenFiles::default())
    }

    /// The same, by their answers to golden requests too.
    pub fn with_golden(
        source: &ModelSource,
        inference: &InferenceConfig,
        golden: &GoldenFiles,
    ) -> Result<Examination> {
        let engines = Engines::of_machine(&inference.onnxruntime, PlanCacheMetrics::default());
        let engines = engines.chosen(&inference.engines.engine)?;
        let rules = Rules::new(inference.engines.agreement, inference.load_timeout);
        let Examined {
            verdict, models, ..
        } = examine(&engines, source, rules, golden)?;
        Ok(Examination { verdict, models })
    }

    /// The engine that would serve first, and the model as it runs it.
    pub fn first(&self) -> Result<(&Finding, &Arc<dyn Model>)> {
        let first = self.verdict.serving()?[0];
        let model = self.models.get(first.engine.as_str());
        // An engine is judged by what its model answered.
        let lost = || Error::internal(format!("the model of {} is lost", first.engine));
        Ok((first, model.ok_or_else(lost)?))
    }
}

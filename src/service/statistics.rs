//! What the served versions have done, for the statistics extension.

use std::sync::Arc;
use std::time::Duration;

use super::Service;
use crate::error::Result;
use crate::serving::deployment::Deployment;
use crate::serving::registry::{ModelEntry, Registry, Target};
use crate::serving::statistics::{Counts, StatisticDuration};
use crate::telemetry::metrics::TritonCounts;

/// What one version has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelStatistics {
    pub name: String,
    pub version: String,
    pub counts: Counts,
}

impl Service {
    /// What the version that `target` means has done; every served version of the model where it names none, and of
    /// every model without a target.
    pub fn statistics(&self, target: Option<&Target>) -> Result<Vec<ModelStatistics>> {
        let table = self.registry.table();
        let all_of = |model: &ModelEntry| {
            let mut served: Vec<_> = model.served().map(|(_, served)| served.clone()).collect();
            // Oldest first, as metadata has them.
            served.reverse();
            served
        };
        let deployments: Vec<Arc<Deployment>> = match target {
            None => table.models.values().flat_map(all_of).collect(),
            Some(Target {
                model: Some(name),
                version: None,
            }) => {
                // Whether any is served, and if not why.
                self.deployment(&Target::model(name))?;
                all_of(table.model(name)?)
            }
            Some(target) => vec![self.deployment(target)?],
        };
        Ok(deployments.iter().map(|served| of(served)).collect())
    }
}

fn of(deployment: &Deployment) -> ModelStatistics {
    let facts = &deployment.facts;
    ModelStatistics {
        name: facts.model.clone(),
        version: facts.version.clone(),
        counts: facts.statistics.counts(),
    }
}

/// What the versions that serve have done, for Triton's names.
pub fn triton_counts(registry: &Registry) -> Vec<TritonCounts> {
    let counts = |deployment: Arc<Deployment>| {
        let counts = deployment.facts.statistics.counts();
        let inference = counts.inference;
        let time = |phase: StatisticDuration| Duration::from_nanos(phase.ns);
        TritonCounts {
            model: deployment.facts.model.clone(),
            version: deployment.facts.version.clone(),
            success: inference.success.count,
            failure: inference.fail.count,
            rows: counts.inference_count,
            runs: counts.execution_count,
            request: time(inference.success),
            queue: time(inference.queue),
            compute_input: time(inference.compute_input),
            compute_infer: time(inference.compute_infer),
            compute_output: time(inference.compute_output),
        }
    };
    registry.deployments().into_iter().map(counts).collect()
}

//! Measures whether plans for concrete shapes are worth having beside the one for every shape.

use std::time::{Duration, Instant};

use super::graph::{Graph, Plan};
use super::ladder::note;
use super::{message, run};
use crate::engine::Attempt;
use crate::error::Result;
use crate::tensor::sample::Sample;
use crate::tensor::signature::{CheckedInputs, Dim, TensorSpec};

/// A plan for one shape must be so much faster, as a ratio and in seconds a run: less is lost in what a request costs
/// anyway.
const WORTH_IT: (f64, f64) = (1.1, 50e-6);
/// The rows with which both are compared.
const ROWS: usize = 4;
/// How long each of the two is measured, at least two runs.
const MEASURED_FOR: Duration = Duration::from_millis(50);

/// Whether plans for concrete shapes are faster, by measurement.
pub fn specialising_pays(
    graph: &Graph,
    any: &Plan,
    sample: Sample,
    tried: &mut Vec<Attempt>,
) -> bool {
    let has_dynamic = |spec: &TensorSpec| {
        let dims = spec.dims.as_deref();
        dims.is_none_or(|dims| dims.iter().any(|dim| matches!(dim, Dim::Dynamic(_))))
    };
    if !graph.signature().inputs.iter().any(has_dynamic) {
        return false;
    }
    let compared = compare(
        graph,
        any,
        Sample {
            rows: ROWS,
            seed: 1,
            ..sample
        },
    );
    let (ratio, seconds) = WORTH_IT;
    let pays = |(any, concrete): &(f64, f64)| any / concrete > ratio && any - concrete > seconds;
    let pays = compared.as_ref().is_ok_and(pays);
    let outcome = compared.map(|(any, concrete)| {
        let used = if pays { "used" } else { "not worth having" };
        format!(
            "{:.2} times as fast as the plan for every shape: {used}",
            any / concrete
        )
    });
    note(tried, "plans for concrete shapes", outcome);
    pays
}

/// The seconds that a run takes with the plan for every shape and with one for this shape.
fn compare(graph: &Graph, any: &Plan, sample: Sample) -> Result<(f64, f64), String> {
    let inputs = sample
        .inputs(graph.signature())
        .map_err(|error| error.chain())?;
    let frozen = vec![false; inputs.tensors().len()];
    let concrete = graph
        .plan_for(inputs.tensors(), &frozen)
        .map_err(|error| message::reason(&error))?;
    let time = |plan| best_time(plan, graph, &inputs).map_err(|error| error.to_string());
    Ok((time(any)?, time(&concrete)?))
}

/// The shortest of several runs, in seconds.
fn best_time(plan: &Plan, graph: &Graph, inputs: &CheckedInputs) -> Result<f64> {
    let mut best = f64::INFINITY;
    let began = Instant::now();
    for runs in 0.. {
        let started = Instant::now();
        run::once(plan, graph.signature(), inputs)?;
        best = best.min(started.elapsed().as_secs_f64());
        if runs > 0 && began.elapsed() > MEASURED_FOR {
            break;
        }
    }
    Ok(best)
}

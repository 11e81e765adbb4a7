//! Measures whether plans for concrete shapes are worth having beside the one for every shape.

use std::time::{Duration, Instant};

use super::graph::{Graph, Plan};
use super::ladder::note;
use super::run;
use crate::engine::Attempt;
use crate::error::Result;
use crate::tensor::sample::Sample;
use crate::tensor::signature::{CheckedInputs, TensorSpec};

/// A plan for one shape must be so much faster, as a ratio and in seconds a run: less is lost in what a request costs
/// anyway.
const WORTH_IT: (f64, f64) = (1.1, 50e-6);
/// The rows with which both are compared.
const ROWS: usize = 4;
/// How long each of the two is measured, at least two runs.
const MEASURED_FOR: Duration = Duration::from_millis(10);

/// Whether plans for concrete shapes are faster, by measurement.
pub fn specialising_pays(
    graph: &Graph,
    any: &Plan,
    sample: Sample,
    tried: &mut Vec<Attempt>,
) -> bool {
    if !graph.signature().inputs.iter().any(TensorSpec::is_dynamic) {
        return false;
    }
    let outcome = compare(
        graph,
        any,
        Sample {
            rows: ROWS,
            seed: 1,
            ..sample
        },
    );
    let pays = matches!(outcome, Ok(Gain::Large(_)));
    let told = outcome.map(|gain| match gain {
        Gain::Large(times) => format!("{times:.2} times as fast as the plan for every shape: used"),
        Gain::Small(times) => {
            format!("{times:.2} times as fast as the plan for every shape: not worth having")
        }
        Gain::Impossible => {
            "not worth having: the plan for every shape runs too shortly to gain by it".to_owned()
        }
    });
    note(tried, "plans for concrete shapes", told);
    pays
}

/// What a plan for one shape gains over the one for every shape, in times.
enum Gain {
    Large(f64),
    Small(f64),
    /// A run is so short that no gain can be large.
    Impossible,
}

fn compare(graph: &Graph, any: &Plan, sample: Sample) -> Result<Gain, String> {
    let inputs = sample
        .inputs(graph.signature())
        .map_err(|error| error.chain())?;
    let time = |plan| best_time(plan, graph, &inputs).map_err(|error| error.to_string());
    let (ratio, seconds) = WORTH_IT;
    let for_any = time(any)?;
    if for_any < seconds {
        return Ok(Gain::Impossible);
    }
    let frozen = vec![false; inputs.tensors().len()];
    let concrete = graph.plan_for(inputs.tensors(), &frozen)?;
    let concrete = time(&concrete)?;
    let times = for_any / concrete;
    match times > ratio && for_any - concrete > seconds {
        true => Ok(Gain::Large(times)),
        false => Ok(Gain::Small(times)),
    }
}

/// The shortest of several runs, in seconds.
fn best_time(plan: &Plan, graph: &Graph, inputs: &CheckedInputs) -> Result<f64> {
    let mut best = f64::INFINITY;
    let began = Instant::now();
    for runs in 0.. {
        let started = Instant::now();
        run::once(plan, graph.signature(), inputs)?;
        best = best.min(started.elapsed().as_secs_f64());
        if runs > 0 && (best < WORTH_IT.1 || began.elapsed() > MEASURED_FOR) {
            break;
        }
    }
    Ok(best)
}

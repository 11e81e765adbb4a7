//! Climbs from the plan that serves best to the one that serves at all, until one runs made-up inputs.
//!
//! 1. One plan for every shape, with symbols for the dynamic dimensions.
//! 2. A plan for each shape that requests bring.
//! 3. A plan for each shape and each value of the small whole-number inputs, which are constants in it: shapes that
//!    depend on values.
//! 4. The same with every input but the first a constant: weights and limits that are given as inputs.
//! 5. The same with every input a constant.

use super::graph::{Graph, Plan};
use super::{compare, run};
use crate::engine::{ADVICE, Attempt};
use crate::error::{Error, Result};
use crate::tensor::dtype::DataType;
use crate::tensor::sample::Sample;
use crate::tensor::signature::{Dim, TensorSpec};

/// Inputs with more elements are no lengths, axes or indices that a shape would depend on.
pub const MOST_FROZEN_ELEMENTS: usize = 1 << 16;

/// A plan for every shape must run so many rows as well as one.
const SEVERAL_ROWS: usize = 3;
const FOR_ANY_SHAPE: &str = "one plan for every shape";

/// Which inputs are constants of a plan, by their place in the signature.
pub type Frozen = Vec<bool>;

/// How a model is run.
pub struct Foothold {
    /// The plan for every shape, where there is one.
    pub any: Option<Plan>,
    /// Whether plans are made for concrete shapes as well.
    pub specialise: bool,
    /// What may be frozen to get a plan for concrete shapes, from nothing on.
    pub levels: Vec<Frozen>,
    /// The level at which the made-up inputs ran.
    pub level: usize,
    /// The inputs that were seen to run.
    pub sample: Option<Sample>,
    /// The plan that was made for them, where there is none for every shape.
    pub made: Option<Plan>,
}

/// Finds how the graph runs; tells `tried` of every way.
pub fn climb(graph: &Graph, tried: &mut Vec<Attempt>) -> Result<Foothold> {
    let inputs = &graph.signature().inputs;
    let mut found = Foothold {
        any: attempt(tried, FOR_ANY_SHAPE, || graph.plan_for_any_shape()),
        specialise: true,
        levels: levels(inputs),
        level: 0,
        sample: None,
        made: None,
    };
    if let Some(plan) = &found.any {
        match try_for_any_shape(graph, plan) {
            Ok(sample) => {
                found.sample = Some(sample);
                found.specialise = compare::specialising_pays(graph, plan, sample, tried);
                return Ok(found);
            }
            Err(reason) => note(tried, FOR_ANY_SHAPE, Err(reason)),
        }
    }
    let mut first_reason = None;
    for level in 0..found.levels.len() {
        match try_level(graph, &found.levels[level], tried) {
            Ok((sample, plan)) => {
                // The plan for every shape does not run what this one runs.
                (found.any, found.made) = (None, Some(plan));
                (found.level, found.sample) = (level, Some(sample));
                return Ok(found);
            }
            Err(reason) => first_reason.get_or_insert(reason),
        };
    }
    // What remains may depend on what nobody can guess, values, lengths or a number of rows, or is too large to be made
    // up.
    let some_rows_may_run = found.any.is_some() && inputs.iter().any(TensorSpec::is_dynamic);
    let is_too_large = Sample::ZEROS.tensors(graph.signature()).is_err();
    if some_rows_may_run || inputs.iter().any(TensorSpec::is_open) || is_too_large {
        let seen = "each brings the shapes and values that its plan needs".to_owned();
        note(tried, "leave it to the requests", Ok(seen));
        return Ok(found);
    }
    let reason = first_reason.unwrap_or_default();
    Err(Error::unimplemented(format!(
        "tract cannot run this model: {reason}; {}",
        ADVICE
    )))
}

/// Finds a made-up request that the plan for every shape runs, with one row and with several.
fn try_for_any_shape(graph: &Graph, plan: &Plan) -> Result<Sample, String> {
    let mut reason = String::new();
    for sample in Sample::likely(&graph.signature().inputs) {
        let several = Sample {
            rows: SEVERAL_ROWS,
            ..sample
        };
        let ran = runs(graph, plan, &sample).and_then(|()| runs(graph, plan, &several));
        match ran {
            Ok(()) => return Ok(sample),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(reason)
}

/// Makes plans with these inputs frozen until one runs the made-up request that it is for.
fn try_level(
    graph: &Graph,
    frozen: &Frozen,
    tried: &mut Vec<Attempt>,
) -> Result<(Sample, Plan), String> {
    let inputs = &graph.signature().inputs;
    let what = what(frozen, inputs);
    let mut reason = String::new();
    for sample in Sample::likely(inputs) {
        match plan_and_run(graph, frozen, &sample) {
            Ok(plan) => {
                note(
                    tried,
                    &what,
                    Ok(format!("runs a made-up request with {sample}")),
                );
                return Ok((sample, plan));
            }
            Err(error) => reason = error,
        }
    }
    note(tried, &what, Err(reason.clone()));
    Err(reason)
}

fn plan_and_run(graph: &Graph, frozen: &Frozen, sample: &Sample) -> Result<Plan, String> {
    let inputs = sample
        .inputs(graph.signature())
        .map_err(|error| error.chain())?;
    let plan = graph.plan_for(inputs.tensors(), frozen)?;
    let ran = run::once(&plan, graph.signature(), &inputs);
    ran.map(|()| plan).map_err(|error| error.to_string())
}

fn runs(graph: &Graph, plan: &Plan, sample: &Sample) -> Result<()> {
    run::once(plan, graph.signature(), &sample.inputs(graph.signature())?)
}

/// Adds what came of a way.
pub fn note(tried: &mut Vec<Attempt>, what: &str, outcome: Result<String, String>) {
    tried.push(Attempt {
        what: what.to_owned(),
        outcome,
    });
}

fn attempt(
    tried: &mut Vec<Attempt>,
    what: &str,
    make: impl FnOnce() -> Result<Plan, String>,
) -> Option<Plan> {
    match make() {
        Ok(plan) => {
            note(tried, what, Ok("made".to_owned()));
            Some(plan)
        }
        Err(error) => {
            note(tried, what, Err(error));
            None
        }
    }
}

/// The ways to freeze inputs, each more than the one before.
fn levels(inputs: &[TensorSpec]) -> Vec<Frozen> {
    let may_be_small = |spec: &TensorSpec| {
        let fixed = |dim: &Dim| match dim {
            Dim::Fixed(length) => *length,
            Dim::Dynamic(_) => 1,
        };
        let dims = spec.dims.as_deref().unwrap_or_default();
        dims.iter().map(fixed).fold(1, usize::saturating_mul) <= MOST_FROZEN_ELEMENTS
    };
    let is_integer = |spec: &TensorSpec| spec.dtype.is_integer() || spec.dtype == DataType::Bool;
    let mut levels: Vec<Frozen> = vec![vec![false; inputs.len()]];
    let mut add = |level: Frozen| {
        if !levels.contains(&level) {
            levels.push(level);
        }
    };
    add(inputs
        .iter()
        .map(|spec| is_integer(spec) && may_be_small(spec))
        .collect());
    add(inputs
        .iter()
        .enumerate()
        .map(|(place, spec)| place > 0 && may_be_small(spec))
        .collect());
    add(inputs.iter().map(may_be_small).collect());
    levels
}

fn what(frozen: &Frozen, inputs: &[TensorSpec]) -> String {
    let frozen = inputs.iter().zip(frozen).filter(|(_, frozen)| **frozen);
    let names: Vec<_> = frozen.map(|(spec, _)| format!("'{}'", spec.name)).collect();
    match names.is_empty() {
        true => "a plan for each shape".to_owned(),
        false => format!(
            "a plan for each shape and each value of {}",
            names.join(", ")
        ),
    }
}

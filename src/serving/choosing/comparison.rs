//! Compares ways of running a model by what its requests ask of them: where requests are joined, by what a row costs in
//! the batches that pay best; else by requests in the shapes that are used.

use crate::config::Aim;
use crate::error::guarded;
use crate::serving::budget::ComputeBudget;
use crate::serving::deployment::Deployment;
use crate::serving::measuring::{Batches, Measured, OF_REQUESTS, Way, measure, measure_batches};
use crate::serving::usage::MainLoad;
use crate::tensor::sample::Sample;
use crate::tensor::shape::Shape;
use crate::tensor::signature::CheckedInputs;

/// What was measured of the ways that could run the model.
pub struct Comparison {
    pub timed: Vec<Timed>,
    /// What they were measured with.
    pub with: String,
}

/// One way and what it takes.
pub struct Timed {
    pub way: Way,
    /// A request's share of the time, or a row's where requests are joined.
    pub seconds: f64,
    pub batches: Option<Measured>,
}

/// The kind of requests that a model was measured for. Requests of the same kind need no new measuring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Which power of two the rows of a request fall under, where they are not joined.
    rows: Option<u32>,
    /// The same of the elements of a request, or of a row where they are joined.
    elements: Option<u32>,
}

impl Kind {
    /// The kind of the requests that make most of a model's work.
    pub fn of(deployment: &Deployment, main: &MainLoad) -> Kind {
        let power = u32::try_from(main.class).unwrap_or(u32::MAX);
        Kind::new(deployment, power, &main.shapes)
    }

    /// The kind of what the model is measured with before there are requests.
    pub fn made_up(deployment: &Deployment) -> Option<Kind> {
        let sample = deployment.model().sample()?;
        let inputs = sample.inputs(deployment.signature()).ok()?;
        let tensors = inputs.tensors().iter();
        let shapes: Vec<_> = tensors.map(|tensor| tensor.shape().clone()).collect();
        let power = inputs.rows().checked_ilog2().unwrap_or(0);
        Some(Kind::new(deployment, power, &shapes))
    }

    fn new(deployment: &Deployment, power: u32, shapes: &[Shape]) -> Kind {
        let elements = |shape: &Shape| match (is_joined(deployment), shape.dims()) {
            (true, [_, row @ ..]) => row.iter().product(),
            _ => shape.elements(),
        };
        let elements: usize = shapes.iter().map(elements).sum();
        Kind {
            rows: (!is_joined(deployment)).then_some(power),
            elements: elements.checked_ilog2(),
        }
    }
}

/// Whether ways are compared by batches: a model that is measured for latency runs a request by itself.
fn is_joined(deployment: &Deployment) -> bool {
    let facts = &deployment.facts;
    facts.verdict.joins.is_ok()
        && facts.rules.aim == Aim::Throughput
        && facts.knobs.bounds().most_rows > 1
}

/// Measures the ways side by side; nothing where no request can be made up.
pub fn compare(
    deployment: &Deployment,
    ways: &[Way],
    main: Option<MainLoad>,
    (budget, is_over): (&ComputeBudget, &dyn Fn() -> bool),
) -> Option<Comparison> {
    let inputs = inputs(deployment, main)?;
    if is_joined(deployment) {
        let batches = Batches {
            of: &|rows| with_rows(deployment, &inputs, rows),
            bounds: deployment.facts.knobs.bounds(),
        };
        let measured = measure_batches(ways, &batches, budget, is_over);
        let timed = ways.iter().zip(measured).filter_map(|(way, measured)| {
            let batches = measured?;
            Some(Timed {
                way: way.clone(),
                seconds: batches.row_seconds,
                batches: Some(batches),
            })
        });
        return Some(Comparison {
            timed: timed.collect(),
            with: "rows that are joined".to_owned(),
        });
    }
    let how = (deployment.facts.rules.aim, OF_REQUESTS);
    let seconds = measure(ways, &inputs, how, budget, is_over);
    let timed = ways.iter().zip(seconds).filter_map(|(way, seconds)| {
        Some(Timed {
            way: way.clone(),
            seconds: seconds?,
            batches: None,
        })
    });
    Some(Comparison {
        timed: timed.collect(),
        with: format!("rows = {}", inputs.rows()),
    })
}

impl Comparison {
    /// The way that takes the least time.
    pub fn best(&self) -> Option<&Timed> {
        self.timed
            .iter()
            .min_by(|one, other| one.seconds.total_cmp(&other.seconds))
    }

    /// All that was measured, in words.
    pub fn told(&self) -> String {
        let told: Vec<_> = self.timed.iter().map(Timed::told).collect();
        told.join(", ")
    }
}

impl Timed {
    fn told(&self) -> String {
        let Timed {
            way: Way { engine, split, .. },
            seconds,
            batches,
        } = self;
        let threads = match split.threads {
            1 => String::new(),
            threads => format!(" on {threads} threads"),
        };
        let took = match batches {
            None => format!("{:.3} ms", seconds * 1e3),
            Some(batches) => {
                let curve = batches.costs.curve(&batches.class);
                let alone = curve
                    .first()
                    .filter(|(rows, _)| *rows == 1 && batches.rows > 1);
                let alone = alone.map(|(_, run)| run * 1e3 / split.workers as f64);
                let alone =
                    alone.map_or_else(String::new, |ms| format!("{ms:.3} ms a row alone and "));
                format!("{alone}{:.3} ms at {}", seconds * 1e3, batches.rows)
            }
        };
        format!("{engine}{threads} {took}")
    }
}

/// Made-up inputs in the shapes that are used, else in those that the model was seen to run.
fn inputs(deployment: &Deployment, main: Option<MainLoad>) -> Option<CheckedInputs> {
    let signature = deployment.signature();
    let sample = sample(deployment)?;
    let used = main.and_then(|main| sample.inputs_shaped(signature, &main.shapes).ok());
    used.filter(|inputs| runs(deployment, inputs))
        .or_else(|| sample.inputs(signature).ok())
}

fn sample(deployment: &Deployment) -> Option<Sample> {
    let sample = deployment.model().sample()?;
    Some(Sample { seed: 1, ..sample })
}

fn runs(deployment: &Deployment, inputs: &CheckedInputs) -> bool {
    let model = deployment.model();
    guarded("while it was tried", || model.session(1)?.run(inputs)).is_ok()
}

/// The same inputs with another number of rows.
fn with_rows(
    deployment: &Deployment,
    inputs: &CheckedInputs,
    rows: usize,
) -> Option<CheckedInputs> {
    let shapes = inputs.tensors().iter().map(|tensor| {
        let mut dims = tensor.shape().dims().to_vec();
        *dims.first_mut()? = rows;
        Shape::new(dims).ok()
    });
    let shapes: Vec<_> = shapes.collect::<Option<_>>()?;
    sample(deployment)?
        .inputs_shaped(deployment.signature(), &shapes)
        .ok()
}

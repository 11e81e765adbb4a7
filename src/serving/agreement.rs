//! Lets every engine that takes a model run the same made-up requests, and holds their answers against each other.
//!
//! An engine is asked on a thread of its own: it may panic, or never come back, and harms only itself.

pub mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use self::verdict::{Finding, Standing, Testimony, Verdict, judge};
use super::joining;
use crate::config::Agreement;
use crate::engine::{Attempt, Engine, Engines, Model, ModelSource, STACK_BYTES, Session};
use crate::error::{Error, Result, guarded};
use crate::telemetry::process;
use crate::tensor::difference::{Precision, distance};
use crate::tensor::sample::{Integers, Sample};
use crate::tensor::signature::{CheckedInputs, Signature, TensorSpec};
use crate::tensor::value::Tensor;

/// The rows of the made-up requests that engines are compared with. Whether requests can be joined is proven with the
/// same, so that plans which were made for them serve twice.
const ROWS: [usize; 2] = [1, 3];
/// So many times as long as the first engine the others may take.
const TIMES_THE_FIRST: u32 = 4;

/// What an examination goes by.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub agreement: Agreement,
    /// How long the other engines may take in any case, once one is ready.
    pub patience: Duration,
}

/// Models by the name of the engine that runs them.
pub type Models = BTreeMap<&'static str, Arc<dyn Model>>;

/// What came of an examination.
pub struct Examined {
    pub verdict: Verdict,
    /// The models that were loaded, whatever became of them.
    pub models: Models,
    /// Whether an engine was given up, and may still be at work.
    pub was_given_up: bool,
}

/// Loads a model with every engine given, which come in the order of preference, and judges them by their answers.
pub fn examine(engines: &Engines, source: &ModelSource, rules: Rules) -> Result<Examined> {
    let engines = engines.list();
    let (mut findings, mut models) = (BTreeMap::new(), Models::new());
    let mut was_given_up = false;
    let mut witnesses = Vec::new();
    let (say, heard) = mpsc::channel();
    for (at, engine) in engines.iter().enumerate() {
        witnesses.push(Witness::call(
            at,
            engine.clone(),
            source.clone(),
            say.clone(),
        )?);
    }
    drop(say);
    let loaded = gather(&heard, engines.len(), rules.patience, |(model, _)| {
        model.is_ok()
    });
    let mut tried = BTreeMap::new();
    for (engine, loaded) in engines.iter().zip(loaded) {
        let name = engine.name();
        let Some((model, attempts)) = loaded else {
            was_given_up = true;
            findings.insert(name, late(name, "loading"));
            continue;
        };
        match model {
            Ok(model) => {
                models.insert(name, model);
                tried.insert(name, attempts);
            }
            Err(error) => {
                let mut finding = Finding::of_error(name, Standing::Refuses, &error);
                finding.tried = attempts;
                findings.insert(name, finding);
            }
        }
    }
    let cases = match models.len() {
        0 | 1 => Vec::new(),
        _ => cases(&models, |sample| sample),
    };
    let asked = engines.iter().zip(&witnesses);
    let asked: Vec<_> = asked
        .map(|(engine, witness)| models.contains_key(engine.name()).then_some(witness))
        .collect();
    let answers = ask(&asked, &cases, rules.patience);
    let testify = |answers: &[Option<Answers>], compare: Comparison| {
        let testimonies = engines.iter().zip(answers).filter_map(|(engine, answers)| {
            Some(Testimony {
                engine: engine.name().to_owned(),
                tried: tried.get(engine.name())?.clone(),
                answers: answers.clone()?,
            })
        });
        judge(testimonies.collect(), rules.agreement, compare)
    };
    let mut judged = testify(&answers, comparison(source));
    if is_undecided(&judged)
        && is_agreed(&testify(&answers, coarse_comparison()))
        && let Some(various) = various_cases(&models)
    {
        // One that was given up is not asked again.
        let asked = asked.iter().zip(&answers);
        let asked: Vec<_> = asked
            .map(|(witness, answers)| witness.filter(|_| answers.is_some()))
            .collect();
        let again = testify(&ask(&asked, &various, rules.patience), comparison(source));
        if is_agreed(&again) {
            judged = second_opinion(judged, again);
        }
    }
    for ((engine, witness), answers) in engines.iter().zip(&asked).zip(&answers) {
        if witness.is_some() && answers.is_none() {
            was_given_up = true;
            findings.insert(engine.name(), late(engine.name(), "running"));
        }
    }
    for finding in judged {
        let engine = engines
            .iter()
            .find(|engine| engine.name() == finding.engine);
        findings.extend(engine.map(|engine| (engine.name(), finding)));
    }
    let findings = engines
        .iter()
        .filter_map(|engine| findings.remove(engine.name()));
    let mut verdict = Verdict {
        findings: findings.collect(),
        joins: Err("no engine serves the model".to_owned()),
    };
    let first = verdict
        .serving()
        .ok()
        .map(|serving| serving[0].engine.clone());
    if let Some(model) = first.and_then(|engine| models.get(engine.as_str())) {
        verdict.joins = joining::prove(&**model);
    }
    Ok(Examined {
        verdict,
        models,
        was_given_up,
    })
}

/// What each engine that is asked says to these requests.
fn ask(
    witnesses: &[Option<&Witness>],
    cases: &[CheckedInputs],
    patience: Duration,
) -> Vec<Option<Answers>> {
    let (say, heard) = mpsc::channel();
    for witness in witnesses.iter().flatten() {
        witness.ask(cases.to_vec(), say.clone());
    }
    drop(say);
    // One that fails at once says nothing of how long the others need.
    gather(&heard, witnesses.len(), patience, |answers: &Answers| {
        cases.is_empty() || answers.iter().any(Result::is_ok)
    })
}

fn is_agreed(findings: &[Finding]) -> bool {
    let mut findings = findings.iter();
    findings.any(|finding| finding.standing == Standing::Agrees)
}

/// Whether engines differ and no two agree.
fn is_undecided(findings: &[Finding]) -> bool {
    let differs =
        |finding: &Finding| matches!(finding.standing, Standing::Differs | Standing::Disputed);
    !is_agreed(findings) && findings.iter().any(differs)
}

/// The same engines judged again: with more various whole numbers. Of an input of 0 and 1 alone some models make values
/// that hardly vary, and a network that normalises those magnifies the rounding, which no engine can help.
fn second_opinion(first: Vec<Finding>, again: Vec<Finding>) -> Vec<Finding> {
    let mut again: BTreeMap<_, _> = again
        .into_iter()
        .map(|finding| (finding.engine.clone(), finding))
        .collect();
    let judged = first
        .into_iter()
        .map(|first| match again.remove(&first.engine) {
            Some(mut finding) => {
                let few = format!("; with whole numbers of 0 and 1 alone it {}", first.reason);
                finding.reason.push_str(&few);
                finding
            }
            None => first,
        });
    judged.collect()
}

/// What each of `count` speakers says, as far as it says it in time: once one has said what settles matters, the others
/// have a while left.
fn gather<T>(
    heard: &Receiver<(usize, T)>,
    count: usize,
    patience: Duration,
    settles: impl Fn(&T) -> bool,
) -> Vec<Option<T>> {
    let mut said: Vec<Option<T>> = (0..count).map(|_| None).collect();
    let began = Instant::now();
    let mut deadline = None;
    loop {
        let next = match deadline {
            None => heard.recv().ok(),
            Some(deadline) => {
                let left = Instant::saturating_duration_since(&deadline, Instant::now());
                heard.recv_timeout(left).ok()
            }
        };
        // Nobody is left to speak, or their time is over.
        let Some((at, word)) = next else { return said };
        if deadline.is_none() && settles(&word) {
            let allowed = patience.max(began.elapsed() * TIMES_THE_FIRST);
            deadline = Some(began + allowed);
        }
        said[at] = Some(word);
    }
}

fn late(engine: &str, doing: &str) -> Finding {
    let error = Error::unavailable(format!(
        "{doing} the model takes far longer than with another engine, and was given up"
    ));
    Finding::of_error(engine, Standing::Fails, &error)
}

/// The made-up requests with which engines are compared: those that one of them was seen to run, with other numbers,
/// rows and lengths.
fn cases(models: &Models, change: impl Fn(Sample) -> Sample) -> Vec<CheckedInputs> {
    let Some(signature) = models.values().next().map(|model| model.signature()) else {
        return Vec::new();
    };
    let mut samples: Vec<Sample> = Vec::new();
    for base in models.values().filter_map(|model| model.sample()) {
        for sample in variants(base, signature) {
            if !samples.contains(&sample) {
                samples.push(sample);
            }
        }
    }
    let inputs = samples
        .into_iter()
        .filter_map(|sample| change(sample).inputs(signature).ok());
    inputs.collect()
}

/// The same with more various whole numbers, for models that take some.
fn various_cases(models: &Models) -> Option<Vec<CheckedInputs>> {
    let signature = models.values().next()?.signature();
    let takes_some = signature.inputs.iter().any(|spec| spec.dtype.is_integer());
    let various = |sample| Sample {
        integers: Integers::Bytes,
        ..sample
    };
    takes_some.then(|| cases(models, various))
}

fn variants(base: Sample, signature: &Signature) -> Vec<Sample> {
    let [one, several] = ROWS;
    let mut variants = vec![
        Sample {
            rows: one,
            seed: 1,
            ..base
        },
        Sample {
            rows: several,
            seed: 2,
            ..base
        },
    ];
    if signature.inputs.iter().any(TensorSpec::has_free_dims) {
        let free = base.free * 2;
        variants.push(Sample {
            rows: one,
            free,
            seed: 3,
            ..base
        });
    }
    variants
}

/// How far two engines' outputs lie apart, or what is wrong between them.
type Comparison = Box<dyn Fn(&Vec<Tensor>, &Vec<Tensor>) -> Result<f64, String>>;

fn comparison(source: &ModelSource) -> Comparison {
    match source.file() {
        Ok(file) if file.is_random() => Box::new(|one, other| compare_forms(one, other)),
        Ok(file) => {
            let precision = file.precision;
            Box::new(move |one, other| compare_values(one, other, precision))
        }
        Err(_) => Box::new(|one, other| compare_values(one, other, Precision::default())),
    }
}

/// What differs by more than this differs not by rounding alone.
fn coarse_comparison() -> Comparison {
    Box::new(|one, other| compare_values(one, other, Precision::Bfloat))
}

fn compare_values(one: &[Tensor], other: &[Tensor], precision: Precision) -> Result<f64, String> {
    if one.len() != other.len() {
        return Err(format!("{} outputs against {}", one.len(), other.len()));
    }
    let mut largest = 0f64;
    for (at, (one, other)) in one.iter().zip(other).enumerate() {
        let found = distance(one, other).map_err(|how| format!("output {at}: {how}"))?;
        let tolerance = precision.tolerance(one.dtype());
        if found > tolerance {
            return Err(format!(
                "output {at}: the largest difference is {found:.1e}, and {tolerance:.0e} is allowed"
            ));
        }
        largest = largest.max(found);
    }
    Ok(largest)
}

/// Of what chance makes, only types and shapes can be compared.
fn compare_forms(one: &[Tensor], other: &[Tensor]) -> Result<f64, String> {
    let form = |tensor: &Tensor| (tensor.dtype(), tensor.shape().clone());
    let alike = one.iter().map(form).eq(other.iter().map(form));
    alike
        .then_some(0.0)
        .ok_or_else(|| "other types or shapes".to_owned())
}

/// An engine's model, or why there is none, and what was tried.
type Loaded = (Result<Arc<dyn Model>>, Vec<Attempt>);
/// What it answers to each case.
type Answers = Vec<Result<Vec<Tensor>, String>>;

/// One engine at work on the model, on a thread of its own, which ends once nobody asks any more.
struct Witness {
    asked: Sender<(Vec<CheckedInputs>, Sender<(usize, Answers)>)>,
}

impl Witness {
    fn call(
        at: usize,
        engine: Arc<dyn Engine>,
        source: ModelSource,
        say: Sender<(usize, Loaded)>,
    ) -> Result<Witness> {
        let (asked, cases) = mpsc::channel::<(Vec<CheckedInputs>, Sender<(usize, Answers)>)>();
        let name = engine.name();
        let work = move || {
            let mut tried = Vec::new();
            let model = load(&*engine, &source, &mut tried);
            let kept = model.as_ref().ok().cloned();
            drop(source);
            // Whoever asked may have given this engine up; then nobody needs what it says.
            let _ = say.send((at, (model, tried)));
            drop(say);
            let Some(model) = kept else { return };
            while let Ok((cases, say)) = cases.recv() {
                let _ = say.send((at, answer(&*model, &cases)));
            }
        };
        let thread = thread::Builder::new()
            .name(format!("load-{name}"))
            .stack_size(STACK_BYTES);
        let unstarted =
            |error| Error::internal("a loading thread did not start").with_source(error);
        thread.spawn(work).map_err(unstarted)?;
        Ok(Witness { asked })
    }

    fn ask(&self, cases: Vec<CheckedInputs>, say: Sender<(usize, Answers)>) {
        // A thread that is gone is missed when its answers are gathered.
        let _ = self.asked.send((cases, say));
    }
}

/// Loads a model, unless by the engine's own word there is no memory for it.
pub fn load(
    engine: &dyn Engine,
    source: &ModelSource,
    tried: &mut Vec<Attempt>,
) -> Result<Arc<dyn Model>> {
    if let (Some(needed), Some(free)) = (engine.memory_needed(source), process::available_bytes())
        && needed > free
    {
        return Err(Error::unavailable(format!(
            "loading it takes about {} MiB of memory, and {} MiB are free",
            needed >> 20,
            free >> 20
        )));
    }
    guarded("while loading", || engine.load(source, tried))
}

fn answer(model: &dyn Model, cases: &[CheckedInputs]) -> Vec<Result<Vec<Tensor>, String>> {
    let mut session = None;
    let mut run = |inputs: &CheckedInputs| {
        guarded("while it was tried", || {
            // One that panicked is not used again.
            let mut fresh: Box<dyn Session> = match session.take() {
                Some(session) => session,
                None => model.session(1)?,
            };
            let outputs = fresh.run(inputs);
            session = Some(fresh);
            outputs
        })
    };
    cases
        .iter()
        .map(|case| run(case).map_err(|error| error.chain()))
        .collect()
}

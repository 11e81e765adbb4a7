//! One live version of a model: everything that a request to it needs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::agreement::verdict::{Finding, Standing, Verdict};
use super::agreement::{self, Models, Rules};
use super::budget::ComputeBudget;
use super::class_names::ClassNames;
use super::cost::{Costs, Decision, measure};
use super::golden::GoldenFiles;
use super::knobs::{Defaults, Knobs};
use super::lane::{Completed, Lane, LaneConfig, Request, Split};
use super::loading::Wanted;
use super::measuring::{Measured, per_row};
use super::memory::{Held, Ledger, Promise, Scale};
use super::statistics::Statistics;
use super::trial::Trial;
use super::usage::Usage;
use crate::config::EngineRules;
use crate::engine::{Attempt, Engines, Model, ModelSource};
use crate::error::{Error, Result};
use crate::repository::manifest::Labels;
use crate::repository::{Origin, Version, VersionFiles, store};
use crate::telemetry::logging::milliseconds;
use crate::telemetry::metrics::{Loaded, Metrics, ModelMetrics};
use crate::tensor::batch::ShapeClass;
use crate::tensor::signature::Signature;
use crate::tensor::value::NamedTensor;

/// What metadata calls the format of our models.
pub const PLATFORM: &str = "onnx_onnxv1";

/// A model's version that takes traffic.
pub struct Deployment {
    pub facts: Arc<Facts>,
    pub loaded: Loaded,
    pub metrics: ModelMetrics,
    /// Why this engine serves.
    pub why: String,
    /// How requests are spread over threads.
    pub split: Split,
    /// The shapes that requests bring.
    pub usage: Usage,
    /// The shape class that it was measured with.
    class: Option<ShapeClass>,
    lane: Lane,
    /// Dropped last, when all the rest is gone.
    held: Arc<Held>,
}

/// How requests to a version share runs.
#[derive(Debug, Clone)]
pub struct Batching {
    /// The most rows of a run that requests share, as things are now, and why.
    pub decision: Decision,
    /// What was measured: sizes, and the seconds that a run of each takes.
    pub curve: Vec<(usize, f64)>,
    pub knobs: Knobs,
}

impl Batching {
    /// The decision's reason and what it goes by.
    pub fn reason(&self) -> String {
        match per_row(&self.curve) {
            Some(costs) => format!("{}; {costs}", self.decision.why),
            None => self.decision.why.clone(),
        }
    }
}

/// What is known of a version, whichever engine runs it.
pub struct Facts {
    pub model: String,
    /// The canonical version, such as `2`.
    pub version: String,
    pub files: VersionFiles,
    pub rules: EngineRules,
    pub verdict: Verdict,
    /// What every engine that serves it must have answered as expected.
    pub golden: GoldenFiles,
    /// What it has done, on whichever engine.
    pub statistics: Arc<Statistics>,
    labels: Option<Labels>,
    signature: Signature,
    /// How its requests queue and share runs.
    pub knobs: Knobs,
    class_names: Option<ClassNames>,
    /// What it was made from.
    pub origin: Origin,
}

impl Facts {
    /// The file with the names of an output's classes, where there is one.
    pub fn label_file(&self, output: &str) -> Option<&str> {
        let labels = self.labels.as_ref();
        let labels = labels.filter(|labels| labels.output == output);
        labels.map(|labels| labels.file.as_str())
    }

    /// Measures batches before the first request, where requests may share one.
    fn measure(
        &self,
        costs: &Costs,
        model: &dyn Model,
        split: Split,
        budget: &ComputeBudget,
    ) -> Option<ShapeClass> {
        self.verdict.joins.as_ref().ok()?;
        let started = Instant::now();
        let class = measure::measure(costs, model, split.threads, budget)?;
        let Decision { rows, why } = costs.decision(&class);
        let (model, version) = (&self.model, &self.version);
        let took_ms = milliseconds(started.elapsed());
        tracing::info!(model, version, rows, why, took_ms, "batches measured");
        Some(class)
    }

    /// Whether its files are not those any more that were examined.
    pub fn is_changed(&self) -> bool {
        !store::are_as_found(&self.files)
    }
}

/// A model with the engine that runs it, and why it is this one.
pub struct Running {
    pub engine: &'static str,
    pub model: Arc<dyn Model>,
    pub why: String,
    pub split: Split,
    /// What its batches cost, where that was measured when it was chosen.
    pub batches: Option<Measured>,
    /// How long it took until the model could be run.
    pub took: Duration,
    /// What the model holds of the memory.
    pub held: Arc<Held>,
}

/// What all deployments share.
#[derive(Clone)]
pub struct Machinery {
    pub engines: Engines,
    /// How models come by their engine which do not say otherwise.
    pub engine_rules: EngineRules,
    pub metrics: Metrics,
    pub budget: Arc<ComputeBudget>,
    /// Who holds what of the memory.
    pub memory: Arc<Ledger>,
    /// How requests queue and share runs for models that do not say otherwise.
    pub defaults: Defaults,
    /// How long loading one version may take.
    pub load_timeout: Duration,
    /// Examines each version in a process of its own first.
    pub trial: Option<Trial>,
}

impl Machinery {
    /// What an examination goes by.
    pub fn examination(&self, rules: &EngineRules) -> Rules {
        Rules::new(rules.agreement, self.load_timeout)
    }
}

impl Deployment {
    /// Loads one version within what it was promised, and starts its workers. What a trial found is believed; without
    /// one the engines are examined here.
    pub fn load(
        machinery: &Machinery,
        wanted: &Wanted,
        found: Option<Verdict>,
        promise: Promise,
    ) -> Result<Deployment> {
        let Wanted {
            model,
            version,
            files,
            statistics,
        } = wanted;
        let version = *version;
        let started = Instant::now();
        let version_files = files
            .of_version(version)
            .ok_or_else(|| Error::not_found(format!("there is no version {version}")))?;
        // Without a trial the models of all engines are there for a while.
        let scale = found.as_ref().and_then(|_| machinery.memory.scale());
        let source = ModelSource::read(&version_files.path)?;
        let rules = files.manifest.engine_rules(&machinery.engine_rules);
        let golden = GoldenFiles::of(files, version);
        let (verdict, models) = match found {
            Some(verdict) => (verdict, Models::new()),
            None => {
                let engines = machinery.engines.chosen(&rules.engine)?;
                let rules = machinery.examination(&rules);
                let examined = agreement::examine(&engines, &source, rules, &golden)?;
                (examined.verdict, examined.models)
            }
        };
        log(&verdict, model, version);
        let (engine, runs) = first_that_loads(machinery, &source, (&verdict, models), &golden)?;
        let knobs = Knobs::new(&files.manifest, &machinery.defaults);
        let threads = machinery.budget.threads();
        let split = knobs.split(threads).unwrap_or(Split {
            workers: threads,
            threads: 1,
        });
        let file = source.bytes.len() as u64;
        drop(source);
        let added = scale.map(Scale::added);
        let running = Running {
            engine,
            held: Arc::new(promise.keep(held(verdict.held_bytes(engine), added, file))),
            why: why(&verdict, engine),
            model: runs,
            split,
            batches: None,
            took: started.elapsed(),
        };
        let facts = Facts {
            model: model.clone(),
            version: version.to_string(),
            files: version_files,
            class_names: ClassNames::new(files, running.model.signature())?,
            signature: running.model.signature().clone(),
            knobs,
            labels: files.manifest.labels.clone(),
            statistics: statistics.clone(),
            origin: files.origin(version),
            rules,
            verdict,
            golden,
        };
        Deployment::start(machinery, Arc::new(facts), running)
    }

    /// Starts the workers of a version that is run like this.
    pub fn start(machinery: &Machinery, facts: Arc<Facts>, running: Running) -> Result<Deployment> {
        let Running {
            engine,
            model,
            why,
            split,
            batches,
            took,
            held,
        } = running;
        let metrics = machinery.metrics.model(&facts.model, &facts.version);
        let (costs, class) = match batches {
            Some(Measured { costs, class, .. }) => (costs, Some(class)),
            None => {
                let costs = Arc::new(Costs::new(facts.knobs.bounds()));
                let class = facts.measure(&costs, &*model, split, &machinery.budget);
                (costs, class)
            }
        };
        let lane = Lane::start(LaneConfig {
            name: format!("infer-{}", facts.model),
            model,
            split,
            knobs: facts.knobs.clone(),
            joins: facts.verdict.joins.is_ok(),
            costs,
            metrics: metrics.clone(),
            statistics: facts.statistics.clone(),
            budget: machinery.budget.clone(),
        })?;
        let loaded = Loaded {
            engine,
            platform: PLATFORM,
            took,
            bytes: held.bytes(),
        };
        Ok(Deployment {
            facts,
            loaded,
            metrics,
            why,
            split,
            usage: Usage::default(),
            class,
            lane,
            held,
        })
    }

    /// What the model holds of the memory.
    pub fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// What the model takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.facts.signature
    }

    /// The model as the engine runs it.
    pub fn model(&self) -> &Arc<dyn Model> {
        self.lane.model()
    }

    /// The most rows that one request may have, where its first dimension stands for rows.
    pub fn max_batch_rows(&self) -> Option<usize> {
        let has_rows = self.signature().has_rows() && self.facts.verdict.joins.is_ok();
        has_rows.then_some(self.facts.knobs.queue.rows)
    }

    /// How requests share runs, for the shapes that most of them have.
    pub fn batching(&self) -> Batching {
        let costs = self.lane.costs();
        let class = costs.main_class().or_else(|| self.class.clone());
        let decision = match (&self.facts.verdict.joins, &class) {
            (Err(reason), _) => Decision {
                rows: 1,
                why: format!("requests cannot be joined: {reason}"),
            },
            (Ok(()), Some(class)) => costs.decision(class),
            (Ok(()), None) => Decision {
                rows: 1,
                why: "nothing was measured yet".to_owned(),
            },
        };
        Batching {
            decision,
            curve: class.map_or_else(Vec::new, |class| costs.curve(&class)),
            knobs: self.facts.knobs.clone(),
        }
    }

    /// Refuses a request of which nothing is known yet, if there is no place for it whatever it is.
    pub fn check_place(&self) -> Result<()> {
        self.lane.check_place()
    }

    /// Runs one request.
    pub async fn run(&self, request: Request) -> Result<Completed> {
        let inputs = match self.facts.verdict.joins {
            Ok(()) => request.inputs,
            Err(_) => request.inputs.as_one_row(),
        };
        self.usage.count(&inputs);
        self.lane.run(Request { inputs, ..request }).await
    }

    /// The names of the classes in `outputs`, as one more output called `<output>_name`, where the owner named them.
    pub fn class_names(&self, outputs: &[NamedTensor]) -> Option<NamedTensor> {
        self.facts.class_names.as_ref()?.lookup(outputs)
    }

    /// The names of the classes that an output has one value for each of, where they are known.
    pub fn labels(&self, output: &str, classes: usize) -> Option<&[String]> {
        let names = self.facts.class_names.as_ref();
        names.and_then(|names| names.of_scores(output, classes))
    }
}

/// The first engine that may serve, loads the model here too and answers the golden requests here too.
fn first_that_loads(
    machinery: &Machinery,
    source: &ModelSource,
    (verdict, mut models): (&Verdict, Models),
    golden: &GoldenFiles,
) -> Result<(&'static str, Arc<dyn Model>)> {
    let mut first_error = None;
    for Finding { engine, .. } in verdict.serving()? {
        let Some(engine) = machinery.engines.named(engine) else {
            continue;
        };
        let loaded = match models.remove(engine.name()) {
            Some(model) => Ok(model),
            None => agreement::load(&**engine, source, &mut Vec::new()).and_then(|model| {
                golden.replay(source, &*model, &machinery.budget)?;
                Ok(model)
            }),
        };
        match loaded {
            Ok(model) => return Ok((engine.name(), model)),
            Err(error) => {
                let reason = error.chain();
                tracing::warn!(
                    engine = engine.name(),
                    reason,
                    "an engine that was tried with success fails"
                );
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.unwrap_or_else(|| Error::internal("no engine of the verdict is there")))
}

/// What a model holds: as measured here, unless that is far from what its trial says, since requests run meanwhile. An
/// engine may keep one more copy of the weights here, or there.
fn held(in_trial: Option<u64>, added: Option<u64>, file: u64) -> u64 {
    match (in_trial, added) {
        (Some(in_trial), Some(added)) => added.clamp(in_trial / 2, in_trial.saturating_mul(2)),
        (in_trial, _) => in_trial.unwrap_or(file),
    }
}

fn why(verdict: &Verdict, engine: &str) -> String {
    let finding = verdict.finding(engine);
    finding
        .map(|finding| finding.reason.clone())
        .unwrap_or_default()
}

/// Tells of every engine and of every way of running the model that it tried.
fn log(verdict: &Verdict, model: &str, version: Version) {
    for finding in &verdict.findings {
        let Finding {
            engine,
            standing,
            reason,
            kind: _,
            loading,
        } = finding;
        for Attempt { what, outcome } in &loading.tried {
            match outcome {
                Ok(seen) => tracing::info!(model, version, engine, what, seen, "tried"),
                Err(reason) => tracing::info!(
                    model,
                    version,
                    engine,
                    what,
                    reason,
                    "tried without success"
                ),
            }
        }
        let load_ms = loading.seconds.map(|seconds| (seconds * 1e6).round() / 1e3);
        let standing = standing.name();
        match finding.standing {
            Standing::Differs | Standing::Disputed | Standing::Fails | Standing::Disproven => {
                tracing::warn!(
                    model,
                    version,
                    engine,
                    standing,
                    reason,
                    load_ms,
                    "engine judged"
                );
            }
            _ => {
                tracing::info!(
                    model,
                    version,
                    engine,
                    standing,
                    reason,
                    load_ms,
                    "engine judged"
                );
            }
        }
    }
    if let Err(reason) = &verdict.joins {
        tracing::debug!(
            model,
            version,
            reason,
            "its requests cannot be joined: each counts as one row"
        );
    }
}

//! Lets every engine that takes a model run the same made-up requests, and holds their answers against each other.

mod cases;
mod comparison;
pub mod verdict;
mod witness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::comparison::Comparison;
use self::verdict::{Finding, Loading, NO_OTHER, Standing, Testimony, Verdict, judge};
pub use self::witness::load;
use self::witness::{Answers, Checked, Loaded, Witnesses};
use super::golden::GoldenFiles;
use super::joining;
use crate::config::Agreement;
use crate::engine::{Engines, Model, ModelSource};
use crate::error::{Error, Result};
use crate::tensor::sample::Sample;
use crate::tensor::signature::CheckedInputs;

/// Of the time that loading may take, the part that an engine may take in any case when another is ready.
const PATIENCE: u32 = 30;

/// What an examination goes by.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Rules {
    pub agreement: Agreement,
    /// How long the other engines may take in any case, once one is ready.
    pub patience: Duration,
}

impl Rules {
    /// The rules where loading may take so long.
    pub fn new(agreement: Agreement, load_timeout: Duration) -> Rules {
        Rules {
            agreement,
            patience: load_timeout / PATIENCE,
        }
    }
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

/// Loads a model with every engine given, which come in the order of preference, and judges them by their answers: to the
/// owner's golden requests, and to made-up ones.
pub fn examine(
    engines: &Engines,
    source: &ModelSource,
    rules: Rules,
    golden: &GoldenFiles,
) -> Result<Examined> {
    // Before the engines do, all at once: the file is read for whoever asks first.
    let comparison = Comparison::of(source.file().ok());
    let mut hearing = Hearing::open(engines, source, rules)?;
    hearing.replay(golden, source);
    for mut finding in hearing.judge_all(comparison) {
        if engines.list().len() == 1 {
            let was_asked = "no other engine was asked";
            finding.reason = finding.reason.replacen(NO_OTHER, was_asked, 1);
        }
        // One that was given up stays so, whatever it had said before.
        let engine = finding.engine.clone();
        hearing.findings.entry(engine).or_insert(finding);
    }
    let Hearing {
        names,
        mut findings,
        models,
        was_given_up,
        witnesses,
        ..
    } = hearing;
    // Whoever drops the models then drops all of them.
    witnesses.dismiss();
    let mut verdict = Verdict {
        findings: names
            .iter()
            .filter_map(|name| findings.remove(*name))
            .collect(),
        joins: Err("no engine serves the model".to_owned()),
    };
    let first = verdict.serving().map(|serving| serving[0].engine.clone());
    if let Some(model) = first.ok().and_then(|engine| models.get(engine.as_str())) {
        verdict.joins = joining::prove(&**model);
    }
    Ok(Examined {
        verdict,
        models,
        was_given_up,
    })
}

/// The engines that are asked, and what was learnt of them.
struct Hearing {
    names: Vec<&'static str>,
    rules: Rules,
    witnesses: Witnesses,
    models: Models,
    loadings: BTreeMap<&'static str, Loading>,
    /// What came of the golden requests, where there are some.
    golden: BTreeMap<&'static str, Result<usize, String>>,
    /// Of those that are not judged by their answers.
    findings: BTreeMap<String, Finding>,
    was_given_up: bool,
}

impl Hearing {
    /// Lets every engine load the model.
    fn open(engines: &Engines, source: &ModelSource, rules: Rules) -> Result<Hearing> {
        let (witnesses, loaded) = Witnesses::call(engines, source, rules.patience)?;
        let mut hearing = Hearing {
            names: engines.names(),
            rules,
            witnesses,
            models: Models::new(),
            loadings: BTreeMap::new(),
            golden: BTreeMap::new(),
            findings: BTreeMap::new(),
            was_given_up: false,
        };
        for (name, loaded) in engines.names().into_iter().zip(loaded) {
            match loaded {
                None => hearing.give_up(name, "loading"),
                Some(Loaded {
                    model: Ok(model),
                    loading,
                }) => {
                    hearing.models.insert(name, model);
                    hearing.loadings.insert(name, loading);
                }
                Some(Loaded {
                    model: Err(error),
                    loading,
                }) => {
                    let finding = Finding::of_error(name, Standing::Refuses, &error);
                    let finding = Finding { loading, ..finding };
                    hearing.findings.insert(name.to_owned(), finding);
                }
            }
        }
        Ok(hearing)
    }

    /// Lets the engines that have loaded the model answer its golden requests. One that cannot be read or does not fit
    /// the model is nothing that any engine could answer.
    fn replay(&mut self, files: &GoldenFiles, source: &ModelSource) {
        let Some(model) = self.models.values().next() else {
            return;
        };
        if files.files.is_empty() {
            return;
        }
        self.golden = match files.read(source, model.signature()) {
            Ok(golden) => {
                let checked = self.witnesses.check(golden);
                let checked = self.by_name(checked).into_iter();
                checked
                    .map(|(name, Checked { outcome, .. })| (name, outcome))
                    .collect()
            }
            Err(error) => {
                let wrong = |name: &&'static str| (*name, Err(error.chain()));
                self.models.keys().map(wrong).collect()
            }
        };
    }

    fn give_up(&mut self, engine: &'static str, doing: &str) {
        self.was_given_up = true;
        let error = Error::unavailable(format!(
            "{doing} the model takes far longer than with another engine, and was given up"
        ));
        let finding = Finding::of_error(engine, Standing::Fails, &error);
        let loading = self.loadings.remove(engine).unwrap_or_default();
        self.findings
            .insert(engine.to_owned(), Finding { loading, ..finding });
    }

    /// Judges the engines that have loaded the model by their answers.
    ///
    /// Of whole numbers that are 0 and 1 alone some models make values that hardly vary, and a network that normalises
    /// those magnifies the rounding, which no engine can help. So where engines differ by no more than that, they are
    /// asked once more, with more various numbers.
    fn judge_all(&mut self, comparison: Comparison) -> Vec<Finding> {
        let Some(model) = self.models.values().next().cloned() else {
            return Vec::new();
        };
        let models = self.models.values();
        let seen: Vec<Sample> = models.filter_map(|model| model.sample()).collect();
        let cases = match self.models.len() {
            1 => Vec::new(),
            _ => cases::cases(model.signature(), &seen),
        };
        let answers = self.ask(&cases);
        let judged = self.judge(&answers, comparison);
        if !is_undecided(&judged) || !is_agreed(&self.judge(&answers, Comparison::COARSE)) {
            return judged;
        }
        let Some(various) = cases::various_cases(model.signature(), &seen) else {
            return judged;
        };
        let answers = self.ask(&various);
        let again = self.judge(&answers, comparison);
        match is_agreed(&again) {
            true => again,
            false => judged,
        }
    }

    fn ask(&mut self, cases: &[CheckedInputs]) -> BTreeMap<&'static str, Answers> {
        let answers = self.witnesses.ask(cases);
        self.by_name(answers)
    }

    /// What was said, by the names of the engines; those that said nothing in time are given up.
    fn by_name<T>(&mut self, said: Vec<Option<T>>) -> BTreeMap<&'static str, T> {
        let mut by_name = BTreeMap::new();
        for (name, said) in self.names.clone().into_iter().zip(said) {
            match said {
                Some(said) => drop(by_name.insert(name, said)),
                None if self.loadings.contains_key(name) => self.give_up(name, "running"),
                None => {}
            }
        }
        by_name
    }

    fn judge(
        &self,
        answers: &BTreeMap<&'static str, Answers>,
        comparison: Comparison,
    ) -> Vec<Finding> {
        let testimonies = self.names.iter().filter_map(|name| {
            Some(Testimony {
                engine: (*name).to_owned(),
                loading: self.loadings.get(name)?.clone(),
                answers: answers.get(name)?.clone(),
                golden: self.golden.get(name).cloned().unwrap_or(Ok(0)),
            })
        });
        let compare = |one: &Vec<_>, other: &Vec<_>| comparison.compare(one, other);
        judge(testimonies.collect(), self.rules.agreement, compare)
    }
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

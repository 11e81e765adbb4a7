//! What is held of the engines that were asked to run a model: who agrees with whom, and which of them may serve.
//!
//! No input or output here: answers in, a verdict out.

use serde::{Deserialize, Serialize};

use crate::config::Agreement;
use crate::engine::Attempt;
use crate::error::{Error, ErrorKind, Result};

/// Why an engine is alone that nothing can be compared with.
pub const NO_OTHER: &str = "no other engine runs the model";
/// The least memory that is believed to be measured.
const GRAIN_BYTES: u64 = 1 << 20;

/// What came of a model's examination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// One an engine, the engine that serves first of all.
    pub findings: Vec<Finding>,
    /// Why requests cannot be joined, if they cannot.
    pub joins: Result<(), String>,
}

/// What came of one engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub engine: String,
    pub standing: Standing,
    /// One sentence, with the numbers.
    pub reason: String,
    /// What kind of error the reason is, where it is one.
    pub kind: Option<ErrorKind>,
    pub loading: Loading,
}

/// How an engine went about loading a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Loading {
    /// The ways of running the model that it tried.
    pub tried: Vec<Attempt>,
    /// How long it took, where it ended.
    pub seconds: Option<f64>,
    /// How much memory the model holds once it is loaded, where that was measured.
    pub held_bytes: Option<u64>,
}

/// Where an engine stands with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It answers as another engine does.
    Agrees,
    /// No other engine runs the model.
    Alone,
    /// It takes the model, and there was nothing to compare.
    Unproven,
    /// It differs from others, and the owner wants it served all the same.
    Disputed,
    /// It answers otherwise than the others do.
    Differs,
    /// It does not take the model.
    Refuses,
    /// It broke down, did not end, or fails where others answer.
    Fails,
    /// It does not answer a golden request as the model's owner expects.
    Disproven,
}

impl Standing {
    /// The name in health, logs and `onnxd inspect`.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Agrees => "agrees",
            Standing::Alone => "alone",
            Standing::Unproven => "unproven",
            Standing::Disputed => "disputed",
            Standing::Differs => "differs",
            Standing::Refuses => "refuses",
            Standing::Fails => "fails",
            Standing::Disproven => "disproven",
        }
    }

    /// Whether the engine may serve the model.
    pub fn may_serve(self) -> bool {
        match self {
            Standing::Agrees | Standing::Alone | Standing::Unproven | Standing::Disputed => true,
            Standing::Differs | Standing::Refuses | Standing::Fails | Standing::Disproven => false,
        }
    }
}

impl Finding {
    /// What came of an engine that does not serve, by its error.
    pub fn of_error(engine: &str, standing: Standing, error: &Error) -> Finding {
        Finding {
            engine: engine.to_owned(),
            standing,
            reason: error.chain(),
            kind: Some(error.kind()),
            loading: Loading::default(),
        }
    }
}

impl Verdict {
    /// The engines that may serve, the first of which does; an error says why there is none.
    pub fn serving(&self) -> Result<Vec<&Finding>> {
        let mut serving: Vec<_> = self
            .findings
            .iter()
            .filter(|finding| finding.standing.may_serve())
            .collect();
        if serving.is_empty() {
            return Err(self.refusal());
        }
        // Those that agree come before one that nothing could be said of.
        serving.sort_by_key(|finding| finding.standing != Standing::Agrees);
        Ok(serving)
    }

    /// The other engines that were seen to answer like this one, so that one may take the other's place unnoticed.
    pub fn like(&self, engine: &str) -> Vec<&str> {
        let agrees = |finding: &&Finding| finding.standing == Standing::Agrees;
        let agreeing = self.findings.iter().filter(agrees);
        let mut names: Vec<_> = agreeing.map(|finding| finding.engine.as_str()).collect();
        match names.iter().position(|name| *name == engine) {
            Some(at) => drop(names.remove(at)),
            None => names.clear(),
        }
        names
    }

    /// The finding of this engine.
    pub fn finding(&self, engine: &str) -> Option<&Finding> {
        self.findings
            .iter()
            .find(|finding| finding.engine == engine)
    }

    /// How much memory the model was measured to hold with this engine. Less than a mebibyte is not told from what
    /// else goes on.
    pub fn held_bytes(&self, engine: &str) -> Option<u64> {
        let held = self.finding(engine)?.loading.held_bytes;
        held.filter(|bytes| *bytes >= GRAIN_BYTES)
    }

    fn refusal(&self) -> Error {
        // A file that is no model is one for every engine, in the same words.
        let mut reasons: Vec<_> = self
            .findings
            .iter()
            .map(|finding| &finding.reason)
            .collect();
        reasons.dedup();
        if let ([reason], Some(finding)) = (&reasons[..], self.findings.first()) {
            return Error::new(finding.kind.unwrap_or(ErrorKind::Internal), reason.as_str());
        }
        let stands = |standing| {
            self.findings
                .iter()
                .any(|finding| finding.standing == standing)
        };
        if stands(Standing::Disproven) {
            return Error::unavailable(format!(
                "no engine answers the golden requests as expected: {}",
                self.reasons()
            ));
        }
        if stands(Standing::Differs) {
            return Error::unimplemented(format!(
                "the engines differ, and nothing decides between them: {}; engine = \"NAME\" in model.toml, or \
                 inference.engine_agreement = \"warn\", serves it all the same",
                self.reasons()
            ));
        }
        let of = |wanted| {
            self.findings
                .iter()
                .any(|finding| finding.kind == Some(wanted))
        };
        let kind = match of(ErrorKind::Unimplemented) {
            true => ErrorKind::Unimplemented,
            false => ErrorKind::Unavailable,
        };
        Error::new(
            kind,
            format!("no engine runs this model: {}", self.reasons()),
        )
    }

    fn reasons(&self) -> String {
        let reasons = self.findings.iter().map(|finding| {
            let Finding { engine, reason, .. } = finding;
            // An engine's own errors often begin with its name.
            match reason.starts_with(engine.as_str()) {
                true => reason.clone(),
                false => format!("{engine}: {reason}"),
            }
        });
        reasons.collect::<Vec<_>>().join("; ")
    }
}

/// What one engine said to the made-up requests, and to those of the model's owner.
#[derive(Debug)]
pub struct Testimony<T> {
    pub engine: String,
    pub loading: Loading,
    /// For each request the answer, or why there is none.
    pub answers: Vec<Result<T, String>>,
    /// How many golden requests it answered, all of them as expected, or what is wrong with the first that is not.
    pub golden: Result<usize, String>,
}

impl<T> Testimony<T> {
    fn is_sound(&self) -> bool {
        self.golden.is_ok()
    }

    /// What the golden requests add to the reason why an engine may serve.
    fn with_golden(&self, reason: String) -> String {
        match self.golden {
            Ok(0) | Err(_) => reason,
            Ok(1) => format!("{reason}; 1 golden request as expected"),
            Ok(count) => format!("{reason}; {count} golden requests as expected"),
        }
    }

    fn answered(&self) -> usize {
        self.answers.iter().filter(|answer| answer.is_ok()).count()
    }

    fn first_failure(&self) -> &str {
        let failure = self.answers.iter().find_map(|answer| answer.as_ref().err());
        failure.map_or("", String::as_str)
    }
}

/// What lies between two engines' answers.
enum Relation {
    /// The largest difference.
    Agree(f64),
    Differ(String),
    /// No request is answered by both.
    Unknown,
}

/// Judges engines by their answers; `compare` tells how far two answers lie apart, or what is wrong between them.
///
/// The golden requests come first: who answers one of them wrongly has no say in how the others are judged.
pub fn judge<T>(
    testimonies: Vec<Testimony<T>>,
    agreement: Agreement,
    compare: impl Fn(&T, &T) -> Result<f64, String>,
) -> Vec<Finding> {
    let sound: Vec<_> = testimonies.iter().filter(|one| one.is_sound()).collect();
    let is_any_disproven = sound.len() < testimonies.len();
    let mut standings = match &sound[..] {
        [_] => {
            let alone = match is_any_disproven {
                true => "no other engine answers the golden requests as expected",
                false => NO_OTHER,
            };
            vec![(Standing::Alone, alone.to_owned())]
        }
        _ => compare_all(&sound, agreement, compare),
    }
    .into_iter();
    let judge_one = |testimony: &Testimony<T>| match &testimony.golden {
        Err(how) => finding(testimony, (Standing::Disproven, how.clone())),
        Ok(_) => {
            let (standing, reason) = standings
                .next()
                .expect("there is one for each that is sound");
            finding(testimony, (standing, testimony.with_golden(reason)))
        }
    };
    testimonies.iter().map(judge_one).collect()
}

/// Where engines stand that have not been proven wrong, in their order.
fn compare_all<T>(
    testimonies: &[&Testimony<T>],
    agreement: Agreement,
    compare: impl Fn(&T, &T) -> Result<f64, String>,
) -> Vec<(Standing, String)> {
    let relation = |one: &Testimony<T>, other: &Testimony<T>| relate(one, other, &compare);
    let agreeing = largest_agreeing(testimonies, &relation);
    let most_answered = testimonies.iter().map(|one| one.answered()).max();
    let most_answered = most_answered.unwrap_or(0);
    let differ = |testimony: &Testimony<T>, others: &[&Testimony<T>]| {
        others
            .iter()
            .find_map(|other| match relation(testimony, other) {
                Relation::Differ(how) => Some(format!("differs from {}: {how}", other.engine)),
                Relation::Agree(_) | Relation::Unknown => None,
            })
    };
    let judge_one = |(at, testimony): (usize, &&Testimony<T>)| {
        let others: Vec<_> = agreeing
            .iter()
            .filter(|other| **other != at)
            .map(|other| testimonies[*other])
            .collect();
        let best = agreeing.iter().map(|at| testimonies[*at].answered()).max();
        match best {
            Some(best) if agreeing.contains(&at) && testimony.answered() >= best => (
                Standing::Agrees,
                agreement_text(testimony, &others, &relation),
            ),
            Some(_) => match differ(testimony, &others) {
                Some(how) => (Standing::Differs, how),
                None => fails(testimony),
            },
            None if most_answered == 0 => {
                let nothing =
                    "none of the made-up requests runs, so that nothing could be compared";
                (Standing::Unproven, nothing.to_owned())
            }
            None if testimony.answered() == 0 => fails(testimony),
            None => {
                let all: Vec<_> = testimonies
                    .iter()
                    .copied()
                    .filter(|other| other.engine != testimony.engine)
                    .collect();
                match (differ(testimony, &all), agreement) {
                    (Some(how), Agreement::Require) => (Standing::Differs, how),
                    (Some(how), Agreement::Warn) => (Standing::Disputed, how),
                    (None, _) => {
                        let alone = "no other engine runs the same made-up requests";
                        (Standing::Alone, alone.to_owned())
                    }
                }
            }
        }
    };
    testimonies.iter().enumerate().map(judge_one).collect()
}

fn finding<T>(testimony: &Testimony<T>, (standing, reason): (Standing, String)) -> Finding {
    Finding {
        engine: testimony.engine.clone(),
        standing,
        reason,
        kind: match standing {
            Standing::Fails => Some(ErrorKind::Internal),
            Standing::Disproven => Some(ErrorKind::Unavailable),
            _ => None,
        },
        loading: testimony.loading.clone(),
    }
}

fn fails<T>(testimony: &Testimony<T>) -> (Standing, String) {
    let failure = testimony.first_failure();
    (
        Standing::Fails,
        format!("fails on a made-up request that others answer: {failure}"),
    )
}

fn agreement_text<T>(
    testimony: &Testimony<T>,
    others: &[&Testimony<T>],
    relation: &impl Fn(&Testimony<T>, &Testimony<T>) -> Relation,
) -> String {
    let names: Vec<_> = others.iter().map(|other| other.engine.as_str()).collect();
    if testimony.answered() == 0 {
        return format!("answers the golden requests like {}", names.join(" and "));
    }
    let largest = others
        .iter()
        .filter_map(|other| match relation(testimony, other) {
            Relation::Agree(largest) => Some(largest),
            Relation::Differ(_) | Relation::Unknown => None,
        });
    format!(
        "answers like {}: {} made-up requests, largest difference {:.1e}",
        names.join(" and "),
        testimony.answered(),
        largest.fold(0.0, f64::max)
    )
}

fn relate<T>(
    one: &Testimony<T>,
    other: &Testimony<T>,
    compare: &impl Fn(&T, &T) -> Result<f64, String>,
) -> Relation {
    let mut largest = None;
    for answers in one.answers.iter().zip(&other.answers) {
        let (Ok(first), Ok(second)) = answers else {
            continue;
        };
        match compare(first, second) {
            Ok(difference) => largest = Some(f64::max(difference, largest.unwrap_or(0.0))),
            Err(how) => return Relation::Differ(how),
        }
    }
    // Where no made-up request runs, the owner's own are what can be compared.
    let by_golden = |one: &Testimony<T>| one.answered() == 0 && matches!(one.golden, Ok(1..));
    match largest {
        Some(largest) => Relation::Agree(largest),
        None if by_golden(one) && by_golden(other) => Relation::Agree(0.0),
        None => Relation::Unknown,
    }
}

/// The largest set of engines of which each agrees with each, at least two; of several the one that comes first.
fn largest_agreeing<T>(
    testimonies: &[&Testimony<T>],
    relation: &impl Fn(&Testimony<T>, &Testimony<T>) -> Relation,
) -> Vec<usize> {
    let mut largest = Vec::new();
    for first in 0..testimonies.len() {
        let mut group = vec![first];
        for candidate in first + 1..testimonies.len() {
            let agrees = |member: &usize| {
                let relation = relation(testimonies[*member], testimonies[candidate]);
                matches!(relation, Relation::Agree(_))
            };
            if group.iter().all(agrees) {
                group.push(candidate);
            }
        }
        if group.len() > usize::max(1, largest.len()) {
            largest = group;
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Engines that answer whole numbers; two agree when theirs are equal.
    fn standings(agreement: Agreement, engines: &[(&str, &[Option<i32>])]) -> Vec<Standing> {
        let engines = engines
            .iter()
            .map(|(engine, answers)| (*engine, *answers, Ok(0)));
        stand(&findings(agreement, engines))
    }

    fn stand(findings: &[Finding]) -> Vec<Standing> {
        findings.iter().map(|finding| finding.standing).collect()
    }

    type Said<'a> = (&'a str, &'a [Option<i32>], Result<usize, &'a str>);

    fn findings<'a>(
        agreement: Agreement,
        engines: impl IntoIterator<Item = Said<'a>>,
    ) -> Vec<Finding> {
        let testimonies = engines
            .into_iter()
            .map(|(engine, answers, golden)| Testimony {
                engine: engine.to_owned(),
                loading: Loading::default(),
                golden: golden.map_err(str::to_owned),
                answers: answers
                    .iter()
                    .map(|answer| answer.ok_or_else(|| "no".to_owned()))
                    .collect(),
            });
        let compare = |one: &i32, other: &i32| match one == other {
            true => Ok(0.0),
            false => Err(format!("{one} against {other}")),
        };
        judge(testimonies.collect(), agreement, compare)
    }

    fn require(engines: &[(&str, &[Option<i32>])]) -> Vec<Standing> {
        standings(Agreement::Require, engines)
    }

    use Standing::{Agrees, Alone, Differs, Disproven, Disputed, Fails, Unproven};

    #[test]
    fn engines_that_answer_alike_agree() {
        let found = require(&[("a", &[Some(1), Some(2)]), ("b", &[Some(1), Some(2)])]);
        assert_eq!(found, [Agrees, Agrees]);
    }

    #[test]
    fn two_outvote_a_third_wherever_it_stands() {
        let (right, wrong): (&[_], &[_]) = (&[Some(1), Some(2)], &[Some(1), Some(3)]);
        assert_eq!(
            require(&[("a", wrong), ("b", right), ("c", right)]),
            [Differs, Agrees, Agrees]
        );
        assert_eq!(
            require(&[("a", right), ("b", wrong), ("c", right)]),
            [Agrees, Differs, Agrees]
        );
    }

    #[test]
    fn two_that_differ_are_refused_unless_the_owner_is_content_with_a_warning() {
        let engines: [(&str, &[_]); 2] = [("a", &[Some(1)]), ("b", &[Some(2)])];
        assert_eq!(require(&engines), [Differs, Differs]);
        assert_eq!(standings(Agreement::Warn, &engines), [Disputed, Disputed]);
    }

    #[test]
    fn one_that_fails_where_others_answer_does_not_serve() {
        let found = require(&[
            ("a", &[Some(1), None]),
            ("b", &[Some(1), Some(2)]),
            ("c", &[Some(1), Some(2)]),
        ]);
        assert_eq!(found, [Fails, Agrees, Agrees]);
        assert_eq!(
            require(&[("a", &[None]), ("b", &[Some(2)])]),
            [Fails, Alone]
        );
    }

    #[test]
    fn without_answers_nothing_is_proven() {
        assert_eq!(
            require(&[("a", &[None]), ("b", &[None])]),
            [Unproven, Unproven]
        );
        assert_eq!(require(&[("a", &[]), ("b", &[])]), [Unproven, Unproven]);
    }

    #[test]
    fn one_engine_is_alone() {
        assert_eq!(require(&[("a", &[])]), [Alone]);
    }

    #[test]
    fn a_golden_request_decides_between_two_that_differ() {
        for agreement in [Agreement::Require, Agreement::Warn] {
            let found = findings(
                agreement,
                [
                    ("a", &[Some(1)][..], Err("golden/x.json: wrong")),
                    ("b", &[Some(2)][..], Ok(2)),
                ],
            );
            assert_eq!(stand(&found), [Disproven, Alone]);
            assert_eq!(found[0].reason, "golden/x.json: wrong");
            assert_eq!(
                found[1].reason,
                "no other engine answers the golden requests as expected; 2 golden requests as expected"
            );
        }
    }

    #[test]
    fn one_that_is_right_by_the_golden_requests_outweighs_any_number_that_is_not() {
        let wrong = || Err("wrong");
        let found = findings(
            Agreement::Require,
            [
                ("a", &[Some(1)][..], wrong()),
                ("b", &[Some(1)][..], wrong()),
                ("c", &[Some(2)][..], Ok(1)),
            ],
        );
        assert_eq!(stand(&found), [Disproven, Disproven, Alone]);
        let all = findings(
            Agreement::Warn,
            [("a", &[Some(1)][..], wrong()), ("b", &[], wrong())],
        );
        assert_eq!(stand(&all), [Disproven, Disproven]);
    }

    #[test]
    fn what_all_answer_as_expected_decides_nothing() {
        let engines = [("a", &[Some(1)][..], Ok(1)), ("b", &[Some(2)][..], Ok(1))];
        assert_eq!(
            stand(&findings(Agreement::Require, engines)),
            [Differs, Differs]
        );
        assert_eq!(
            stand(&findings(Agreement::Warn, engines)),
            [Disputed, Disputed]
        );
    }

    #[test]
    fn golden_requests_stand_in_where_no_made_up_one_runs() {
        let found = findings(
            Agreement::Require,
            [("a", &[None][..], Ok(1)), ("b", &[None][..], Ok(1))],
        );
        assert_eq!(stand(&found), [Agrees, Agrees]);
        assert_eq!(
            found[0].reason,
            "answers the golden requests like b; 1 golden request as expected"
        );
        let mixed = findings(
            Agreement::Require,
            [("a", &[Some(1)][..], Ok(1)), ("b", &[None][..], Ok(1))],
        );
        assert_eq!(stand(&mixed), [Alone, Fails]);
    }

    fn verdict(findings: &[(&str, Standing, &str)]) -> Verdict {
        let finding = |(engine, standing, reason): &(&str, Standing, &str)| Finding {
            engine: (*engine).to_owned(),
            standing: *standing,
            reason: (*reason).to_owned(),
            kind: None,
            loading: Loading::default(),
        };
        Verdict {
            findings: findings.iter().map(finding).collect(),
            joins: Ok(()),
        }
    }

    #[test]
    fn only_what_agrees_may_take_anothers_place() {
        let agreed = verdict(&[("a", Agrees, ""), ("b", Differs, ""), ("c", Agrees, "")]);
        assert_eq!(agreed.like("a"), ["c"]);
        assert!(agreed.like("b").is_empty());
        let disputed = verdict(&[("a", Disputed, ""), ("b", Disputed, "")]);
        assert!(disputed.like("a").is_empty());
    }

    #[test]
    fn a_refusal_tells_of_every_engine_and_of_the_way_out() {
        let verdict = verdict(&[
            ("a", Differs, "differs from b: 1 against 2"),
            ("b", Differs, "differs from a: 2 against 1"),
        ]);
        let message = verdict.serving().expect_err("they differ").chain();
        assert!(
            message.contains("a: differs from b: 1 against 2"),
            "{message}"
        );
        assert!(message.contains("model.toml"), "{message}");
    }
}

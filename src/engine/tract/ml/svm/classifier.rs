//! SVMClassifier: pairs of classes that vote (libsvm), or one weighted sum for each class (liblinear).
//!
//! Where ONNX's documentation is silent about labels and columns, both are ONNX Runtime's.

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::classes::Classes;
use super::super::host::{Fact, Operator, Rows, output, rows_of_exactly};
use super::super::scores::{PostTransform, first_largest};
use super::linear::Linear;
use super::pairs::Pairs;
use super::probability::{Coupling, Platt};

#[derive(Debug)]
pub struct SvmClassifier {
    classes: Classes,
    method: Method,
    post_transform: PostTransform,
}

#[derive(Debug)]
enum Method {
    Voting { pairs: Pairs, platt: Option<Platt> },
    Linear(Linear),
}

/// Writes a row's scores and returns the class that wins.
type Decide<'a> = Box<dyn FnMut(&[f32], &mut [f32]) -> usize + 'a>;

impl SvmClassifier {
    /// Reads a node.
    pub fn read(node: &NodeProto) -> TractResult<SvmClassifier> {
        let classes = Classes::read(node, "classlabels_ints")?;
        let post_transform = PostTransform::read(node)?;
        let sizes: Vec<usize> = node
            .get_attr_opt_vec("vectors_per_class")?
            .unwrap_or_default();
        let method = match sizes.iter().any(|size| *size > 0) {
            true => {
                let pairs = Pairs::read(node, classes.count(), &sizes)?;
                let platt = Platt::read(node, pairs.count())?;
                Method::Voting { pairs, platt }
            }
            false => Method::Linear(Linear::read(node, classes.count())?),
        };
        // ONNX Runtime leaves one of the two columns unwritten.
        ensure!(
            post_transform != PostTransform::Probit
                || !matches!(&method, Method::Voting { pairs, platt: None } if pairs.count() == 1),
            "PROBIT of a single score for two classes is not defined"
        );
        Ok(SvmClassifier {
            classes,
            method,
            post_transform,
        })
    }

    fn features(&self) -> usize {
        match &self.method {
            Method::Voting { pairs, .. } => pairs.vectors.features,
            Method::Linear(linear) => linear.features,
        }
    }

    /// How many scores are shown: one a class, or one a pair of classes.
    fn shown(&self) -> usize {
        match &self.method {
            Method::Voting { pairs, platt: None } => pairs.count().max(2),
            _ => self.classes.count(),
        }
    }

    fn decider(&self) -> Decide<'_> {
        match &self.method {
            Method::Voting { pairs, platt } => {
                let coupled = |platt| (platt, Coupling::new(self.classes.count()));
                let mut votes = Votes {
                    pairs,
                    platt: platt.as_ref().map(coupled),
                    post_transform: self.post_transform,
                    similarities: vec![0.0; pairs.vectors.count],
                    scores: vec![0.0; pairs.count()],
                    votes: vec![0; self.classes.count()],
                };
                Box::new(move |row, scores| votes.decide(row, scores))
            }
            Method::Linear(linear) => Box::new(move |row, scores| {
                let winner = linear.decide(row, scores);
                self.post_transform.apply_to_targets(scores);
                winner
            }),
        }
    }
}

impl Operator for SvmClassifier {
    fn name(&self) -> &'static str {
        "SVMClassifier"
    }

    fn outputs(&self) -> usize {
        2
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let rows = rows_of_exactly(&inputs[0], self.features())?;
        let labels = (self.classes.datum_type(), tvec![rows.clone()]);
        let scores = (f32::datum_type(), tvec![rows, self.shown().to_dim()]);
        Ok(vec![labels, scores])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let rows = Rows::read(&inputs[0], self.features())?;
        let shown = self.shown();
        let mut scores = vec![0.0; rows.count * shown];
        let mut decide = self.decider();
        let pairs = rows.each()?.zip(scores.chunks_exact_mut(shown));
        let winners: Vec<_> = pairs.map(|(row, scores)| decide(row, scores)).collect();
        Ok(tvec![
            self.classes.pick(&winners)?.into_tvalue(),
            output(&[rows.count, shown], scores)?
        ])
    }
}

/// What voting needs for one row after the other.
struct Votes<'a> {
    pairs: &'a Pairs,
    platt: Option<(&'a Platt, Coupling)>,
    post_transform: PostTransform,
    similarities: Vec<f32>,
    scores: Vec<f32>,
    votes: Vec<u32>,
}

impl Votes<'_> {
    fn decide(&mut self, row: &[f32], shown: &mut [f32]) -> usize {
        let Votes {
            pairs,
            platt,
            post_transform,
            similarities,
            scores,
            votes,
        } = self;
        pairs.vectors.compare(row, similarities);
        pairs.score(similarities, scores, votes);
        match (platt, scores.as_slice()) {
            (Some((platt, coupling)), scores) => {
                coupling.write(platt, scores, shown);
                post_transform.apply(shown);
            }
            (None, [score]) if *post_transform == PostTransform::None => {
                shown.copy_from_slice(&[-score, *score]);
            }
            (None, [score]) => shown.copy_from_slice(&post_transform.of_two(*score)),
            (None, scores) => {
                shown.copy_from_slice(scores);
                post_transform.apply(shown);
            }
        }
        first_largest(votes)
    }
}

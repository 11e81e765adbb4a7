//! The trees of an operator, laid out once the type of its input is known.
//!
//! As in ONNX Runtime an input in double precision is compared and added up in double precision, any other in single,
//! unless the attributes themselves are double.

use std::sync::{Mutex, OnceLock, PoisonError};

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::forest::spec::ForestSpec;
use super::super::forest::{Aggregate, Compact, Forest, Scores, Wide};
use super::super::host::row_count;

/// A declared number of targets is believed up to this; a larger one needs votes for it.
const TARGETS_WITHOUT_VOTES: usize = 1 << 16;

/// A forest, or what it is to be made of.
#[derive(Debug)]
pub struct Ensemble {
    /// How many values a row's answer has.
    pub targets: usize,
    /// The least number of features that a row must have.
    pub features: usize,
    /// Gone once the trees are laid out.
    spec: Mutex<Option<ForestSpec>>,
    trees: OnceLock<Trees>,
}

#[derive(Debug)]
enum Trees {
    Compact(Forest<Compact>),
    Single(Forest<Wide<f32>>),
    Double(Forest<Wide<f64>>),
}

/// What the trees say, in the precision in which they say it.
pub enum AnyScores {
    Single(Scores<f32>),
    Double(Scores<f64>),
}

impl Ensemble {
    pub fn new(spec: ForestSpec) -> TractResult<Ensemble> {
        let targets = spec.targets;
        ensure!(
            (1..=TARGETS_WITHOUT_VOTES.max(spec.votes.len())).contains(&targets),
            "{targets} targets are not valid for {} votes",
            spec.votes.len()
        );
        Ok(Ensemble {
            targets,
            features: spec.features(),
            spec: Mutex::new(Some(spec)),
            trees: OnceLock::new(),
        })
    }

    /// The trees for inputs of this type; lays them out when this is first called.
    fn trees(&self, input: DatumType) -> TractResult<&Trees> {
        if let Some(trees) = self.trees.get() {
            return Ok(trees);
        }
        let mut spec = self.spec.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spec) = &*spec {
            let trees = Trees::new(spec, input == f64::datum_type()).map_err(TractError::msg)?;
            self.trees.get_or_init(|| trees);
        }
        *spec = None;
        self.trees.get().context("the trees are laid out")
    }

    /// Lays the trees out, so that a malformed forest is refused when the model is loaded.
    pub fn prepare(&self, input: DatumType) -> TractResult<()> {
        self.trees(input).map(|_| ())
    }

    /// What the trees say about each row of the input.
    pub fn scores(&self, input: &Tensor, aggregate: Aggregate) -> TractResult<AnyScores> {
        let features = input.shape().last().copied().unwrap_or(0);
        ensure!(
            features >= self.features,
            "the trees look at {} features and the input has {features}",
            self.features
        );
        let trees = self.trees(input.datum_type())?;
        if input.datum_type() == f64::datum_type() {
            let Trees::Double(forest) = trees else {
                bail!("the trees are laid out for inputs in single precision");
            };
            let scores = forest.scores(&rows::<f64>(input)?, aggregate);
            return Ok(AnyScores::Double(scores));
        }
        let input = input.cast_to::<f32>()?;
        let rows = rows::<f32>(&input)?;
        Ok(match trees {
            Trees::Compact(forest) => AnyScores::Single(forest.scores(&rows, aggregate)),
            Trees::Single(forest) => AnyScores::Single(forest.scores(&rows, aggregate)),
            Trees::Double(forest) => AnyScores::Double(forest.scores(&rows, aggregate)),
        })
    }
}

fn rows<T: Datum>(input: &Tensor) -> TractResult<Vec<&[T]>> {
    let (count, values) = (row_count(input), input.try_as_plain_ram()?.as_slice::<T>()?);
    let features = input.shape().last().copied().unwrap_or(0);
    let row = |row| &values[row * features..(row + 1) * features];
    Ok((0..count).map(row).collect())
}

impl Trees {
    /// The smallest kind of node that can hold them.
    fn new(spec: &ForestSpec, is_double: bool) -> Result<Trees, String> {
        let too_large = || "the trees are too large".to_owned();
        if is_double || spec.is_double {
            return Forest::new(spec)?.map(Trees::Double).ok_or_else(too_large);
        }
        if let Some(forest) = Forest::new(spec)? {
            return Ok(Trees::Compact(forest));
        }
        Forest::new(spec)?.map(Trees::Single).ok_or_else(too_large)
    }
}

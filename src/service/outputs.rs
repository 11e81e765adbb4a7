//! The outputs that a request asks for: checked before it runs, picked and classified after.

use super::classification::{Classes, is_classifiable};
use super::types::RequestedOutput;
use crate::error::{Error, Result};
use crate::tensor::signature::Signature;
use crate::tensor::value::NamedTensor;

/// What there is to know of a model for classification.
pub struct Classified<'a> {
    /// Its outputs' columns name classes.
    pub signature: &'a Signature,
    /// Whether the first dimension of its outputs stands for rows.
    pub has_rows: bool,
    /// Finds further names of an output's classes, of which there are so many.
    pub labels: &'a dyn Fn(&str, usize) -> Option<&'a [String]>,
}

/// Checks that the model has these outputs, that none comes twice, and that it can be classified where that is asked.
pub fn check(wanted: &[RequestedOutput], signature: &Signature) -> Result<()> {
    for (index, RequestedOutput { name, classes }) in wanted.iter().enumerate() {
        let output = signature.output(name)?;
        if wanted[..index].iter().any(|before| before.name == *name) {
            return Err(Error::invalid(format!(
                "output '{name}' is asked for twice"
            )));
        }
        if classes.is_some() && !is_classifiable(output.dtype) {
            return Err(Error::invalid(format!(
                "output '{name}': classification needs numbers, and it is {}",
                output.dtype
            )));
        }
    }
    Ok(())
}

/// Keeps the outputs that are wanted, in the order in which they were asked for; all of them if none was named.
pub fn select(outputs: &mut Vec<NamedTensor>, wanted: &[RequestedOutput]) {
    if !wanted.is_empty() {
        let position =
            |output: &NamedTensor| wanted.iter().position(|wanted| wanted.name == output.name);
        outputs.retain(|output| position(output).is_some());
        outputs.sort_by_key(position);
    }
}

/// Puts the best classes in the place of the numbers where that was asked for.
pub fn classify(
    outputs: &mut [NamedTensor],
    wanted: &[RequestedOutput],
    model: &Classified<'_>,
) -> Result<()> {
    for RequestedOutput { name, classes } in wanted {
        let output = outputs.iter_mut().find(|output| output.name == *name);
        if let (Some(most), Some(output)) = (classes, output) {
            let classes = Classes::of(output.tensor.shape(), model.has_rows);
            let columns = model.signature.columns(name);
            let columns = columns.filter(|columns| columns.len() == classes.count);
            let labels = columns.or_else(|| (model.labels)(name, classes.count));
            output.tensor = classes.best(&output.tensor, *most, labels)?;
        }
    }
    Ok(())
}

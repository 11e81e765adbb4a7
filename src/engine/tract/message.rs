//! tract's errors made readable: which operator, at which node, why, and what to do about it.

use std::collections::HashMap;

use tract_onnx::prelude::TractError;

use crate::engine::ADVICE;
use crate::engine::onnx::{Node, OnnxFile};
use crate::error::{Error, Result};

/// Fails for the first operator that `is_known` does not hold for, or that is of a domain without operators here.
pub fn refuse_unknown(file: &OnnxFile, is_known: impl Fn(&str) -> bool) -> Result<()> {
    let known = |node: &&Node| match node.operator.rsplit_once('.') {
        None => is_known(&node.operator),
        Some(("ai.onnx.ml", operator)) => is_known(operator),
        Some(_) => false,
    };
    match file.nodes.iter().find(|node| !known(node)) {
        None => Ok(()),
        Some(Node { name, operator, .. }) => Err(Error::unimplemented(format!(
            "operator {operator} (node '{name}') is not supported; {ADVICE}"
        ))),
    }
}

/// The operators of a file's nodes by the nodes' names, for telling them by the names that their owner knows.
#[derive(Debug)]
pub struct Operators(HashMap<String, String>);

impl Operators {
    /// Those of a file.
    pub fn of(file: &OnnxFile) -> Operators {
        let named = file
            .nodes
            .iter()
            .map(|node| (node.name.clone(), node.operator.clone()));
        Operators(named.collect())
    }

    /// Why tract does not do: the node that the chain of causes names, if it does, and the last cause.
    pub fn reason(&self, error: &TractError) -> String {
        let cause = error.root_cause().to_string();
        let cause = cause.lines().next().unwrap_or_default();
        match error.chain().find_map(|link| node(&link.to_string())) {
            Some((tracts, name)) => {
                let (operator, name) = self.known(&name).unwrap_or((&tracts, &name));
                format!("operator {operator} (node '{name}'): {cause}")
            }
            None => cause.to_owned(),
        }
    }

    /// The operator and name of the file's node that tract has split and named by parts, such as `lstm.direction_0`.
    fn known(&self, name: &str) -> Option<(&str, &str)> {
        let ends = name.match_indices('.').map(|(end, _)| end).rev();
        let parts = std::iter::once(name.len())
            .chain(ends)
            .map(|end| &name[..end]);
        let found = parts
            .into_iter()
            .find_map(|part| self.0.get_key_value(part));
        found.map(|(name, operator)| (operator.as_str(), name.as_str()))
    }
}

/// Finds `#12 "name" Operator`, or `Building node name (Operator)`, which is how tract writes a node.
fn node(text: &str) -> Option<(String, String)> {
    if let Some(built) = text.strip_prefix("Building node ") {
        let (name, operator) = built.strip_suffix(')')?.rsplit_once(" (")?;
        return Some((operator.to_owned(), name.to_owned()));
    }
    let (_, rest) = text.split_once("#")?;
    let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
    let rest = rest[digits..].strip_prefix(" \"")?;
    let (name, rest) = rest.split_once("\" ")?;
    let operator = rest
        .split(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
        .next()?;
    (digits > 0 && !operator.is_empty()).then(|| (operator.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(error: &TractError) -> String {
        let operators = [("block/conv.1", "Conv")];
        let operators = operators.map(|(name, operator)| (name.to_owned(), operator.to_owned()));
        Operators(HashMap::from(operators)).reason(error)
    }

    #[test]
    fn the_files_own_operator_and_the_last_cause_are_told() {
        let error = TractError::msg("cannot unify 3 and 4\nmore")
            .context("while looking")
            .context("Failed analyse for node #7 \"block/conv.1.split\" ConvHir");
        assert_eq!(
            reason(&error),
            "operator Conv (node 'block/conv.1'): cannot unify 3 and 4"
        );
    }

    #[test]
    fn a_node_that_cannot_be_built_is_told() {
        let error = TractError::msg("mode CRD").context("Building node sd (SpaceToDepth)");
        assert_eq!(
            reason(&error),
            "operator SpaceToDepth (node 'sd'): mode CRD"
        );
    }

    #[test]
    fn what_the_file_does_not_name_is_told_as_tract_names_it() {
        let error = TractError::msg("no").context("node #7 \"x\" Add");
        assert_eq!(reason(&error), "operator Add (node 'x'): no");
        assert_eq!(
            reason(&TractError::msg("no # luck").context("parsing")),
            "no # luck"
        );
    }
}

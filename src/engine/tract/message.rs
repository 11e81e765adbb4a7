//! tract's errors made readable: which operator, at which node, why, and what to do about it.

use tract_onnx::prelude::TractError;

use crate::engine::onnx::{Node, OnnxFile};
use crate::error::{Error, Result};

/// Where the documentation says what loads and what to do about the rest.
pub const ADVICE: &str = "docs/models.md says what loads and what to do about the rest";

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

/// The error as the model's owner can use it. The whole chain of causes follows as the source.
pub fn readable(error: &TractError) -> Error {
    Error::unimplemented(format!("tract cannot run this model: {}", reason(error)))
}

/// The node that the chain of causes names, if it does, and the last cause.
pub fn reason(error: &TractError) -> String {
    let cause = error.root_cause().to_string();
    let cause = cause.lines().next().unwrap_or_default();
    match error.chain().find_map(|link| node(&link.to_string())) {
        Some((operator, name)) => format!("operator {operator} (node '{name}'): {cause}"),
        None => cause.to_owned(),
    }
}

/// Finds `#12 "name" Operator`, which is how tract writes a node.
fn node(text: &str) -> Option<(String, String)> {
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

    #[test]
    fn the_node_and_the_last_cause_are_told() {
        let error = TractError::msg("cannot unify 3 and 4\nmore")
            .context("while looking")
            .context("Failed analyse for node #7 \"block/conv 1\" Conv");
        assert_eq!(
            reason(&error),
            "operator Conv (node 'block/conv 1'): cannot unify 3 and 4"
        );
    }

    #[test]
    fn without_a_node_the_cause_alone_is_told() {
        assert_eq!(
            reason(&TractError::msg("no # luck").context("parsing")),
            "no # luck"
        );
    }
}

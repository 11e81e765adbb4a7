//! What tract is known to answer wrongly, so that it is refused and never served.
//!
//! Each line was seen against ONNX Runtime or read in tract 0.23's source. `tests/data/known_wrong` has a model of each.

use crate::engine::onnx::{Node, OnnxFile};
use crate::error::{Error, Result};

/// Fails when the model holds a node that tract would run and answer wrongly.
pub fn refuse(file: &OnnxFile) -> Result<()> {
    let found = file
        .nodes
        .iter()
        .find_map(|node| Some((node, reason(node)?)));
    let Some((node, reason)) = found else {
        return Ok(());
    };
    let Node { name, operator, .. } = node;
    Err(Error::unimplemented(format!(
        "tract answers wrongly for operator {operator} (node '{name}'): {reason}"
    )))
}

fn reason(node: &Node) -> Option<&'static str> {
    match node.operator.as_str() {
        "SpaceToDepth" if node.text("mode").is_some_and(|mode| mode != "DCR") => {
            Some("only the mode DCR is computed; export with opset 17")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(model: &str, refused_for: Option<&str>) {
        let path = format!("tests/data/known_wrong/{model}.onnx");
        let bytes = std::fs::read(path).expect("the model is in the repository");
        let file = OnnxFile::read(&bytes.into(), None).expect("it is ONNX");
        match (refuse(&file), refused_for) {
            (Ok(()), None) => {}
            (Err(error), Some(operator)) => {
                assert!(
                    error
                        .public_message()
                        .contains(&format!("operator {operator} ")),
                    "{error}"
                );
            }
            (result, expected) => panic!("{model}: expected {expected:?}, got {result:?}"),
        }
    }

    #[test]
    fn every_known_wrong_answer_is_refused() {
        check("lstm_reverse", Some("LSTM"));
        check("lstm_bidirectional", Some("LSTM"));
        check("gru_reverse", Some("GRU"));
        check("rnn_reverse", Some("RNN"));
        check("qlinearmatmul", Some("QLinearMatMul"));
    }

    #[test]
    fn their_harmless_siblings_are_not() {
        check("lstm_forward", None);
    }
}

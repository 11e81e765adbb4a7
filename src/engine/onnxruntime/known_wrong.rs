//! What ONNX Runtime is known to answer wrongly, or to end the process with, so that it is refused and never served.
//!
//! Each was seen with ONNX Runtime 1.31.1 against the tests of ONNX (`tests/conformance`).

use prost::Message;

use crate::engine::ModelSource;
use crate::engine::onnx::proto::{ModelProto, NodeProto, TensorProto};
use crate::engine::onnx::{Node, OnnxFile};
use crate::error::{Error, Result};
use crate::tensor::dtype::DataType;

const ADVICE: &str = "docs/models.md says what loads and what to do about the rest";

/// `TensorProto.DataType.STRING`.
const STRING: i64 = 8;

/// Fails for the first node that ONNX Runtime answers wrongly.
pub fn refuse(source: &ModelSource) -> Result<()> {
    let file = source.file()?;
    for node in &file.nodes {
        if let Some(why) = reason(node, file, source) {
            let Node { name, operator, .. } = node;
            return Err(Error::unimplemented(format!(
                "operator {operator} (node '{name}'): {why}; {ADVICE}"
            )));
        }
    }
    Ok(())
}

fn reason(node: &Node, file: &OnnxFile, source: &ModelSource) -> Option<&'static str> {
    let (is_wrong, why) = match node.operator.as_str() {
        "Attention" => {
            const SCORES: usize = 3;
            const WITH_MASK: i64 = 2;
            let masks = node.integer("is_causal") == Some(1)
                && node.integer("qk_matmul_output_mode") == Some(WITH_MASK);
            (
                masks && is_there(&node.outputs, SCORES),
                "ONNX Runtime leaves the causal mask out of qk_matmul_output",
            )
        }
        "Cast" | "CastLike" => (
            gives_text(node, file) && may_be_fractions(node, file),
            "ONNX Runtime writes eight digits of a fraction, which do not tell it from its neighbours",
        ),
        "MaxUnpool" => (
            is_there(&node.inputs, 2),
            "ONNX Runtime takes the indices for places in output_shape",
        ),
        "Resize" => (
            node.text("coordinate_transformation_mode") == Some("align_corners")
                && is_there(&node.inputs, 2)
                && !is_whole(&node.inputs[2], source),
            "ONNX Runtime aligns corners wrongly unless the scales are constant whole numbers",
        ),
        "STFT" => (
            node.inputs
                .get(1)
                .is_some_and(|step| constant(step, source).is_none()),
            "a frame_step of 0 would end the process, and a request decides about it",
        ),
        _ => return None,
    };
    is_wrong.then_some(why)
}

fn is_there(names: &[String], place: usize) -> bool {
    names.get(place).is_some_and(|name| !name.is_empty())
}

fn gives_text(node: &Node, file: &OnnxFile) -> bool {
    if node.operator == "Cast" {
        return node.integer("to") == Some(STRING);
    }
    let like = node.inputs.get(1);
    let mut inputs = file.signature.inputs.iter();
    inputs.any(|input| Some(&input.name) == like && input.dtype == DataType::Bytes)
        || file.signature.outputs.iter().any(|output| {
            node.outputs.first() == Some(&output.name) && output.dtype == DataType::Bytes
        })
}

fn may_be_fractions(node: &Node, file: &OnnxFile) -> bool {
    let mut inputs = file.signature.inputs.iter();
    let input = inputs.find(|input| Some(&input.name) == node.inputs.first());
    input.is_none_or(|input| {
        matches!(
            input.dtype,
            DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64
        )
    })
}

/// Whether a value is a constant that holds whole numbers alone.
fn is_whole(name: &str, source: &ModelSource) -> bool {
    let numbers = constant(name, source).map(|tensor| fractions(&tensor));
    numbers.is_some_and(|numbers| {
        !numbers.is_empty() && numbers.iter().all(|number| number.fract() == 0.0)
    })
}

/// A value that the graph itself holds.
fn constant(name: &str, source: &ModelSource) -> Option<TensorProto> {
    let graph = ModelProto::decode(source.bytes.clone()).ok()?.graph?;
    let mut weights = graph.initializer.into_iter();
    if let Some(weight) = weights.find(|weight| weight.name == name) {
        return Some(weight);
    }
    let gives = |node: &NodeProto| node.output.iter().any(|output| output == name);
    let node = graph.node.into_iter().find(gives)?;
    let mut values = node.attribute.into_iter().filter_map(|value| value.t);
    values.next().filter(|_| node.op_type == "Constant")
}

/// The elements of a tensor of FP32 that is in the file itself.
fn fractions(tensor: &TensorProto) -> Vec<f32> {
    match tensor.raw_data.is_empty() {
        true => tensor.float_data.clone(),
        false => {
            let (numbers, _) = tensor.raw_data.as_chunks();
            numbers
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::onnx::proto::{
        AttributeProto, GraphProto, OperatorSetId, TensorTypeProto, TypeProto, ValueInfoProto,
    };

    const FLOAT: i32 = 1;
    const INT64: i32 = 7;

    fn value((name, elem_type): &(&str, i32)) -> ValueInfoProto {
        let kind = TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: *elem_type,
                shape: None,
            }),
            ..TypeProto::default()
        };
        ValueInfoProto {
            name: (*name).to_owned(),
            r#type: Some(kind),
        }
    }

    fn integer(name: &str, i: i64) -> AttributeProto {
        AttributeProto {
            name: name.to_owned(),
            i,
            ..AttributeProto::default()
        }
    }

    fn align_corners() -> AttributeProto {
        AttributeProto {
            name: "coordinate_transformation_mode".to_owned(),
            s: "align_corners".into(),
            ..AttributeProto::default()
        }
    }

    /// A model of one node, with a constant of these numbers called `scales`.
    #[track_caller]
    fn check(
        operator: &str,
        inputs: &[(&str, i32)],
        outputs: &[(&str, i32)],
        (attribute, scales): (Vec<AttributeProto>, &[f32]),
        refused: bool,
    ) {
        let names = |values: &[(&str, i32)]| -> Vec<String> {
            values.iter().map(|(name, _)| (*name).to_owned()).collect()
        };
        let declared = |values: &[(&str, i32)]| -> Vec<ValueInfoProto> {
            let named = values
                .iter()
                .filter(|(name, _)| !name.is_empty() && *name != "scales");
            named.map(value).collect()
        };
        let graph = GraphProto {
            node: vec![NodeProto {
                op_type: operator.to_owned(),
                input: names(inputs),
                output: names(outputs),
                attribute,
                ..NodeProto::default()
            }],
            input: declared(inputs),
            output: declared(outputs),
            initializer: vec![TensorProto {
                name: "scales".to_owned(),
                dims: vec![scales.len() as i64],
                data_type: FLOAT,
                float_data: scales.to_vec(),
                ..TensorProto::default()
            }],
            ..GraphProto::default()
        };
        let model = ModelProto {
            graph: Some(graph),
            opset_import: vec![OperatorSetId {
                version: 23,
                ..OperatorSetId::default()
            }],
            ..ModelProto::default()
        };
        let source = ModelSource::new(model.encode_to_vec().into(), None);
        let found = refuse(&source);
        assert_eq!(found.is_err(), refused, "{operator}: {found:?}");
    }

    #[test]
    fn the_causal_mask_is_missing_from_one_kind_of_scores() {
        let inputs = [("q", FLOAT), ("k", FLOAT), ("v", FLOAT)];
        let outputs = [("y", FLOAT), ("", 0), ("", 0), ("scores", FLOAT)];
        for (mode, refused) in [(1, false), (2, true), (3, false)] {
            let attributes = vec![
                integer("is_causal", 1),
                integer("qk_matmul_output_mode", mode),
            ];
            check("Attention", &inputs, &outputs, (attributes, &[]), refused);
        }
    }

    #[test]
    fn fractions_lose_digits_as_text() {
        let text = [("y", STRING as i32)];
        let to = || (vec![integer("to", STRING)], &[][..]);
        check("Cast", &[("x", FLOAT)], &text, to(), true);
        check("Cast", &[("x", INT64)], &text, to(), false);
        let like = [("x", FLOAT), ("like", STRING as i32)];
        check("CastLike", &like, &text, (vec![], &[]), true);
        check(
            "CastLike",
            &[("x", FLOAT), ("like", INT64)],
            &[("y", INT64)],
            (vec![], &[]),
            false,
        );
    }

    #[test]
    fn indices_are_places_in_the_inferred_shape() {
        let with = [("x", FLOAT), ("indices", INT64), ("shape", INT64)];
        check("MaxUnpool", &with, &[("y", FLOAT)], (vec![], &[]), true);
        check(
            "MaxUnpool",
            &with[..2],
            &[("y", FLOAT)],
            (vec![], &[]),
            false,
        );
    }

    #[test]
    fn corners_are_aligned_for_constant_whole_scales_alone() {
        let constant = [("x", FLOAT), ("", 0), ("scales", FLOAT)];
        let of_request = [("x", FLOAT), ("", 0), ("factors", FLOAT)];
        let y = [("y", FLOAT)];
        let aligned = |scales: &'static [f32]| (vec![align_corners()], scales);
        check("Resize", &constant, &y, aligned(&[1.0, 2.0]), false);
        check("Resize", &constant, &y, aligned(&[1.0, 0.6]), true);
        check("Resize", &of_request, &y, aligned(&[1.0]), true);
        check("Resize", &of_request, &y, (vec![], &[]), false);
    }

    #[test]
    fn no_request_may_choose_a_step_that_ends_the_process() {
        let of_request = [("x", FLOAT), ("step", INT64)];
        check("STFT", &of_request, &[("y", FLOAT)], (vec![], &[]), true);
        let constant = [("x", FLOAT), ("scales", INT64)];
        check("STFT", &constant, &[("y", FLOAT)], (vec![], &[8.0]), false);
    }
}

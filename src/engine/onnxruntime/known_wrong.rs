//! What ONNX Runtime 1.31 is known to answer wrongly, and what a request could end the whole process with, so that it
//! is refused and never served.
//!
//! Each was seen in the tests of ONNX, or in those with inputs that were chosen to break them.

mod values;

use bytes::Bytes;
use prost::Message;

use self::values::Values;
use crate::engine::onnx::OnnxFile;
use crate::engine::onnx::proto::{FunctionProto, GraphProto, ModelProto, NodeProto, attribute};
use crate::error::{Error, Result};

/// Operators that are looked at; a file that has none of them is not read again.
const SUSPECTS: [&str; 9] = [
    "Attention",
    "Cast",
    "CastLike",
    "Div",
    "MaxUnpool",
    "Mod",
    "Resize",
    "STFT",
    "ai.onnx.ml.TreeEnsemble",
];

type Check = fn(&NodeProto, &Values) -> Option<&'static str>;

/// Fails for the first node that is known to go wrong.
pub fn refuse(bytes: &Bytes, file: &OnnxFile) -> Result<()> {
    let is_suspect = |operator: &str| SUSPECTS.contains(&operator);
    if !file.nodes.iter().any(|node| is_suspect(&node.operator)) {
        return Ok(());
    }
    let model = ModelProto::decode(bytes.clone())
        .map_err(|error| Error::invalid("the file is not an ONNX model").with_source(error))?;
    let functions = model.functions.into_iter().map(FunctionProto::into_graph);
    let mut graphs = model.graph.into_iter().chain(functions);
    graphs.try_for_each(|graph| refuse_graph(&graph))
}

fn refuse_graph(graph: &GraphProto) -> Result<()> {
    let values = Values::of(graph);
    let mut wrong = None;
    values::each_node(graph, &mut |node| {
        let reason = check(node).and_then(|check| check(node, &values));
        if let (None, Some(reason)) = (&wrong, reason) {
            let name = [&node.name].into_iter().chain(&node.output);
            let name = name.map(String::as_str).find(|name| !name.is_empty());
            wrong = Some(Error::unimplemented(format!(
                "operator {} (node '{}'): {reason}",
                node.op_type,
                name.unwrap_or_default()
            )));
        }
    });
    wrong.map_or(Ok(()), Err)
}

fn check(node: &NodeProto) -> Option<Check> {
    let domain = node.domain.as_str();
    match (domain, node.op_type.as_str()) {
        ("ai.onnx.ml", "TreeEnsemble") => Some(tree_ensemble),
        ("" | "ai.onnx", operator) => match operator {
            "Attention" => Some(attention),
            "Cast" | "CastLike" => Some(cast),
            "Div" | "Mod" => Some(divide),
            "MaxUnpool" => Some(max_unpool),
            "Resize" => Some(resize),
            "STFT" => Some(stft),
            _ => None,
        },
        _ => None,
    }
}

/// Its scores have no mask in them where they are given out from before the softmax.
fn attention(node: &NodeProto, _: &Values) -> Option<&'static str> {
    const SCORES: usize = 3;
    const PAST_KEY: usize = 4;
    const WITH_MASK: i64 = 2;
    let is = |name, value| attribute(&node.attribute, name).is_some_and(|found| found.i == value);
    let lacks_mask = has(&node.input, PAST_KEY) || is("qk_matmul_output_mode", WITH_MASK);
    let is_wrong = has(&node.output, SCORES) && is("is_causal", 1) && lacks_mask;
    is_wrong.then_some(
        "ONNX Runtime leaves the causal mask out of the scores that it gives out; leave that output away",
    )
}

/// It writes eight digits where fewer or more tell the number, which other engines would never agree with.
fn cast(node: &NodeProto, values: &Values) -> Option<&'static str> {
    let is_text = values.gives(node, 0) == Some(values::STRING);
    let from = node.input.first().and_then(|input| values.kind(input));
    (is_text && from.is_some_and(values::is_fraction))
        .then_some("ONNX Runtime writes fractions as text with other digits than ONNX asks for")
}

/// The least number divided by -1 is no number, and the processor ends the process for it.
fn divide(node: &NodeProto, values: &Values) -> Option<&'static str> {
    let [dividend, divisor] = &*node.input else {
        return None;
    };
    (values.may_be_wide_integers(dividend) && !values.is_small(dividend) && !values.is_never_minus_one(divisor)).then_some(
        "a request that divides the least whole number by -1 would end ONNX Runtime and the server with it; divide \
         by a constant, or by a fraction",
    )
}

fn max_unpool(node: &NodeProto, _: &Values) -> Option<&'static str> {
    const OUTPUT_SHAPE: usize = 2;
    has(&node.input, OUTPUT_SHAPE)
        .then_some("ONNX Runtime puts values in wrong places where output_shape is given")
}

fn resize(node: &NodeProto, values: &Values) -> Option<&'static str> {
    const SCALES: usize = 2;
    let mode = attribute(&node.attribute, "coordinate_transformation_mode");
    let scales = node.input.get(SCALES).filter(|name| !name.is_empty())?;
    let are_whole = |scales: Vec<f32>| scales.iter().all(|scale| scale.fract() == 0.0);
    let is_wrong = mode.is_some_and(|mode| mode.s == b"align_corners")
        && !values.fractions(scales).is_some_and(are_whole);
    is_wrong.then_some(
        "align_corners with scales that are no whole numbers gives wrong values; export with sizes",
    )
}

/// A frame or a step of no length divides by zero, and the processor ends the process for it.
fn stft(node: &NodeProto, values: &Values) -> Option<&'static str> {
    const LENGTHS: [usize; 2] = [1, 3];
    let lengths = LENGTHS.iter().filter_map(|place| node.input.get(*place));
    let mut lengths = lengths.filter(|name| !name.is_empty());
    lengths.any(|length| !values.is_constant(length)).then_some(
        "a request with frame_step or frame_length 0 would end ONNX Runtime and the server with it; make both constants",
    )
}

/// It takes the number of SOFTMAX for LOGISTIC and the other way round.
fn tree_ensemble(node: &NodeProto, _: &Values) -> Option<&'static str> {
    const SOFTMAX: i64 = 1;
    const LOGISTIC: i64 = 2;
    let is_swapped = attribute(&node.attribute, "post_transform")
        .is_some_and(|transform| [SOFTMAX, LOGISTIC].contains(&transform.i));
    is_swapped.then_some("ONNX Runtime numbers post_transform otherwise than ONNX does")
}

fn has(names: &[String], place: usize) -> bool {
    names.get(place).is_some_and(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::onnx::proto::{
        AttributeProto, GraphProto, TensorProto, TensorTypeProto, TypeProto, ValueInfoProto,
    };

    const FLOAT: i32 = 1;
    const INT64: i32 = 7;

    fn node(operator: &str, inputs: &[&str]) -> NodeProto {
        NodeProto {
            op_type: operator.to_owned(),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![operator.to_lowercase()],
            ..NodeProto::default()
        }
    }

    fn with(mut node: NodeProto, name: &str, i: i64, s: &str) -> NodeProto {
        node.attribute.push(AttributeProto {
            name: name.to_owned(),
            i,
            s: s.into(),
            ..AttributeProto::default()
        });
        node
    }

    fn tensor(name: &str, integers: &[i64], fractions: &[f32]) -> TensorProto {
        let (data_type, length) = match integers {
            [] => (FLOAT, fractions.len()),
            _ => (INT64, integers.len()),
        };
        TensorProto {
            name: name.to_owned(),
            data_type,
            dims: vec![length as i64],
            int64_data: integers.to_vec(),
            float_data: fractions.to_vec(),
            ..TensorProto::default()
        }
    }

    fn value(name: &str, elem_type: i32) -> ValueInfoProto {
        ValueInfoProto {
            name: name.to_owned(),
            r#type: Some(TypeProto {
                tensor_type: Some(TensorTypeProto {
                    elem_type,
                    shape: None,
                }),
                ..TypeProto::default()
            }),
        }
    }

    /// What is said of a graph with these nodes; it takes fractions `x` and whole numbers `n`, and has some constants.
    #[track_caller]
    fn check(nodes: Vec<NodeProto>, expected: Option<&str>) {
        let last = nodes.last().map(|node| node.output[0].clone());
        let graph = GraphProto {
            node: nodes,
            initializer: vec![
                tensor("three", &[3], &[]),
                tensor("minus one", &[-1], &[]),
                tensor("whole", &[], &[1.0, 2.0]),
                tensor("odd", &[], &[1.0, 1.5]),
            ],
            input: vec![value("x", FLOAT), value("n", INT64)],
            output: vec![value(&last.unwrap_or_default(), FLOAT)],
            ..GraphProto::default()
        };
        let bytes = ModelProto {
            graph: Some(graph),
            ..ModelProto::default()
        };
        let bytes = Bytes::from(bytes.encode_to_vec());
        let file = OnnxFile::read(&bytes, None).expect("the model can be read");
        let reason = refuse(&bytes, &file).map_err(|error| error.public_message().to_owned());
        match expected {
            Some(words) => assert!(
                reason.as_ref().is_err_and(|reason| reason.contains(words)),
                "{reason:?}"
            ),
            None => assert_eq!(reason, Ok(())),
        }
    }

    #[test]
    fn a_division_that_a_request_can_break_is_refused() {
        check(
            vec![node("Div", &["n", "n"])],
            Some("operator Div (node 'div')"),
        );
        check(vec![node("Mod", &["n", "minus one"])], Some("operator Mod"));
        let cast = with(node("Cast", &["x"]), "to", INT64.into(), "");
        check(
            vec![cast, node("Div", &["n", "cast"])],
            Some("operator Div"),
        );
        check(
            vec![node("Abs", &["n"]), node("Div", &["three", "abs"])],
            None,
        );
    }

    #[test]
    fn divisions_of_fractions_and_by_constants_and_of_sizes_are_fine() {
        check(vec![node("Div", &["x", "x"])], None);
        check(vec![node("Div", &["n", "three"])], None);
        check(
            vec![node("Shape", &["x"]), node("Div", &["n", "shape"])],
            None,
        );
        let sizes = vec![
            node("Shape", &["x"]),
            node("Add", &["shape", "minus one"]),
            node("Div", &["add", "n"]),
        ];
        check(sizes, None);
    }

    #[test]
    fn fractions_as_text_are_refused_and_whole_numbers_are_not() {
        let cast = |from| with(node("Cast", &[from]), "to", values::STRING.into(), "");
        check(vec![cast("x")], Some("other digits"));
        check(vec![cast("n")], None);
    }

    #[test]
    fn a_resize_to_aligned_corners_needs_whole_scales() {
        let resize = |scales| {
            with(
                node("Resize", &["x", "", scales]),
                "coordinate_transformation_mode",
                0,
                "align_corners",
            )
        };
        check(vec![resize("odd")], Some("export with sizes"));
        check(vec![resize("whole")], None);
        check(vec![resize("x")], Some("export with sizes"));
        check(vec![node("Resize", &["x", "", "odd"])], None);
    }

    #[test]
    fn only_constant_lengths_of_frames_and_steps_are_safe() {
        check(
            vec![node("STFT", &["x", "three", "", "n"])],
            Some("frame_length"),
        );
        check(vec![node("STFT", &["x", "three", "", "three"])], None);
        check(vec![node("STFT", &["x", "three", "x"])], None);
        check(vec![node("STFT", &["x", "n", "x"])], Some("frame_step"));
    }

    #[test]
    fn transforms_of_trees_that_are_numbered_otherwise_are_refused() {
        let trees = |transform| {
            let node = NodeProto {
                domain: "ai.onnx.ml".to_owned(),
                ..node("TreeEnsemble", &["x"])
            };
            with(node, "post_transform", transform, "")
        };
        check(vec![trees(1)], Some("post_transform"));
        check(vec![trees(2)], Some("post_transform"));
        check(vec![trees(0)], None);
        check(vec![trees(3)], None);
    }
}

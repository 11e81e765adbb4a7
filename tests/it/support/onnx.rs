//! Small ONNX files, written field by field. <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>

use super::protobuf::{Field, Value};

/// A node: an operator, what it takes, and what it gives.
pub struct Node<'a>(pub &'a str, pub &'a [&'a str], pub &'a str);

/// A model of these nodes from `x` to `y`, both FP32 `[4]`; a node without inputs gets
/// `shape = [4]`, which random operators need.
pub fn model(nodes: &[Node<'_>]) -> Vec<u8> {
    let nodes = nodes.iter().map(|Node(operator, inputs, output)| {
        let mut fields: Vec<_> = inputs.iter().map(|input| bytes(1, *input)).collect();
        fields.extend([bytes(2, *output), bytes(4, *operator)]);
        if inputs.is_empty() {
            fields.push(message(
                5,
                &[bytes(1, "shape"), number(8, 4), number(20, 7)],
            ));
        }
        message(1, &fields)
    });
    let mut graph: Vec<_> = nodes.collect();
    graph.extend([bytes(2, "graph"), tensor(11, "x"), tensor(12, "y")]);
    let opset = [bytes(1, ""), number(2, 17)];
    Field::write_all(&[number(1, 8), message(8, &opset), message(7, &graph)])
}

fn tensor(number_of_field: u64, name: &str) -> Field {
    let shape = message(2, &[message(1, &[number(1, 4)])]);
    let fp32 = message(1, &[number(1, 1), shape]);
    message(number_of_field, &[bytes(1, name), message(2, &[fp32])])
}

fn message(number: u64, fields: &[Field]) -> Field {
    bytes(number, Field::write_all(fields))
}

fn bytes(number: u64, bytes: impl Into<Vec<u8>>) -> Field {
    let value = Value::Bytes(bytes.into());
    Field { number, value }
}

fn number(number: u64, value: u64) -> Field {
    let value = Value::Varint(value);
    Field { number, value }
}

//! The JSON codec under inputs that nobody thought of: what is written reads back, and nothing makes it panic.

use std::ops::Range;

use bytes::Bytes;
use onnxd::config::Limits;
use onnxd::error::{ErrorKind, Result};
use onnxd::oip::request::{DecodedRequest, decode};
use onnxd::oip::response::{Answer, encode};
use onnxd::oip::{NanForm, Style};
use onnxd::tensor::dtype::DataType;
use onnxd::tensor::shape::Shape;
use onnxd::tensor::signature::{Signature, TensorSpec};
use onnxd::tensor::value::{NamedTensor, Tensor};
use proptest::prelude::*;
use proptest::sample::Index;

pub const LIMITS: Limits = Limits {
    body_bytes: 1 << 20,
    tensor_elements: 1 << 10,
    json_depth: 8,
};

pub fn signature(inputs: &[(&str, DataType)]) -> Signature {
    let spec = |&(name, dtype): &(&str, DataType)| TensorSpec {
        name: name.to_owned(),
        dtype,
        dims: None,
        columns: None,
    };
    Signature {
        inputs: inputs.iter().map(spec).collect(),
        outputs: vec![spec(&("y", DataType::Fp32))],
    }
}

fn decode_one(body: &str, dtype: DataType) -> Result<DecodedRequest> {
    decode(body.as_bytes(), &signature(&[("x", dtype)]), &LIMITS)
}

/// Shapes of so many dimensions, each so long.
fn shapes(ranks: Range<usize>, lengths: Range<usize>) -> impl Strategy<Value = Shape> {
    let dims = prop::collection::vec(lengths, ranks);
    dims.prop_map(|dims| Shape::new(dims).expect("small shapes fit"))
}

/// A tensor with any elements but NaN, which equals nothing.
fn tensors(dtype: DataType, shape: Shape) -> BoxedStrategy<Tensor> {
    let count = shape.elements();
    let Some(width) = dtype.width() else {
        let text = prop_oneof![
            any::<String>().prop_map(String::into_bytes),
            any::<Vec<u8>>()
        ];
        let strings = prop::collection::vec(text, count);
        let tensor =
            move |strings| Tensor::from_strings(shape.clone(), strings).expect("the count fits");
        return strings.prop_map(tensor).boxed();
    };
    let element = prop::collection::vec(any::<u8>(), width).prop_map(move |bytes| match dtype {
        DataType::Bool => vec![bytes[0] % 2],
        _ if is_nan(dtype, &bytes) => vec![0; width],
        _ => bytes,
    });
    let elements = prop::collection::vec(element, count);
    let tensor = move |elements: Vec<Vec<u8>>| {
        Tensor::new(dtype, shape.clone(), Bytes::from(elements.concat())).expect("the bytes fit")
    };
    elements.prop_map(tensor).boxed()
}

/// Whether all bits of the exponent are set and one of the fraction's, too.
fn is_nan(dtype: DataType, little_endian: &[u8]) -> bool {
    let exponent_bits = match dtype {
        DataType::Fp16 => 5,
        DataType::Bf16 | DataType::Fp32 => 8,
        DataType::Fp64 => 11,
        _ => return false,
    };
    let bits = 8 * little_endian.len();
    let whole = little_endian
        .iter()
        .rev()
        .fold(0u64, |whole, &byte| whole << 8 | u64::from(byte));
    let fraction_bits = bits - 1 - exponent_bits;
    let exponent = whole >> fraction_bits & ((1 << exponent_bits) - 1);
    exponent == (1 << exponent_bits) - 1 && whole & ((1 << fraction_bits) - 1) != 0
}

pub fn any_tensor(ranks: Range<usize>, lengths: Range<usize>) -> impl Strategy<Value = Tensor> {
    let kinds = (
        prop::sample::select(DataType::ALL.to_vec()),
        shapes(ranks, lengths),
    );
    kinds.prop_flat_map(|(dtype, shape)| tensors(dtype, shape))
}

/// The answer that echoes `tensor`, turned into a request.
fn as_request(tensor: &Tensor, style: Style) -> String {
    let outputs = [NamedTensor {
        name: "x".into(),
        tensor: tensor.clone(),
    }];
    let answer = Answer {
        model: None,
        id: None,
        signature: &Signature::default(),
        outputs: &outputs,
    };
    let json = encode(&answer, style, NanForm::Token).expect("every tensor can be written so");
    let json = String::from_utf8(json).expect("JSON is text");
    let (_, values) = json
        .split_once(r#""outputs":"#)
        .or_else(|| json.split_once(r#""predictions":"#))
        .expect("there are values");
    let key = if style == Style::Rows {
        "instances"
    } else {
        "inputs"
    };
    format!(r#"{{"{key}":{values}"#)
}

/// Requests that are valid for `a` of FP32 and `b` of BYTES.
const VALID: [&str; 4] = [
    r#"{"instances":[{"a":[1.5,-2e3],"b":"x\n\u00e9"},{"a":[3,NaN],"b":{"b64":"AAE="}}],"id":"7"}"#,
    r#"{"inputs":{"a":[[1,2],[3,4]],"b":["x","y"]},"parameters":{"nan":"token","timeout":5}}"#,
    r#"{"inputs":[{"name":"a","datatype":"FP32","shape":[2],"data":[1,2]},{"data":["x"],"name":"b","shape":[1],"datatype":"BYTES"}],"outputs":[{"name":"y"}]}"#,
    r#"{"signature_name":"s","inputs":{"b":[[]],"a":-Infinity}}"#,
];

pub fn two_inputs() -> Signature {
    signature(&[("a", DataType::Fp32), ("b", DataType::Bytes)])
}

#[derive(Debug, Clone)]
pub enum Mutation {
    Remove(Index, usize),
    Replace(Index, u8),
    Insert(Index, &'static str),
    Truncate(Index),
    Repeat(Index, usize),
}

pub fn mutations() -> impl Strategy<Value = Mutation> {
    let fragments = vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "null",
        "NaN",
        "-Infinity",
        "1e999",
        "-",
        "\u{7f}",
        "{\"b64\":",
        "[[[[[[[[[[",
    ];
    prop_oneof![
        (any::<Index>(), 1usize..9).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (any::<Index>(), prop::sample::select(fragments))
            .prop_map(|(at, text)| Mutation::Insert(at, text)),
        any::<Index>().prop_map(Mutation::Truncate),
        (any::<Index>(), 1usize..40).prop_map(|(at, count)| Mutation::Repeat(at, count)),
    ]
}

pub fn mutate(body: &mut Vec<u8>, mutation: &Mutation) {
    if body.is_empty() {
        return;
    }
    match mutation {
        Mutation::Remove(at, count) => {
            let start = at.index(body.len());
            body.drain(start..(start + count).min(body.len()));
        }
        Mutation::Replace(at, byte) => {
            let at = at.index(body.len());
            body[at] = *byte;
        }
        Mutation::Insert(at, text) => {
            let at = at.index(body.len());
            body.splice(at..at, text.bytes());
        }
        Mutation::Truncate(at) => body.truncate(at.index(body.len())),
        Mutation::Repeat(at, count) => {
            let start = at.index(body.len());
            let part = body[start..(start + count).min(body.len())].to_vec();
            body.splice(start..start, part);
        }
    }
}

/// Whatever comes out, it keeps to the limits.
pub fn check_decoded(result: Result<DecodedRequest>) {
    match result {
        Ok(request) => {
            let most = request
                .inputs
                .iter()
                .map(|input| input.tensor.shape().elements())
                .max();
            assert!(most.unwrap_or(0) <= LIMITS.tensor_elements);
        }
        Err(error) => {
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::InvalidArgument | ErrorKind::TooLarge
                ),
                "{error}"
            );
            assert!(error.public_message().len() < 2000, "{error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_tensor_object_reads_back_as_it_was_written(tensor in any_tensor(0..4, 0..4)) {
        let body = as_request(&tensor, Style::Protocol);
        let request = decode_one(&body, tensor.dtype()).expect("what we write we read");
        prop_assert_eq!(request.style, Style::Protocol);
        prop_assert_eq!(&request.inputs[0].tensor, &tensor, "{}", body);
    }

    #[test]
    fn a_column_reads_back_as_it_was_written(tensor in any_tensor(0..4, 1..4)) {
        let body = as_request(&tensor, Style::Columns);
        let request = decode_one(&body, tensor.dtype()).map_err(|error| TestCaseError::fail(format!("{error}: {body}")))?;
        prop_assert_eq!(request.style, Style::Columns);
        prop_assert_eq!(&request.inputs[0].tensor, &tensor, "{}", body);
    }

    #[test]
    fn rows_read_back_as_they_were_written(tensor in any_tensor(1..4, 1..4)) {
        let body = as_request(&tensor, Style::Rows);
        let request = decode_one(&body, tensor.dtype()).map_err(|error| TestCaseError::fail(format!("{error}: {body}")))?;
        prop_assert_eq!(request.style, Style::Rows);
        prop_assert_eq!(&request.inputs[0].tensor, &tensor, "{}", body);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(body in any::<Vec<u8>>()) {
        check_decoded(decode(&body, &two_inputs(), &LIMITS));
    }

    #[test]
    fn requests_that_are_almost_valid_are_read_without_a_panic(
        valid in prop::sample::select(VALID.to_vec()),
        mutations in prop::collection::vec(mutations(), 1..6),
    ) {
        let mut body = valid.as_bytes().to_vec();
        for mutation in &mutations {
            mutate(&mut body, mutation);
        }
        check_decoded(decode(&body, &two_inputs(), &LIMITS));
    }

    #[test]
    fn the_limit_of_elements_holds_exactly(count in 0usize..40, limit in 1usize..40) {
        let limits = Limits { tensor_elements: limit, ..LIMITS };
        let data = vec!["1"; count].join(",");
        for body in [
            format!(r#"{{"inputs":{{"x":[{data}]}}}}"#),
            format!(r#"{{"inputs":[{{"name":"x","datatype":"INT8","shape":[{count}],"data":[{data}]}}]}}"#),
            format!(r#"{{"inputs":[{{"data":[{data}],"name":"x","shape":[{count}],"datatype":"INT8"}}]}}"#),
        ] {
            let result = decode(body.as_bytes(), &signature(&[("x", DataType::Int8)]), &limits);
            prop_assert_eq!(result.err().map(|error| error.kind()), (count > limit).then_some(ErrorKind::TooLarge));
        }
    }

    #[test]
    fn the_limit_of_depth_holds_exactly(depth in 1usize..30, limit in 2usize..30) {
        let limits = Limits { json_depth: limit, ..LIMITS };
        let nested = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        for body in [
            format!(r#"{{"inputs":{nested}}}"#),
            format!(r#"{{"inputs":{{"x":{nested}}}}}"#),
            format!(r#"{{"instances":{nested}}}"#),
        ] {
            let result = decode(body.as_bytes(), &signature(&[("x", DataType::Int8)]), &limits);
            prop_assert_eq!(result.err().map(|error| error.kind()), (depth > limit).then_some(ErrorKind::TooLarge));
        }
    }
}

#[test]
fn the_requests_that_are_mutated_are_valid() {
    for body in VALID {
        decode(body.as_bytes(), &two_inputs(), &LIMITS).expect(body);
    }
}

//! The binary extension under inputs that nobody thought of: what is accepted is what JSON gives, and nothing else
//! happens than an answer or a refusal.

use bytes::Bytes;
use onnxd::error::ErrorKind;
use onnxd::oip::binary::{RawOutputs, decode_parts, encode};
use onnxd::oip::request::decode;
use onnxd::oip::response::{Answer, write_tensor_object};
use onnxd::oip::{NanForm, Style};
use onnxd::tensor::dtype::DataType;
use onnxd::tensor::signature::Signature;
use onnxd::tensor::value::{NamedTensor, Tensor};
use proptest::prelude::*;
use proptest::sample::Index;

use super::JSON_LENGTH;
use crate::codec::{LIMITS, any_tensor, check_decoded, mutate, mutations, signature, two_inputs};
use crate::support::client::Request;
use crate::support::samples::samples;

/// The input `x` with its data raw.
fn raw_input(tensor: &Tensor) -> String {
    let (dtype, shape, bytes) = (tensor.dtype(), tensor.shape(), tensor.data().len());
    format!(
        r#"{{"inputs":[{{"name":"x","datatype":"{dtype}","shape":{shape},"parameters":{{"binary_data_size":{bytes}}}}}],"parameters":{{"binary_data_output":true}}}}"#
    )
}

fn json_input(tensor: &Tensor) -> String {
    let mut object = Vec::new();
    let input = NamedTensor {
        name: "x".into(),
        tensor: tensor.clone(),
    };
    write_tensor_object(&mut object, &input, NanForm::Token);
    format!(
        r#"{{"inputs":[{}]}}"#,
        String::from_utf8(object).expect("JSON is text")
    )
}

/// JSON with raw tensors that are valid for `a` of FP32 and `b` of BYTES, and how much of it is JSON.
fn valid() -> Vec<(Vec<u8>, usize)> {
    let parts = [
        (
            r#"{"inputs":[{"name":"a","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}},{"name":"b","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":6}}]}"#,
            &b"\0\0\x80\x3f\0\0\x80\x3f\x02\0\0\0ab"[..],
        ),
        (
            r#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1],"data":[NaN]},{"name":"b","parameters":{"binary_data_size":8},"datatype":"BYTES","shape":[2]}],"outputs":[{"name":"y","parameters":{"binary_data":true,"classification":2}}]}"#,
            &[0; 8],
        ),
    ];
    parts
        .map(|(json, raw)| ([json.as_bytes(), raw].concat(), json.len()))
        .to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_raw_tensor_is_what_its_json_is(tensor in any_tensor(0..4, 0..4)) {
        let signature = signature(&[("x", tensor.dtype())]);
        let json = decode(json_input(&tensor).as_bytes(), &signature, &LIMITS).expect("what we write we read");
        let head = raw_input(&tensor);
        let body = Bytes::from([head.as_bytes(), tensor.data()].concat());
        let raw = decode_parts(body, head.len(), &signature, &LIMITS).expect("what we write we read");
        prop_assert_eq!(&raw.inputs, &json.inputs);
        prop_assert_eq!(&raw.inputs[0].tensor, &tensor);
    }

    #[test]
    fn a_raw_answer_reads_back_as_it_was_written(tensor in any_tensor(0..4, 0..4)) {
        let outputs = [NamedTensor { name: "x".into(), tensor: tensor.clone() }];
        let answer = Answer { model: None, id: None, signature: &Signature::default(), outputs: &outputs };
        let signature = signature(&[("x", tensor.dtype())]);
        let request = decode_parts(
            Bytes::from([raw_input(&tensor).as_bytes(), tensor.data()].concat()), raw_input(&tensor).len(), &signature, &LIMITS,
        ).expect("what we write we read");
        let encoded = encode(&answer, Style::Protocol, NanForm::Null, &RawOutputs::of(&request)).expect("it can be written");
        let json_bytes = encoded.json_bytes.expect("the output is raw");
        let (_, raw) = encoded.body.split_at(json_bytes);
        prop_assert_eq!(raw, &tensor.data()[..]);
    }

    #[test]
    fn any_bytes_cut_anywhere_are_read_without_a_panic(body in any::<Vec<u8>>(), json_bytes in 0usize..300) {
        check_decoded(decode_parts(body.into(), json_bytes, &two_inputs(), &LIMITS));
    }

    #[test]
    fn any_bytes_are_a_raw_tensor_or_refused(body in any::<Vec<u8>>(), dtype in prop::sample::select(DataType::ALL.to_vec())) {
        check_decoded(decode_parts(body.into(), 0, &signature(&[("x", dtype)]), &LIMITS));
    }

    #[test]
    fn requests_that_are_almost_valid_are_read_without_a_panic(
        valid in prop::sample::select(valid()),
        mutations in prop::collection::vec(mutations(), 0..6),
        shift in -3isize..4,
    ) {
        let (mut body, json_bytes) = valid;
        for mutation in &mutations {
            mutate(&mut body, mutation);
        }
        let json_bytes = json_bytes.saturating_add_signed(shift);
        check_decoded(decode_parts(body.into(), json_bytes, &two_inputs(), &LIMITS));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn the_server_answers_or_refuses_whatever_comes(
        valid in prop::sample::select(valid()),
        mutations in prop::collection::vec(mutations(), 0..4),
        header in prop_oneof![
            3 => Just(None),
            1 => any::<Index>().prop_map(|at| Some(at.index(400).to_string())),
            1 => "[ -~]{0,20}".prop_map(Some),
        ],
    ) {
        let (mut body, json_bytes) = valid;
        for mutation in &mutations {
            mutate(&mut body, mutation);
        }
        let header = header.unwrap_or_else(|| json_bytes.to_string());
        let answer = samples().ask(&Request::post("/v2/models/pair/infer", body).with(JSON_LENGTH, &header));
        prop_assert!(matches!(answer.status, 200 | 400 | 413), "{}", answer.status);
        if answer.status != 200 {
            prop_assert!(!answer.error().is_empty());
        }
    }
}

#[test]
fn the_requests_that_are_mutated_are_valid() {
    for (body, json_bytes) in valid() {
        let decoded = decode_parts(body.into(), json_bytes, &two_inputs(), &LIMITS);
        decoded.expect("they are valid");
    }
    let short = decode_parts(Bytes::from_static(b"{}"), 100, &two_inputs(), &LIMITS);
    let kind = short.expect_err("there are no inputs").kind();
    assert_eq!(kind, ErrorKind::InvalidArgument);
}

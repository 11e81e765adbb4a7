//! Tensors come back as they went in: every data type, shape, nesting and order of fields.

use serde_json::{Value, json};

use crate::support::samples::samples;

/// Two by two elements of every data type, as they are answered, with the values at the edges of the type.
const ELEMENTS: [(&str, [&str; 4]); 14] = [
    ("BOOL", ["true", "false", "false", "true"]),
    ("UINT8", ["0", "1", "128", "255"]),
    ("UINT16", ["0", "1", "32768", "65535"]),
    ("UINT32", ["0", "1", "2147483648", "4294967295"]),
    (
        "UINT64",
        ["0", "1", "9007199254740993", "18446744073709551615"],
    ),
    ("INT8", ["0", "-1", "-128", "127"]),
    ("INT16", ["0", "-1", "-32768", "32767"]),
    ("INT32", ["0", "-1", "-2147483648", "2147483647"]),
    (
        "INT64",
        ["0", "-1", "-9223372036854775808", "9223372036854775807"],
    ),
    ("FP16", ["0.0", "-0.5", "65504.0", "0.000061035156"]),
    ("BF16", ["0.0", "-0.5", "3.3895314e38", "1.1754944e-38"]),
    ("FP32", ["0.1", "-0.5", "3.4028235e38", "1e-45"]),
    ("FP64", ["0.1", "-0.5", "1.7976931348623157e308", "5e-324"]),
    (
        "BYTES",
        [
            r#""""#,
            r#""plain""#,
            r#""žlutý \"kůň\"""#,
            r#"{"b64":"//79"}"#,
        ],
    ),
];

fn path(dtype: &str) -> String {
    format!("/v2/models/{}/infer", dtype.to_lowercase())
}

/// Sends one tensor in the protocol's style and compares the text of the one that comes back.
#[track_caller]
fn check(dtype: &str, shape: &str, data: &str, answered: &str) {
    let body = format!(
        r#"{{"inputs": [{{"name": "x", "datatype": "{dtype}", "shape": {shape}, "data": {data}}}]}}"#
    );
    let answer = samples().post(&path(dtype), body.as_str());
    let tensor =
        format!(r#"{{"name":"x_out","datatype":"{dtype}","shape":{shape},"data":{answered}}}"#);
    let model = dtype.to_lowercase();
    let expected =
        format!(r#"{{"model_name":"{model}","model_version":"1","outputs":[{tensor}]}}"#);
    assert_eq!(answer.text(), expected, "{body}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[test]
fn every_data_type_comes_back_from_flat_and_nested_data() {
    for (dtype, [a, b, c, d]) in ELEMENTS {
        let flat = format!("[{a},{b},{c},{d}]");
        check(dtype, "[2,2]", &flat, &flat);
        check(dtype, "[2,2]", &format!("[[{a},{b}],[{c},{d}]]"), &flat);
        check(
            dtype,
            "[1,4,1]",
            &format!("[[[{a}],[{b}],[{c}],[{d}]]]"),
            &flat,
        );
    }
}

#[test]
fn every_data_type_comes_back_in_rows_and_columns() {
    for (dtype, [a, b, c, d]) in ELEMENTS {
        let nested = format!("[[{a},{b}],[{c},{d}]]");
        let path = format!("/predict/{}", dtype.to_lowercase());
        for (request, key) in [("instances", "predictions"), ("inputs", "outputs")] {
            let answer = samples().post(&path, format!(r#"{{"{request}": {nested}}}"#));
            let expected = format!(r#""{key}":{nested}}}"#);
            assert!(
                answer.text().ends_with(&expected),
                "{request}: {}",
                answer.text()
            );
        }
    }
}

#[test]
fn fields_of_a_tensor_come_in_any_order() {
    let fields = [
        r#""name": "x""#,
        r#""datatype": "FP32""#,
        r#""shape": [2]"#,
        r#""data": [1.5,2]"#,
    ];
    let mut orders = vec![vec![]];
    for _ in fields {
        let longer = |order: &Vec<&'static str>| {
            let order = order.clone();
            let rest = fields
                .into_iter()
                .filter(move |field| !order.contains(field));
            rest.collect::<Vec<_>>()
        };
        orders = orders
            .iter()
            .flat_map(|order| {
                longer(order)
                    .into_iter()
                    .map(|next| [order.as_slice(), &[next]].concat())
            })
            .collect();
    }
    assert_eq!(orders.len(), 24);
    let refused: Vec<_> = orders
        .iter()
        .map(|order| format!(r#"{{"inputs": [{{{}}}]}}"#, order.join(", ")))
        .map(|body| (samples().post("/v2/models/fp32/infer", body.as_str()), body))
        .filter(|(answer, _)| !answer.text().contains(r#""data":[1.5,2.0]"#))
        .map(|(answer, body)| format!("{body}\n    {}", answer.text()))
        .collect();
    assert!(refused.is_empty(), "\n{}", refused.join("\n"));
}

#[test]
fn empty_tensors_are_tensors() {
    for (dtype, _) in ELEMENTS {
        check(dtype, "[0]", "[]", "[]");
        check(dtype, "[0,4]", "[]", "[]");
        check(dtype, "[2,0]", "[[],[]]", "[]");
        check(dtype, "[2,0,3]", "[]", "[]");
    }
}

#[test]
fn a_scalar_has_no_dimensions() {
    for (dtype, [_, element, ..]) in ELEMENTS {
        check(dtype, "[]", element, &format!("[{element}]"));
        check(
            dtype,
            "[]",
            &format!("[{element}]"),
            &format!("[{element}]"),
        );
        let columns = format!(r#"{{"inputs": {{"x": {element}}}}}"#);
        let answer = samples().post(&format!("/predict/{}", dtype.to_lowercase()), columns);
        assert!(
            answer
                .text()
                .ends_with(&format!(r#""outputs":{element}}}"#)),
            "{}",
            answer.text()
        );
    }
    let answer = samples().post("/predict/fp32", r#"{"inputs": 1.5}"#);
    assert!(
        answer.text().ends_with(r#""outputs":1.5}"#),
        "{}",
        answer.text()
    );
}

#[test]
fn values_that_json_lacks_come_in_as_tokens_and_go_out_as_asked() {
    for dtype in ["FP16", "BF16", "FP32", "FP64"] {
        let path = format!("/predict/{}", dtype.to_lowercase());
        let tokens = "[NaN,Infinity,-Infinity,1.0]";
        let answer = samples().post(&path, format!(r#"{{"inputs": {tokens}}}"#));
        assert!(
            answer
                .text()
                .ends_with(r#""outputs":[null,null,null,1.0]}"#),
            "{}",
            answer.text()
        );
        let quoted = r#"["NaN","Infinity","-Infinity",1]"#;
        for data in [tokens, quoted] {
            let body =
                format!(r#"{{"inputs": {data}, "id": "NaN", "parameters": {{"nan": "token"}}}}"#);
            let answer = samples().post(&path, body);
            let expected = format!(r#""id":"NaN","outputs":{tokens}}}"#);
            assert!(answer.text().ends_with(&expected), "{}", answer.text());
        }
    }
}

#[test]
fn base64_stands_for_bytes_and_text_comes_back_as_text() {
    check(
        "BYTES",
        "[2]",
        r#"[{"b64":"YQ=="},{"b64":"/w=="}]"#,
        r#"["a",{"b64":"/w=="}]"#,
    );
    check("BYTES", "[1]", r#"[{"b64":""}]"#, r#"[""]"#);
}

#[test]
fn base64_stands_for_bytes_in_rows_and_columns() {
    let check = |body: Value, field: &str, expected: Value| {
        let answer = samples().post("/predict/bytes", body.to_string()).ok();
        assert_eq!(answer[field], expected, "{body}");
    };
    let bytes = json!({ "b64": "/w==" });
    check(
        json!({ "instances": [bytes] }),
        "predictions",
        json!([bytes]),
    );
    check(
        json!({ "instances": [{ "x": bytes }] }),
        "predictions",
        json!([bytes]),
    );
    check(
        json!({ "instances": [[bytes, "a"]] }),
        "predictions",
        json!([[bytes, "a"]]),
    );
    check(
        json!({ "inputs": [bytes, "a"] }),
        "outputs",
        json!([bytes, "a"]),
    );
    check(
        json!({ "inputs": { "x": [bytes] } }),
        "outputs",
        json!([bytes]),
    );
    check(
        json!({ "inputs": { "x": bytes } }),
        "outputs",
        bytes.clone(),
    );
    check(json!({ "inputs": bytes }), "outputs", bytes);
}

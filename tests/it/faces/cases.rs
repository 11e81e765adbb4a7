//! The table.

use half::{bf16, f16};
use onnxd::error::ErrorKind::{
    self, DeadlineExceeded, Internal, InvalidArgument, NotFound, TooLarge,
};
use onnxd::oip::numbers::Bool;
use onnxd::tensor::value::{NamedTensor, Tensor};

use super::{Case, Expected, Input, Parameter, Request, input, strings, tensor};

pub fn cases() -> Vec<Case> {
    [
        data_types(),
        shapes(),
        outputs(),
        parameters(),
        refusals(),
        failures(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn answered(name: impl Into<String>, request: Request, outputs: &[(&str, Tensor)]) -> Case {
    let output = |(name, tensor): &(&str, Tensor)| NamedTensor {
        name: (*name).to_owned(),
        tensor: tensor.clone(),
    };
    Case {
        name: name.into(),
        request,
        expected: Expected::Outputs(outputs.iter().map(output).collect()),
    }
}

fn refused(name: &str, request: Request, kind: ErrorKind, says: &'static str) -> Case {
    Case {
        name: name.to_owned(),
        request,
        expected: Expected::Error(kind, says),
    }
}

/// Four elements of every type, with those at its edges, for the model of its name.
fn elements() -> [(&'static str, Tensor); 14] {
    let dims = &[2, 2];
    [
        ("bool", tensor(dims, &[1, 0, 0, 1].map(Bool))),
        ("uint8", tensor(dims, &[0, 1, 128, u8::MAX])),
        ("uint16", tensor(dims, &[0, 1, 1 << 15, u16::MAX])),
        ("uint32", tensor(dims, &[0, 1, 1 << 31, u32::MAX])),
        ("uint64", tensor(dims, &[0, 1, (1 << 53) + 1, u64::MAX])),
        ("int8", tensor(dims, &[0, -1, i8::MIN, i8::MAX])),
        ("int16", tensor(dims, &[0, -1, i16::MIN, i16::MAX])),
        ("int32", tensor(dims, &[0, -1, i32::MIN, i32::MAX])),
        ("int64", tensor(dims, &[0, -1, i64::MIN, i64::MAX])),
        (
            "fp16",
            tensor(dims, &[0.0, -0.5, 65504.0, 6e-5].map(f16::from_f32)),
        ),
        (
            "bf16",
            tensor(dims, &[0.0, -0.5, 3.3e38, 1e-38].map(bf16::from_f32)),
        ),
        ("fp32", tensor(dims, &[0.1, -0.0, f32::MAX, f32::NAN])),
        ("fp64", tensor(dims, &[0.1, -0.5, f64::MAX, 5e-324])),
        (
            "bytes",
            strings(
                dims,
                &[b"", b"plain", "žlutý \"kůň\"\n".as_bytes(), b"\xff\x00\xfe"],
            ),
        ),
    ]
}

fn data_types() -> Vec<Case> {
    let of_type = |(model, all): (&'static str, Tensor)| {
        let echo = |what: &str, tensor: Tensor| {
            let request = Request::to(model, vec![input("x", tensor.clone())]);
            answered(format!("{model}, {what}"), request, &[("x_out", tensor)])
        };
        let empty = |dims: &[usize]| {
            Tensor::new(all.dtype(), super::shape(dims), Vec::new().into()).expect("there are none")
        };
        [
            echo("two by two", all.clone()),
            echo("none", empty(&[0])),
            echo("rows of none", empty(&[2, 0, 3])),
        ]
    };
    elements().into_iter().flat_map(of_type).collect()
}

fn rows(count: usize) -> Tensor {
    let elements: Vec<f32> = (0..2 * count).map(|at| at as f32 / 4.0).collect();
    tensor(&[count, 2], &elements)
}

fn pair() -> Vec<Input> {
    vec![input("a", rows(3)), input("b", tensor(&[3], &[7i64, 8, 9]))]
}

fn shapes() -> Vec<Case> {
    let picture = tensor(&[1, 2, 4, 3], &(0..24u8).collect::<Vec<_>>());
    let scalar = tensor(&[], &[1.5f32]);
    let mut turned = pair();
    turned.reverse();
    let both = [("a_out", rows(3)), ("b_out", tensor(&[3], &[7i64, 8, 9]))];
    vec![
        answered(
            "a scalar",
            Request::to("fp32", vec![input("x", scalar.clone())]),
            &[("x_out", scalar)],
        ),
        answered(
            "one row",
            Request::to("rows", vec![input("x", rows(1))]),
            &[("x_out", rows(1))],
        ),
        answered(
            "five rows",
            Request::to("rows", vec![input("x", rows(5))]),
            &[("x_out", rows(5))],
        ),
        answered(
            "three dimensions that vary",
            Request::to("picture", vec![input("x", picture.clone())]),
            &[("x_out", picture)],
        ),
        answered("two inputs", Request::to("pair", pair()), &both),
        answered(
            "two inputs the other way round",
            Request::to("pair", turned),
            &both,
        ),
        answered(
            "a version",
            Request {
                version: "2",
                ..Request::to("two", vec![input("x", rows(1))])
            },
            &[("x_out", rows(1))],
        ),
    ]
}

fn outputs() -> Vec<Case> {
    let (a, b) = (rows(3), tensor(&[3], &[7i64, 8, 9]));
    let scores = || {
        let scores = tensor(&[2, 3], &[0.25f32, 0.5, 0.25, -1.0, 3.0, f32::NAN]);
        Request::to("scores", vec![input("x", scores)])
    };
    let fixed = || {
        Request::to(
            "fixed",
            vec![input("x", tensor(&[1, 4], &[1f32, 4.0, 2.0, 3.0]))],
        )
    };
    let columns = Request::to("columns", vec![input("x", tensor(&[1, 2], &[0.25, 0.75]))]);
    vec![
        answered(
            "one of two outputs",
            Request::to("pair", pair()).wanting(&["b_out"]),
            &[("b_out", b.clone())],
        ),
        answered(
            "outputs in the order in which they are asked for",
            Request::to("pair", pair()).wanting(&["b_out", "a_out"]),
            &[("b_out", b), ("a_out", a)],
        ),
        answered(
            "the two best classes of each row, with labels",
            scores().classified("x_out", Parameter::Int(2)),
            &[(
                "x_out",
                strings(
                    &[2, 2],
                    &[
                        b"0.500000:1:versicolor",
                        b"0.250000:0:setosa",
                        b"3.000000:1:versicolor",
                        b"-1.000000:0:setosa",
                    ],
                ),
            )],
        ),
        answered(
            "more classes than there are",
            scores().classified("x_out", Parameter::Uint(1000)),
            &[(
                "x_out",
                strings(
                    &[2, 3],
                    &[
                        b"0.500000:1:versicolor",
                        b"0.250000:0:setosa",
                        b"0.250000:2:virginica",
                        b"3.000000:1:versicolor",
                        b"-1.000000:0:setosa",
                        b"nan:2:virginica",
                    ],
                ),
            )],
        ),
        answered(
            "classes without rows",
            fixed().classified("x_out", Parameter::Int(2)),
            &[("x_out", strings(&[2], &[b"4.000000:1", b"3.000000:3"]))],
        ),
        answered(
            "classes that are named by their columns",
            columns.classified("x_out", Parameter::Int(1)),
            &[("x_out", strings(&[1, 1], &[b"0.750000:1:yes"]))],
        ),
        answered(
            "classes of whole numbers",
            Request::to("pair", pair()).classified("b_out", Parameter::Int(1)),
            &[("b_out", strings(&[3, 1], &[b"7:0", b"8:0", b"9:0"]))],
        ),
        answered(
            "no classes is no classification",
            Request::to("pair", pair()).classified("b_out", Parameter::Int(0)),
            &[("b_out", tensor(&[3], &[7i64, 8, 9]))],
        ),
    ]
}

fn parameters() -> Vec<Case> {
    let request = || Request::to("rows", vec![input("x", rows(1))]);
    let passes = |name: &str, request: Request| answered(name, request, &[("x_out", rows(1))]);
    vec![
        passes(
            "an id",
            Request {
                id: "žlutý \"7\"",
                ..request()
            },
        ),
        passes(
            "a timeout as int",
            request().with("timeout", Parameter::Int(10_000_000)),
        ),
        passes(
            "a timeout as uint",
            request().with("timeout", Parameter::Uint(10_000_000)),
        ),
        passes("no timeout", request().with("timeout", Parameter::Int(0))),
        passes("priority", request().with("priority", Parameter::Uint(3))),
        passes(
            "a sequence of whole number",
            request()
                .with("sequence_id", Parameter::Int(5))
                .with("sequence_start", Parameter::Bool(true))
                .with("sequence_end", Parameter::Bool(true)),
        ),
        passes(
            "a sequence of text",
            request().with("sequence_id", Parameter::Text("s")),
        ),
        passes(
            "what nobody knows",
            request().with("content_type", Parameter::Text("np")),
        ),
        refused(
            "a timeout that is not a number",
            request().with("timeout", Parameter::Text("1")),
            InvalidArgument,
            "parameter 'timeout': expected a whole number of microseconds, got '1'",
        ),
        refused(
            "a timeout below zero",
            request().with("timeout", Parameter::Int(-1)),
            InvalidArgument,
            "parameter 'timeout': expected a whole number of microseconds, got -1",
        ),
        refused(
            "headers as a parameter",
            request().with("headers", Parameter::Text("x: y")),
            InvalidArgument,
            "parameter 'headers' is not supported; send them as the request's own headers",
        ),
        refused(
            "classes that are no number",
            request().classified("x_out", Parameter::Bool(true)),
            InvalidArgument,
            "parameter 'classification': expected a whole number of classes, got true",
        ),
        refused(
            "an output in shared memory",
            Request {
                outputs: vec![super::Output {
                    name: "x_out",
                    parameters: vec![("shared_memory_region", Parameter::Text("r"))],
                }],
                ..request()
            },
            InvalidArgument,
            "parameter 'shared_memory_region': shared memory is not supported; send the tensor in the request",
        ),
    ]
}

fn refusals() -> Vec<Case> {
    let to_rows = |x: Input| Request::to("rows", vec![x]);
    let stated = |datatype: &'static str, shape: &[i64], data: Tensor| {
        to_rows(Input {
            datatype,
            shape: shape.to_vec(),
            ..input("x", data)
        })
    };
    let refused = |name: &str, request: Request, says: &'static str| {
        refused(name, request, InvalidArgument, says)
    };
    let mut twice = pair();
    twice[1] = twice[0].clone();
    let mut uneven = pair();
    uneven[1] = input("b", tensor(&[2], &[7i64, 8]));
    let text = strings(&[1], &[b"a"]);
    vec![
        refused(
            "an unknown input",
            to_rows(input("y", rows(1))),
            "unknown input 'y'; the model's inputs are 'x'",
        ),
        refused(
            "a missing input",
            Request::to("pair", pair()[..1].to_vec()),
            "input 'b' is missing; the model's inputs are 'a', 'b'",
        ),
        refused(
            "no input",
            Request::to("rows", vec![]),
            "input 'x' is missing; the model's inputs are 'x'",
        ),
        refused(
            "an input twice",
            Request::to("pair", twice),
            "input 'a' is given twice",
        ),
        refused(
            "an unknown data type",
            stated("FLOAT", &[1, 2], rows(1)),
            "unknown datatype 'FLOAT'; valid ones are BOOL,",
        ),
        refused(
            "another data type",
            to_rows(input("x", tensor(&[1, 2], &[1i32, 2]))),
            "input 'x': expected datatype FP32, got INT32",
        ),
        refused(
            "another rank",
            to_rows(input("x", tensor(&[2], &[1f32, 2.0]))),
            "input 'x': expected shape [-1,2], got [2]",
        ),
        refused(
            "another fixed dimension",
            to_rows(input("x", tensor(&[1, 3], &[1f32, 2.0, 3.0]))),
            "input 'x': expected shape [-1,2], got [1,3]",
        ),
        refused(
            "dimensions of one name that differ",
            Request::to("pair", uneven),
            "input 'b': dimension 'n' is 2 here and 3 in another input; they must be equal",
        ),
        refused(
            "a negative dimension",
            stated("FP32", &[-1, 2], rows(1)),
            "input 'x': a shape has no negative dimensions, got [-1,2]",
        ),
        refused(
            "too many dimensions",
            stated("FP32", &[1; 65], rows(1)),
            "input 'x': a shape has at most 64 dimensions, got 65",
        ),
        refused(
            "too few data",
            stated("FP32", &[2, 2], rows(1)),
            "input 'x': ",
        ),
        refused(
            "too many data",
            stated("FP32", &[1, 2], rows(2)),
            "input 'x': ",
        ),
        refused(
            "an unknown output",
            to_rows(input("x", rows(1))).wanting(&["y"]),
            "unknown output 'y'; the model's outputs are 'x_out'",
        ),
        refused(
            "an output twice",
            to_rows(input("x", rows(1))).wanting(&["x_out", "x_out"]),
            "output 'x_out' is asked for twice",
        ),
        refused(
            "classes of strings",
            Request::to("bytes", vec![input("x", text)]).classified("x_out", Parameter::Int(1)),
            "output 'x_out': classification needs numbers, and it is BYTES",
        ),
        Case {
            expected: Expected::Error(TooLarge, "input 'x'"),
            ..refused("too many elements", to_rows(input("x", rows(33))), "")
        },
        Case {
            expected: Expected::Error(
                TooLarge,
                "input 'x': shape [4294967296,4294967296] has more elements than can be addressed",
            ),
            ..refused(
                "a shape that overflows",
                stated("FP32", &[1 << 32, 1 << 32], rows(1)),
                "",
            )
        },
        Case {
            expected: Expected::Error(
                TooLarge,
                "the request has 9 rows and the model's queue holds at most 8; send fewer at once",
            ),
            ..refused("more rows than the queue", to_rows(input("x", rows(9))), "")
        },
    ]
}

fn failures() -> Vec<Case> {
    let moody = |first: i64| Request::to("moody", vec![input("x", tensor(&[1], &[first]))]);
    let any = || vec![input("x", rows(1))];
    let generic =
        "the model failed while running; the server's log has the cause under this request id";
    vec![
        refused(
            "an unknown model",
            Request::to("nothing", any()),
            NotFound,
            "nothing",
        ),
        refused(
            "an unknown version",
            Request {
                version: "9",
                ..Request::to("rows", any())
            },
            NotFound,
            "9",
        ),
        refused("a model that fails", moody(3), Internal, generic),
        refused("a model that panics", moody(2), Internal, generic),
        refused(
            "a deadline that passes",
            moody(1).with("timeout", Parameter::Int(5_000)),
            DeadlineExceeded,
            "",
        ),
    ]
}

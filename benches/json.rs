//! How many bytes of JSON does the codec read and write in a second, against a tree of `serde_json::Value`?
//!
//! Reading: both sides end with the same typed tensor. The peer parses the body into a `Value` and copies the
//! elements out of it, which is what a handler does that takes `Json<Value>`. Writing: both begin with the same
//! tensors. The peer builds a `Value` and writes that; it knows no 32-bit floats, so it writes them with the digits
//! of doubles. The rate of both is counted in the bytes of the codec's own answer.
//!
//! The image has 3x224x224 elements, normalised as is usual; "long digits" is the same image as Python writes it,
//! where a 32-bit float becomes a double first. The allocator is the binary's.
//!
//! `cargo bench --bench json`

mod support;
#[path = "support/tree.rs"]
mod tree;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onnxd::oip::request::decode;
use onnxd::oip::response::{Answer, ModelRef, encode};
use onnxd::oip::{NanForm, Style};
use onnxd::tensor::dtype::DataType;
use onnxd::tensor::shape::Shape;
use onnxd::tensor::signature::{Dim, Signature, TensorSpec};
use onnxd::tensor::value::{NamedTensor, Tensor};
use serde_json::{Value, json};
use support::{iris_rows, json_list};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const IMAGE: [usize; 4] = [1, 3, 224, 224];
const STRINGS: usize = 1_000;
/// The name of the models' only input.
const NAME: &str = "input";

/// A request body, the model that it is for, and how the peer gets the tensor out of the tree.
struct Body {
    name: &'static str,
    text: String,
    signature: Signature,
    extract: fn(&Value) -> Option<Tensor>,
}

fn read(criterion: &mut Criterion) {
    let limits = support::limits();
    let floats = |dims: &[usize]| signature(DataType::Fp32, dims);
    let body = |name, text, signature, extract| Body {
        name,
        text,
        signature,
        extract,
    };
    let long_digits = |at| f64::from(pixel(at));
    let bodies = [
        body(
            "iris, 1 row",
            iris_rows(1),
            floats(&[4]),
            tree::rows as fn(&_) -> _,
        ),
        body(
            "iris, 1,000 rows",
            iris_rows(1_000),
            floats(&[4]),
            tree::rows,
        ),
        body(
            "image",
            protocol("FP32", &IMAGE, pixel),
            floats(&IMAGE[1..]),
            tree::numbers,
        ),
        body(
            "image, long digits",
            protocol("FP32", &IMAGE, long_digits),
            floats(&IMAGE[1..]),
            tree::numbers,
        ),
        body(
            "strings",
            protocol("BYTES", &[STRINGS], |at| json!(sentence(at))),
            signature(DataType::Bytes, &[]),
            tree::strings,
        ),
    ];
    let mut group = criterion.benchmark_group("read");
    for Body {
        name,
        text,
        signature,
        extract,
    } in &bodies
    {
        let codec = || {
            let decoded = decode(text.as_bytes(), signature, &limits);
            decoded.expect("the body is valid").inputs.remove(0).tensor
        };
        let peer = || {
            let tree = serde_json::from_slice(text.as_bytes()).expect("the body is JSON");
            extract(&tree).expect("the body is valid")
        };
        assert_eq!(codec(), peer(), "both must read the same from {name}");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(format!("{name}/codec"), |bencher| bencher.iter(codec));
        group.bench_function(format!("{name}/Value"), |bencher| bencher.iter(peer));
    }
}

fn write(criterion: &mut Criterion) {
    let image = (0..IMAGE.iter().product()).map(pixel).collect();
    let image = Tensor::from_vec(shape(&IMAGE), image);
    let strings = Tensor::from_strings(shape(&[STRINGS]), (0..STRINGS).map(sentence));
    let cases = [
        ("iris, 1 row", Style::Rows, classes(1)),
        ("iris, 1,000 rows", Style::Rows, classes(1_000)),
        ("image", Style::Protocol, vec![named("image", image)]),
        ("strings", Style::Protocol, vec![named("text", strings)]),
    ];
    let mut group = criterion.benchmark_group("write");
    for (name, style, outputs) in &cases {
        let codec = || {
            let answer = Answer {
                model: Some(ModelRef {
                    name: "model",
                    version: "1",
                }),
                id: None,
                signature: &Signature::default(),
                outputs,
            };
            encode(&answer, *style, NanForm::Null).expect("every output has rows")
        };
        let peer =
            || serde_json::to_vec(&tree::answer(*style, outputs)).expect("a tree can be written");
        assert_eq!(
            tree::leaves(&codec()),
            tree::leaves(&peer()),
            "both must write the same for {name}"
        );
        group.throughput(Throughput::Bytes(codec().len() as u64));
        group.bench_function(format!("{name}/codec"), |bencher| bencher.iter(codec));
        group.bench_function(format!("{name}/Value"), |bencher| bencher.iter(peer));
    }
}

/// The normalised value of a made-up pixel.
fn pixel(at: usize) -> f32 {
    ((at * 7919 % 256) as f32 / 255.0 - 0.485) / 0.229
}

/// Text of some length; every tenth needs an escape, every seventh more than ASCII.
fn sentence(at: usize) -> String {
    let escaped = if at.is_multiple_of(10) {
        "\"quoted\"\n"
    } else {
        "plain"
    };
    let accent = if at.is_multiple_of(7) {
        "žluťoučký"
    } else {
        "yellow"
    };
    format!("sentence {at}: the {escaped} {accent} horse drank from the well and went on its way")
}

fn protocol<T: ToString>(datatype: &str, dims: &[usize], item: impl Fn(usize) -> T) -> String {
    let (name, shape) = (NAME, shape(dims));
    let data = json_list(shape.elements(), item);
    format!(
        r#"{{"inputs":[{{"name":"{name}","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}"#
    )
}

fn signature(dtype: DataType, row: &[usize]) -> Signature {
    let dims = [Dim::Dynamic(None)]
        .into_iter()
        .chain(row.iter().map(|&length| Dim::Fixed(length)));
    let input = TensorSpec {
        name: NAME.to_owned(),
        dtype,
        dims: Some(dims.collect()),
        columns: None,
    };
    Signature {
        inputs: vec![input],
        outputs: Vec::new(),
    }
}

fn shape(dims: &[usize]) -> Shape {
    Shape::new(dims.to_vec()).expect("a small shape")
}

fn named(name: &str, tensor: onnxd::error::Result<Tensor>) -> NamedTensor {
    NamedTensor {
        name: name.to_owned(),
        tensor: tensor.expect("as many elements as the shape has"),
    }
}

/// What the bundled iris models answer.
fn classes(rows: usize) -> Vec<NamedTensor> {
    let labels = (0..rows).map(|row| row as i64 % 3).collect();
    let probabilities = (0..3 * rows).map(|at| (at % 97) as f32 / 96.0).collect();
    let names = (0..rows).map(|row| ["setosa", "versicolor", "virginica"][row % 3]);
    vec![
        named("label", Tensor::from_vec::<i64>(shape(&[rows]), labels)),
        named(
            "probabilities",
            Tensor::from_vec::<f32>(shape(&[rows, 3]), probabilities),
        ),
        named("label_name", Tensor::from_strings(shape(&[rows]), names)),
    ]
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = settings(); targets = read, write }
criterion_main!(benches);

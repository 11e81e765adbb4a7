//! What does it cost to bring a picture to a model: as JSON, as raw bytes, and beside a server that only copies them?
//!
//! The picture is an FP32 tensor of 1×3×224×224, 602,112 bytes. The model cuts three numbers out of it, so that the
//! way there is what is compared. The peer is an axum handler that takes the binary request's very bytes, copies them
//! and says how many there are. gRPC has the same bytes in `raw_input_contents`; its client is hyper's, which sends a
//! message that was encoded beforehand. The real binary and the peer run as processes of their own on the same cores; one
//! keep-alive connection asks each in turn, in short rounds, so that what slows the machine slows all. The goal: a
//! binary request takes at most 1.3 times as long as the peer's.
//!
//! `cargo bench --bench payload`

#[path = "support/grpc.rs"]
mod grpc;
#[path = "../tests/it/support/protobuf.rs"]
#[expect(dead_code, reason = "it also reads, which only tests do")]
mod protobuf;
mod support;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use protobuf::{Field, Value};
use support::{Client, Process, free_address, json_list, median};

/// The binary's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PICTURE: [u64; 4] = [1, 3, 224, 224];
const ROUNDS: usize = 41;
const TURN: Duration = Duration::from_millis(200);
const COPY: &str = "--copy";

fn main() {
    match std::env::args().any(|argument| argument == COPY) {
        true => copy(),
        false => compare(),
    }
}

struct Contender {
    name: &'static str,
    /// How many bytes a request has.
    bytes: usize,
    /// Sends a request and reads the answer, which must be good.
    ask: Box<dyn FnMut()>,
    /// Seconds a request, the median of each round.
    seconds: Vec<f64>,
}

impl Contender {
    fn new(name: &'static str, server: &Process, request: Vec<u8>) -> Contender {
        let mut client = Client::connect(server.address);
        Contender {
            name,
            bytes: request.len(),
            ask: Box::new(move || assert_eq!(client.send(&request), 200, "{name}")),
            seconds: Vec::new(),
        }
    }

    fn grpc(name: &'static str, address: SocketAddr) -> Contender {
        let mut client = grpc::Client::connect(address);
        let message = grpc::message(&PICTURE, raw_pixels());
        Contender {
            name,
            bytes: message.len(),
            ask: Box::new(move || assert_eq!(client.send(&message), "0", "{name}")),
            seconds: Vec::new(),
        }
    }

    fn turn(&mut self) {
        let (began, mut seconds) = (Instant::now(), Vec::new());
        while began.elapsed() < TURN {
            let asked = Instant::now();
            (self.ask)();
            seconds.push(asked.elapsed().as_secs_f64());
        }
        self.seconds.push(median(seconds));
    }
}

fn compare() {
    let peer = Process::own(COPY);
    let grpc = free_address();
    let port = grpc.port().to_string();
    let onnxd = Process::onnxd_with(&models(), &[("ONNXD_SERVER__GRPC_PORT", &port)]);
    let path = "/v2/models/picture/infer";
    let mut contenders = [
        Contender::new("axum, a copy of the bytes", &peer, binary("/")),
        Contender::new("onnxd, binary", &onnxd, binary(path)),
        Contender::new("onnxd, binary in and out", &onnxd, binary_answer(path)),
        Contender::new("onnxd, the body alone", &onnxd, raw(path)),
        Contender::grpc("onnxd, gRPC", grpc),
        Contender::new("onnxd, JSON", &onnxd, json(path)),
    ];
    // The first rounds teach the server how long the model takes.
    for _ in 0..3 {
        contenders.iter_mut().for_each(Contender::turn);
    }
    contenders
        .iter_mut()
        .for_each(|contender| contender.seconds.clear());
    for _ in 0..ROUNDS {
        contenders.iter_mut().for_each(Contender::turn);
    }
    println!("| a picture of 1×3×224×224 | bytes | µs | of the copy |");
    println!("| --- | ---: | ---: | ---: |");
    for Contender {
        name,
        bytes,
        seconds,
        ..
    } in &contenders
    {
        let ratios = seconds.iter().zip(&contenders[0].seconds);
        let ratio = median(ratios.map(|(own, copy)| own / copy).collect());
        let micros = 1e6 * median(seconds.clone());
        println!("| {name} | {bytes} | {micros:.0} | {ratio:.2} |");
    }
}

fn pixels() -> Vec<f32> {
    let count = PICTURE.iter().product::<u64>() as usize;
    let pixel = |at: usize| ((at * 7919 % 256) as f32 / 255.0 - 0.485) / 0.229;
    (0..count).map(pixel).collect()
}

fn raw_pixels() -> Vec<u8> {
    pixels()
        .iter()
        .flat_map(|pixel| pixel.to_le_bytes())
        .collect()
}

const X: &str = r#""name":"x","datatype":"FP32","shape":[1,3,224,224]"#;

fn binary(path: &str) -> Vec<u8> {
    with_raw(path, "")
}

fn binary_answer(path: &str) -> Vec<u8> {
    with_raw(path, r#","parameters":{"binary_data_output":true}"#)
}

fn with_raw(path: &str, rest: &str) -> Vec<u8> {
    let raw = raw_pixels();
    let size = raw.len();
    let head =
        format!(r#"{{"inputs":[{{{X},"parameters":{{"binary_data_size":{size}}}}}]{rest}}}"#);
    request(path, Some(head.len()), &[head.as_bytes(), &raw].concat())
}

fn raw(path: &str) -> Vec<u8> {
    request(path, Some(0), &raw_pixels())
}

fn json(path: &str) -> Vec<u8> {
    let pixels = pixels();
    let data = json_list(pixels.len(), |at| pixels[at]);
    let body = format!(r#"{{"inputs":[{{{X},"data":{data}}}]}}"#);
    request(path, None, body.as_bytes())
}

fn request(path: &str, json_length: Option<usize>, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: {length}\r\n");
    if let Some(json_length) = json_length {
        let header = write!(head, "inference-header-content-length: {json_length}\r\n");
        header.expect("memory takes it");
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// A folder with the model `picture`.
fn models() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("payload");
    let version = folder.join("picture/1");
    std::fs::create_dir_all(&version).expect("the target folder is writable");
    std::fs::write(version.join("model.onnx"), model()).expect("the target folder is writable");
    folder
}

/// `y = x[:, :, 0:1, 0:1]`, in the fields of ONNX's messages.
fn model() -> Vec<u8> {
    let list = |name: &str, numbers: [u64; 2]| {
        let numbers = numbers.map(|value| number(8, value));
        let fields = [&[bytes(1, name)], &numbers[..], &[number(20, 7)]].concat();
        message(5, &fields)
    };
    let tensor = |field, name: &str, dims: [u64; 4]| {
        let dims = dims.map(|dim| message(1, &[number(1, dim)]));
        let fp32 = message(1, &[number(1, 1), message(2, &dims)]);
        message(field, &[bytes(1, name), message(2, &[fp32])])
    };
    let slice = [
        bytes(1, "x"),
        bytes(2, "y"),
        bytes(4, "Slice"),
        list("axes", [2, 3]),
        list("starts", [0, 0]),
        list("ends", [1, 1]),
    ];
    let graph = [
        message(1, &slice),
        bytes(2, "graph"),
        tensor(11, "x", PICTURE),
        tensor(12, "y", [1, 3, 1, 1]),
    ];
    let opset = message(8, &[bytes(1, ""), number(2, 9)]);
    Field::write_all(&[number(1, 8), opset, message(7, &graph)])
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

#[tokio::main]
async fn copy() {
    let handler = |body: Bytes| async move {
        let copy = std::hint::black_box(body.to_vec());
        copy.len().to_string()
    };
    let router = Router::new().route("/", post(handler));
    serve(router).await;
}

async fn serve(router: Router) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("loopback has a free port");
    let address = listener.local_addr();
    println!("{}", address.expect("a bound socket has an address"));
    loop {
        let (stream, _) = listener
            .accept()
            .await
            .expect("loopback connections are accepted");
        stream
            .set_nodelay(true)
            .expect("a fresh socket takes the option");
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

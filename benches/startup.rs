//! How much longer does the first answer take when several engines are examined at the start?
//!
//! The release binary with the bundled models, from its start to the first answer of `/predict`, with tract alone, with
//! all engines but ONNX Runtime, and with all that this machine has. The three take turns; what is told is the median of
//! the times and of the ratios to tract alone in the same round.
//!
//! `cargo bench --bench startup`; ORT_DYLIB_PATH names ONNX Runtime.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 21;
const PAUSE: Duration = Duration::from_micros(500);
const PATIENCE: Duration = Duration::from_secs(30);
const BODY: &str = r#"{"instances": [[5.1, 3.5, 1.4, 0.2]]}"#;

/// What is compared, the one that the others are held to first.
const SYSTEMS: [(&str, &[(&str, &str)]); 3] = [
    ("tract", &[("ONNXD_INFERENCE__ENGINE", "tract")]),
    ("tract, rten", &[("ONNXD_INFERENCE__ONNXRUNTIME", "off")]),
    ("tract, rten, onnxruntime", &[]),
];

fn main() {
    if std::env::var_os("ORT_DYLIB_PATH").is_none() {
        println!("ORT_DYLIB_PATH is not set: the third has what is in the usual places\n");
    }
    let mut times = [const { Vec::new() }; SYSTEMS.len()];
    for _ in 0..ROUNDS {
        for ((_, settings), times) in SYSTEMS.iter().zip(&mut times) {
            times.push(first_answer(settings).as_secs_f64());
        }
    }
    println!("| engines | first answer, ms | ratio |");
    println!("| --- | ---: | ---: |");
    for ((name, _), system) in SYSTEMS.iter().zip(&times) {
        let ratios = system
            .iter()
            .zip(&times[0])
            .map(|(time, alone)| time / alone);
        let (time, ratio) = (median(system.clone()) * 1e3, median(ratios.collect()));
        println!("| {name} | {time:.1} | {ratio:.2} |");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn first_answer(settings: &[(&str, &str)]) -> Duration {
    // Free when it was asked for, which is good enough on a quiet machine.
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let began = Instant::now();
    let mut server = Ended(start(address, settings));
    while !answers(address) {
        assert!(began.elapsed() < PATIENCE, "the server never answers");
        assert!(
            server.0.try_wait().is_ok_and(|ended| ended.is_none()),
            "the server ended"
        );
        thread::sleep(PAUSE);
    }
    began.elapsed()
}

fn start(address: SocketAddr, settings: &[(&str, &str)]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_onnxd"))
        .args([
            "--address",
            "127.0.0.1",
            "--port",
            &address.port().to_string(),
        ])
        .env("ONNXD_SERVER__GRPC_PORT", "off")
        .envs(settings.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts")
}

/// Whether a request to the default model is answered.
fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        let length = BODY.len();
        write!(
            stream,
            "POST /predict HTTP/1.1\r\nHost: onnxd\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{BODY}"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}

/// Ends the process on drop.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

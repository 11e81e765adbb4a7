//! Processes and load for the benches that measure the real binary from outside.

#![allow(dead_code, reason = "each bench uses its own part")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A row of the iris data set.
pub const IRIS_BODY: &str = r#"{"instances": [[5.1,3.5,1.4,0.2]]}"#;

/// A process under test; it is asked to stop when it is dropped.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
}

impl Process {
    /// Starts onnxd on the bundled models, its log written to a file, and waits until it is ready.
    pub fn onnxd(settings: &[(&str, &str)]) -> Process {
        let address = free_address();
        let log = File::create(scratch("onnxd.log")).expect("the target folder is writable");
        let child = Command::new(env!("CARGO_BIN_EXE_onnxd"))
            .args([
                "serve",
                "--address",
                "127.0.0.1",
                "--port",
                &address.port().to_string(),
                "--models",
                "models",
            ])
            .env("ONNXD_SERVER__DRAIN_DELAY_MS", "0")
            .envs(settings.iter().copied())
            .stdout(log)
            .spawn()
            .expect("the binary under test starts");
        let process = Process { child, address };
        process.wait_until_ready();
        process
    }

    /// Starts this bench's own executable with `role` as its argument; it prints its address first.
    pub fn own(role: &str) -> Process {
        let mut child =
            Command::new(std::env::current_exe().expect("a running program has a path"))
                .arg(role)
                .stdout(Stdio::piped())
                .spawn()
                .expect("this bench starts once more");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("standard output is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the child tells its address");
        Process {
            child,
            address: line.trim().parse().expect("an address"),
        }
    }

    /// The resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let metrics = get(self.address, "/metrics");
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
        line.expect("the metric is there")
            .parse::<f64>()
            .expect("a number") as u64
    }

    fn wait_until_ready(&self) {
        let give_up = Instant::now() + Duration::from_secs(20);
        while !get_or_empty(self.address, "/health/ready").contains("200 OK") {
            assert!(Instant::now() < give_up, "onnxd did not become ready");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A bench has nothing to save: the end need not be graceful.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one run of wrk printed.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub requests_per_second: f64,
    pub errors: u64,
}

/// Loads `url` with keep-alive connections from another process.
pub fn wrk(url: &str, body: Option<&str>, connections: usize, time: Duration) -> Load {
    let script = scratch("post.lua");
    let text = body
        .map(|body| format!("wrk.method = 'POST'\nwrk.body = '{body}'\n"))
        .unwrap_or_default();
    std::fs::write(&script, text).expect("the target folder is writable");
    let output = Command::new("wrk")
        .args([
            "-t1",
            &format!("-c{connections}"),
            &format!("-d{}s", time.as_secs()),
            "-s",
        ])
        .arg(&script)
        .arg(url)
        .output()
        .expect("wrk is installed (Debian package wrk)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(name).map(str::to_owned))
    };
    let errors = field("Non-2xx or 3xx responses:")
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0);
    let requests_per_second = field("Requests/sec:").and_then(|rate| rate.trim().parse().ok());
    Load {
        requests_per_second: requests_per_second.unwrap_or_else(|| panic!("wrk failed: {text}")),
        errors,
    }
}

/// The middle value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The whole answer to a GET request.
pub fn get(address: SocketAddr, path: &str) -> String {
    let answer = get_or_empty(address, path);
    assert!(!answer.is_empty(), "{address} does not answer");
    answer
}

fn get_or_empty(address: SocketAddr, path: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
        if stream.write_all(request.as_bytes()).is_ok() {
            let _ = stream.read_to_string(&mut answer);
        }
    }
    answer
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener
        .local_addr()
        .expect("a bound socket has an address")
}

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

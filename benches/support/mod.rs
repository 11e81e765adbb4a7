//! Bodies, processes and load that several benches share.

#![expect(dead_code, reason = "each bench uses its own part")]

pub mod onnx;
pub mod open_loop;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use onnxd::config::load::Sources;
use onnxd::config::{Config, Limits};

/// The limits on a request, as they are unless configured.
pub fn limits() -> Limits {
    let config = Config::load(&Sources::default());
    config.expect("the defaults are valid").limits
}

/// A row of the iris data set.
pub const IRIS_BODY: &str = r#"{"instances": [[5.1,3.5,1.4,0.2]]}"#;

/// A body in the rows style for the bundled iris models.
pub fn iris_rows(rows: usize) -> String {
    let number = |at: usize| format!("{:.1}", (at * 37 % 79 + 1) as f64 / 10.0);
    rows_body(rows, |row| json_list(4, |column| number(4 * row + column)))
}

/// A body in the rows style for the bundled digits models.
pub fn digits_rows(rows: usize) -> String {
    let line = |row: usize, line| json_list(8, |pixel| (row * 7 + line * 3 + pixel) % 17);
    rows_body(rows, |row| {
        format!("[{}]", json_list(8, |at| line(row, at)))
    })
}

fn rows_body(rows: usize, row: impl Fn(usize) -> String) -> String {
    format!("{{\"instances\":{}}}", json_list(rows, row))
}

/// A JSON list of `count` items that are JSON themselves.
pub fn json_list<T: ToString>(count: usize, item: impl Fn(usize) -> T) -> String {
    let items: Vec<_> = (0..count).map(|at| item(at).to_string()).collect();
    format!("[{}]", items.join(","))
}

/// So many were started.
static PROCESSES: AtomicUsize = AtomicUsize::new(0);

/// A process under test; it is asked to stop when it is dropped.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
}

impl Process {
    /// Starts onnxd on the bundled models, its log written to a file, and waits until it is ready.
    pub fn onnxd(settings: &[(&str, &str)]) -> Process {
        Process::onnxd_with(Path::new("models"), settings)
    }

    /// The same on the models of a folder.
    pub fn onnxd_with(models: &Path, settings: &[(&str, &str)]) -> Process {
        Process::start(Command::new(env!("CARGO_BIN_EXE_onnxd")), models, settings)
    }

    /// The same on some of the machine's CPUs.
    pub fn onnxd_on(cpus: &Cpus, models: &Path, settings: &[(&str, &str)]) -> Process {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &cpus.0, env!("CARGO_BIN_EXE_onnxd")]);
        Process::start(command, models, settings)
    }

    fn start(mut onnxd: Command, models: &Path, settings: &[(&str, &str)]) -> Process {
        let address = free_address();
        let log = scratch(&format!("onnxd-{}.log", PROCESSES.fetch_add(1, Relaxed)));
        let log = File::create(log).expect("the target folder is writable");
        let child = onnxd
            .args([
                "serve",
                "--address",
                "127.0.0.1",
                "--port",
                &address.port().to_string(),
                "--models",
            ])
            .arg(models)
            .env("ONNXD_SERVER__DRAIN_DELAY_MS", "0")
            .env("ONNXD_SERVER__GRPC_PORT", "off")
            .envs(settings.iter().copied())
            .stdout(log)
            .spawn()
            .expect("the binary under test starts");
        let process = Process { child, address };
        wait_until_ready(address);
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

    pub fn pid(&self) -> u32 {
        self.child.id()
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

    /// The CPU time that it and those of its own processes that have ended took.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("the process is there");
        // After the name, which may hold anything, come the state and numbers; Linux counts in hundredths.
        let (_, fields) = stat.rsplit_once(')').expect("the name is in parentheses");
        let times = fields.split_whitespace().skip(11).take(4);
        let ticks: f64 = times.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        ticks / 100.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A bench has nothing to save: the end need not be graceful.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Some of the machine's CPUs, as `taskset` takes them.
pub struct Cpus(String);

impl Cpus {
    /// One half for the load, the other for what is under it.
    pub fn halves() -> [Cpus; 2] {
        let all = std::thread::available_parallelism()
            .expect("Linux tells it")
            .get();
        assert!(all > 1, "the load needs a CPU of its own");
        let range = |first: usize, end: usize| Cpus(format!("{first}-{}", end - 1));
        [range(0, all / 2), range(all / 2, all)]
    }

    /// Lets all threads of this process run on these CPUs only.
    pub fn confine_this_process(&self) {
        let pid = std::process::id().to_string();
        let confined = Command::new("taskset")
            .args(["--all-tasks", "--pid", "--cpu-list", &self.0, &pid])
            .stdout(Stdio::null())
            .status();
        assert!(
            confined.is_ok_and(|status| status.success()),
            "taskset (util-linux) works here"
        );
    }
}

/// Waits until the server at `address` takes traffic.
pub fn wait_until_ready(address: SocketAddr) {
    let give_up = Instant::now() + Duration::from_secs(20);
    while !get_or_empty(address, "/health/ready").contains("200 OK") {
        assert!(Instant::now() < give_up, "onnxd did not become ready");
        pause(Duration::from_millis(10));
    }
}

/// Lets time pass between two looks, or until a request is due.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A whole request with a JSON body, ready to be sent.
pub fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// One keep-alive connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

impl Client {
    /// Connects; whatever takes longer than the server's own time limit fails.
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the server takes connections");
        let limit = Some(Duration::from_secs(60));
        stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(limit))
            .and_then(|()| stream.set_write_timeout(limit))
            .expect("a fresh socket takes the options");
        Client {
            stream: BufReader::new(stream),
            line: String::new(),
            body: Vec::new(),
        }
    }

    /// Sends a whole request, reads the whole answer, and returns its status.
    pub fn send(&mut self, request: &[u8]) -> u16 {
        let sent = self.stream.get_mut().write_all(request);
        sent.expect("the server takes the request");
        let status = self.header_line()[9..12].parse();
        let mut length = 0;
        loop {
            let line = self.header_line();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().expect("a length is a number");
            }
        }
        self.body.resize(length, 0);
        let read = self.stream.read_exact(&mut self.body);
        read.expect("the whole answer comes");
        status.expect("a status is a number")
    }

    fn header_line(&mut self) -> &str {
        self.line.clear();
        let read = self.stream.read_line(&mut self.line);
        read.expect("the server answers");
        let line = self.line.strip_suffix("\r\n");
        line.expect("the answer's head is whole")
    }
}

/// A load of the same request from several connections, each on a thread of its own.
pub struct LoadPlan<'a> {
    pub address: SocketAddr,
    pub request: &'a [u8],
    pub connections: usize,
    /// The time between two requests of one connection. Zero is a closed loop: each waits for the last answer only.
    pub interval: Duration,
    pub time: Duration,
}

/// How often each status was answered.
pub type Statuses = BTreeMap<u16, u64>;

impl LoadPlan<'_> {
    /// Sends until the time is up. A connection that is late sends at once, so that the schedule is kept on average.
    pub fn run(&self) -> Statuses {
        let start = Instant::now();
        let connection = |number: usize| {
            let offset = self
                .interval
                .mul_f64(number as f64 / self.connections as f64);
            let mut client = Client::connect(self.address);
            let (mut due, mut statuses) = (start + offset, Statuses::new());
            while due.max(Instant::now()) < start + self.time {
                pause(due.saturating_duration_since(Instant::now()));
                *statuses.entry(client.send(self.request)).or_default() += 1;
                due += self.interval;
            }
            statuses
        };
        let mut total = Statuses::new();
        std::thread::scope(|scope| {
            let start = |number| scope.spawn(move || connection(number));
            let threads: Vec<_> = (0..self.connections).map(start).collect();
            for thread in threads {
                for (status, count) in thread.join().expect("a connection was served") {
                    *total.entry(status).or_default() += count;
                }
            }
        });
        total
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

/// An address that nobody listens on now.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener
        .local_addr()
        .expect("a bound socket has an address")
}

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

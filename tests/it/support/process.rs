//! The real binary, in a working folder of its own and without the settings of whoever runs the tests.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use tempfile::TempDir;

use super::PATIENCE;

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The output of a command that must have succeeded.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.stdout
    }
}

/// `onnxd` with arguments.
pub struct Onnxd {
    folder: TempDir,
    command: Command,
}

impl Onnxd {
    pub fn new<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Onnxd {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_onnxd"));
        command
            .args(arguments)
            .current_dir(folder.path())
            .env_clear();
        Onnxd { folder, command }
    }

    pub fn with(mut self, variable: &str, value: &str) -> Onnxd {
        self.command.env(variable, value);
        self
    }

    /// Runs it under a limit, such as `-n 100` for open files.
    pub fn under_limit(mut self, limit: &str) -> Onnxd {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &format!("ulimit {limit}; exec \"$0\" \"$@\"")])
            .arg(self.command.get_program())
            .args(self.command.get_args())
            .current_dir(self.folder.path())
            .env_clear();
        self.command = command;
        self
    }

    /// Puts a file into the working folder.
    pub fn file(self, name: &str, contents: impl AsRef<[u8]>) -> Onnxd {
        let path = self.folder.path().join(name);
        let parent = path.parent().expect("a file has a folder");
        std::fs::create_dir_all(parent).expect("a temporary folder");
        std::fs::write(path, contents).expect("a temporary file");
        self
    }

    pub fn run(self) -> Finished {
        self.run_on("")
    }

    /// Runs to the end with this standard input.
    pub fn run_on(mut self, input: &str) -> Finished {
        let piped = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the binary under test starts");
        let mut stdin = child.stdin.take().expect("standard input is piped");
        // A command that does not read it may have ended already.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child
            .wait_with_output()
            .expect("the binary under test ends");
        let text = |bytes| String::from_utf8(bytes).expect("what it prints is text");
        Finished {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Starts a server on loopback and waits until it listens.
    pub fn serve(mut self) -> Daemon {
        self.command.args(["--address", "127.0.0.1", "--port", "0"]);
        self.command.args(["--grpc-port", "0"]);
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary under test starts");
        let stdout = child.stdout.take().expect("standard output is piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Read to the end in any case, so that the server never waits for us.
                let _ = sender.send(line);
            }
        });
        let mut daemon = Daemon {
            _folder: self.folder,
            child,
            lines,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            grpc_address: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin_address: None,
        };
        let listening = daemon.wait_for_line("listening");
        let address = |key: &str| {
            let address = listening[key].as_str()?;
            Some(address.parse().expect("an address"))
        };
        daemon.address = address("address").expect("it tells its address");
        daemon.grpc_address = address("grpc_address").expect("it tells its address");
        daemon.admin_address = address("admin_address");
        daemon
    }
}

/// A server process; ended hard if a test leaves it.
pub struct Daemon {
    pub address: SocketAddr,
    pub grpc_address: SocketAddr,
    pub admin_address: Option<SocketAddr>,
    _folder: TempDir,
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Daemon {
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is ours");
    }

    /// Bytes of memory that are resident.
    pub fn resident_bytes(&self) -> u64 {
        let statm = format!("/proc/{}/statm", self.child.id());
        let statm = std::fs::read_to_string(statm).expect("the process lives");
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        let pages: u64 = pages.expect("the second number is the resident pages");
        pages * rustix::param::page_size() as u64
    }

    /// The most bytes of memory that were ever resident.
    pub fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).expect("the process lives");
        let value = |line: &str| {
            line.strip_prefix(field)?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        };
        let kilobytes: Option<u64> = status.lines().find_map(value);
        kilobytes.expect("the kernel tells") << 10
    }

    /// How many file descriptors are open.
    pub fn open_files(&self) -> u64 {
        let folder = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(folder)
            .expect("the process lives")
            .count() as u64
    }

    /// Lets the process open no file from this number on.
    pub fn limit_open_files(&self, count: u64) {
        self.limit(Resource::Nofile, count);
    }

    /// Lets the process map so many bytes more.
    pub fn limit_further_memory(&self, bytes: u64) {
        self.limit(Resource::As, self.status_bytes("VmSize:") + bytes);
    }

    fn limit(&self, resource: Resource, most: u64) {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        let set = prlimit(Some(Pid::from_child(&self.child)), resource, limit);
        set.expect("the process is ours");
    }

    /// The next log line with this message.
    #[track_caller]
    pub fn wait_for_line(&self, message: &str) -> Value {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let rest = give_up.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(rest);
            let line = line.unwrap_or_else(|_| panic!("there was no line '{message}'"));
            let line: Value = serde_json::from_str(&line).expect("a log line is JSON");
            if line["message"] == message {
                return line;
            }
        }
    }

    /// Waits until the process has ended.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        super::eventually("the process ends", || {
            status = self.child.try_wait().expect("the process is ours");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! Examines a model in a process of its own before this one loads it.
//!
//! A hostile or broken file can make an engine run out of memory or stack, or never end; that ends the trial, and the
//! server goes on. When several engines are tried and the process is lost, each is tried alone, so that one engine's
//! failure costs the others nothing.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::agreement::Rules;
use super::agreement::verdict::{Finding, Standing, Verdict};
use crate::config::{Agreement, LibraryPath};
use crate::engine::Engines;
use crate::error::{Error, Result};
use crate::telemetry::process;

/// The hidden command of `onnxd` that examines a model and tells what came of it. It ends when its standard input does,
/// which this process holds open: a trial that hangs must not outlive the server.
pub const COMMAND: &str = "try-load";

/// Its exit code when the model does not load in the memory that it may take.
pub const OUT_OF_MEMORY: u8 = 3;

/// How much of the memory that is free a trial may take, in tenths.
const MEMORY_TENTHS: u64 = 8;

/// A model that takes more than this part of it is loaded alone.
const LARGE_SHARE: u64 = 8;

/// The longest report that is read.
const MOST_REPORT_BYTES: u64 = 4 << 20;

/// How often a trial that has said its word is looked at, until it has ended.
const PAUSE: Duration = Duration::from_millis(1);

/// Trials come one at a time, so that none takes what another was promised.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The right to take much memory, given back on drop.
pub type Turn = MutexGuard<'static, ()>;

/// Examines models with the program given.
#[derive(Debug, Clone)]
pub struct Trial {
    program: PathBuf,
    onnxruntime: LibraryPath,
}

/// What the process of a trial says at its end, as one JSON object.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub verdict: Verdict,
    pub peak_bytes: Option<u64>,
}

/// What a trial examines, and by what it goes.
#[derive(Clone)]
pub struct Candidate<'a> {
    pub path: &'a Path,
    pub engines: &'a Engines,
    pub rules: Rules,
    pub deadline: Instant,
}

/// How a trial ended.
#[derive(Debug)]
pub enum Tried {
    /// With a verdict; a model that takes much memory keeps its turn, until it is loaded here too.
    Judged(Verdict, Option<Turn>),
    /// Not by its deadline.
    TimedOut,
    /// Without a word: no process can be started, or the file cannot even be read, which will be told when it is here.
    Silent,
}

/// How one process of a trial ended.
enum Ended {
    Reported(Report),
    /// It was ended by what the model does to it.
    Lost(String),
    TimedOut,
    /// It had nothing to say, or could not be started.
    Silent,
}

impl Trial {
    /// Trials by this program, which is onnxd itself.
    pub fn new(program: PathBuf, onnxruntime: LibraryPath) -> Trial {
        Trial {
            program,
            onnxruntime,
        }
    }

    /// Waits until no other trial runs and no model that takes much memory is being loaded.
    pub fn turn(&self) -> Turn {
        ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Examines a model in a process of its own; fails when that process was ended by what the model does to it,
    /// whichever engine is tried.
    pub fn run(&self, turn: Turn, candidate: &Candidate<'_>) -> Result<Tried> {
        let memory = process::available_bytes().map(|bytes| bytes / 10 * MEMORY_TENTHS);
        let names = candidate.engines.names();
        let mut lost: Vec<Finding> = Vec::new();
        let mut ended = self.examine(candidate, &names, memory)?;
        if let (Ended::Lost(_), true) = (&ended, names.len() > 1) {
            // Which of them breaks the process is seen when each is alone.
            let mut sound = Vec::new();
            for name in names {
                match self.examine(candidate, &[name], memory)? {
                    Ended::Lost(reason) => lost.push(broken(name, reason)),
                    Ended::TimedOut => return Ok(Tried::TimedOut),
                    Ended::Reported(_) | Ended::Silent => sound.push(name),
                }
            }
            if !sound.is_empty() {
                ended = self.examine(candidate, &sound, memory)?;
            }
        }
        let Report {
            mut verdict,
            peak_bytes,
        } = match ended {
            Ended::Reported(report) => report,
            Ended::Lost(reason) => return Err(Error::unavailable(reason)),
            Ended::TimedOut => return Ok(Tried::TimedOut),
            Ended::Silent => return Ok(Tried::Silent),
        };
        verdict.findings.extend(lost);
        let is_large = peak_bytes
            .zip(memory)
            .is_some_and(|(peak, memory)| peak > memory / LARGE_SHARE);
        Ok(Tried::Judged(verdict, is_large.then_some(turn)))
    }

    /// Runs one process with these engines.
    fn examine(
        &self,
        candidate: &Candidate<'_>,
        engines: &[&str],
        memory: Option<u64>,
    ) -> Result<Ended> {
        let Rules {
            agreement,
            patience,
        } = candidate.rules;
        let mut command = Command::new(&self.program);
        command
            .arg(COMMAND)
            .arg(candidate.path)
            .args(["--engines", &engines.join(",")])
            .arg("--onnxruntime")
            .arg(self.onnxruntime.as_os_str())
            .args(["--patience-ms", &patience.as_millis().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if agreement == Agreement::Warn {
            command.arg("--warn");
        }
        if let Some(memory) = memory {
            command.args(["--memory", &memory.to_string()]);
        }
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                tracing::warn!(reason = %error, "models are loaded without a trial: no process can be started");
                return Ok(Ended::Silent);
            }
        };
        let lost =
            |error| Error::internal("a process that tries a model out was lost").with_source(error);
        let Some((status, told)) = wait(child, candidate.deadline).map_err(lost)? else {
            return Ok(Ended::TimedOut);
        };
        let there_is = memory.map(|bytes| format!(" ({} MiB)", bytes >> 20));
        let there_is = there_is.unwrap_or_default();
        Ok(match status.code() {
            // Not tried here, where it might get the memory and cost everybody theirs.
            Some(code) if code == i32::from(OUT_OF_MEMORY) => Ended::Lost(format!(
                "loading it takes more memory than there is{there_is}"
            )),
            Some(_) if told.is_empty() => Ended::Silent,
            Some(_) => Ended::Reported(serde_json::from_slice(&told).map_err(|error| {
                Error::internal("a process that tries a model out did not report")
                    .with_source(error)
            })?),
            None => Ended::Lost(format!(
                "loading it ended a process of its own ({status}): the file asks for more memory than there \
                 is{there_is}, or breaks the engine"
            )),
        })
    }
}

fn broken(engine: &str, reason: String) -> Finding {
    Finding::of_error(engine, Standing::Fails, &Error::unavailable(reason))
}

/// Waits for the child's end and what it has said by then; ends it past the deadline.
fn wait(mut child: Child, deadline: Instant) -> io::Result<Option<(ExitStatus, Vec<u8>)>> {
    let (say, heard) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        let read = move || {
            let mut told = Vec::new();
            let read = output.take(MOST_REPORT_BYTES).read_to_end(&mut told);
            // Past the deadline nobody listens.
            let _ = say.send(read.map(|_| told));
        };
        thread::Builder::new()
            .name("trial".to_owned())
            .spawn(read)?;
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let Ok(told) = heard.recv_timeout(left) else {
        return end(child);
    };
    let told = told?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some((status, told)));
        }
        if Instant::now() >= deadline {
            return end(child);
        }
        thread::sleep(PAUSE);
    }
}

fn end<T>(mut child: Child) -> io::Result<Option<T>> {
    child.kill()?;
    child.wait()?;
    Ok(None)
}

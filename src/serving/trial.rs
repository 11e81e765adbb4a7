//! Loads a model in a process of its own before this one does.
//!
//! A hostile or broken file can make an engine run out of memory or stack, or never end; that ends the trial, and the
//! server goes on. What merely fails there fails here again, with its reason in the log.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::telemetry::process;

/// The hidden command of `onnxd` that loads a model and tells by its end what came of it. It ends when its standard
/// input does, which this process holds open: a trial that hangs must not outlive the server.
pub const COMMAND: &str = "try-load";
/// The flag that tells it how many bytes it may allocate.
pub const MEMORY_FLAG: &str = "--memory";

/// Its exit code when the model does not load in that memory.
pub const OUT_OF_MEMORY: u8 = 3;

/// How much of the memory that is free a trial may take, in tenths.
const MEMORY_TENTHS: u64 = 8;

/// A model that takes more than this part of it is loaded alone.
const LARGE_SHARE: u64 = 8;

/// Trials come one at a time, so that none takes what another was promised.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The right to take much memory, given back on drop.
pub type Turn = MutexGuard<'static, ()>;

/// How often the trial is looked at; it often takes some milliseconds.
const PAUSE: Duration = Duration::from_millis(2);

/// Tries models out with the program given.
#[derive(Debug, Clone)]
pub struct Trial {
    program: PathBuf,
}

/// How a trial ended that did not end by itself in time.
#[derive(Debug)]
pub struct TimedOut;

impl Trial {
    /// Trials by this program, which is onnxd itself.
    pub fn new(program: PathBuf) -> Trial {
        Trial { program }
    }

    /// Waits until no other trial runs and no model that takes much memory is being loaded.
    pub fn turn(&self) -> Turn {
        ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads the model at `path` in a process of its own, until `deadline` at most; fails when that process was ended
    /// by what the model does to it. A model that takes much memory keeps its turn, until it is loaded here too.
    pub fn run(
        &self,
        turn: Turn,
        path: &Path,
        deadline: Instant,
    ) -> Result<Result<Option<Turn>, TimedOut>> {
        let mut command = Command::new(&self.program);
        command
            .arg(COMMAND)
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let memory = process::available_bytes().map(|bytes| bytes / 10 * MEMORY_TENTHS);
        if let Some(memory) = memory {
            command.arg(MEMORY_FLAG).arg(memory.to_string());
        }
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                tracing::warn!(reason = %error, "models are loaded without a trial: no process can be started");
                return Ok(Ok(None));
            }
        };
        let there_is = memory.map(|bytes| format!(" ({} MiB)", bytes >> 20));
        let there_is = there_is.unwrap_or_default();
        match wait(child, deadline) {
            // Not tried here, where it might get the memory and cost everybody theirs.
            Ok(Some((status, _))) if status.code() == Some(OUT_OF_MEMORY.into()) => {
                Err(Error::unavailable(format!(
                    "loading it takes more memory than there is{there_is}"
                )))
            }
            Ok(Some((status, told))) if status.code().is_some() => {
                let peak: Option<u64> = told.trim().parse().ok();
                let is_large = peak
                    .zip(memory)
                    .is_some_and(|(peak, memory)| peak > memory / LARGE_SHARE);
                Ok(Ok(is_large.then_some(turn)))
            }
            Ok(Some((status, _))) => Err(Error::unavailable(format!(
                "loading it ended a process of its own ({status}): the file asks for more memory than there \
                 is{there_is}, or breaks the engine"
            ))),
            Ok(None) => Ok(Err(TimedOut)),
            Err(error) => {
                Err(Error::internal("a process that tries a model out was lost").with_source(error))
            }
        }
    }
}

/// Waits for the child's end and what it has written by then, a line; ends it past the deadline.
fn wait(mut child: Child, deadline: Instant) -> io::Result<Option<(ExitStatus, String)>> {
    loop {
        if let Some(status) = child.try_wait()? {
            let mut told = String::new();
            if let Some(mut output) = child.stdout.take() {
                output.read_to_string(&mut told)?;
            }
            return Ok(Some((status, told)));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

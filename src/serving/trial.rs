//! Examines a model in a process of its own before this one loads it.
//!
//! A hostile or broken file can make an engine run out of memory or stack, or never end; that ends the trial, and the
//! server goes on. When several engines are tried and the process is lost, each is tried alone, so that one engine's
//! failure costs the others nothing. A process that is none the worse for a model examines the next one too.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::agreement::Rules;
use super::agreement::verdict::{Finding, Standing, Verdict};
use super::golden::GoldenFiles;
use super::memory::{Ledger, mib};
use crate::config::LibraryPath;
use crate::engine::Engines;
use crate::error::{Error, Result};
use crate::telemetry::process;

/// The hidden command of `onnxd` that takes one [`Job`] a line from its standard input and answers each with a
/// [`Report`]. It ends when its input does, which this process holds open: a trial that hangs must not outlive the
/// server. It ends as well at a job that it cannot read, since nobody would answer that one.
pub const COMMAND: &str = "try-load";

/// How much of the memory that is free a trial may take, in tenths.
const MEMORY_TENTHS: u64 = 8;

/// A model that takes more than this part of it is loaded alone.
const LARGE_SHARE: u64 = 8;

/// Of `signal(7)`.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;

/// The longest report that is read.
const MOST_REPORT_BYTES: u64 = 4 << 20;

/// How often a process that has closed its output is looked at, until it has ended.
const PAUSE: Duration = Duration::from_millis(1);

/// Trials come one at a time, so that none takes what another was promised; the process that did the last one waits
/// here.
static ONE_AT_A_TIME: Mutex<Option<Process>> = Mutex::new(None);

/// The right to take much memory, given back on drop.
pub struct Turn(MutexGuard<'static, Option<Process>>);

/// Examines models with the program given.
#[derive(Debug, Clone)]
pub struct Trial {
    program: PathBuf,
    onnxruntime: LibraryPath,
}

/// What a trial examines, and by what it goes.
#[derive(Clone)]
pub struct Candidate<'a> {
    pub path: &'a Path,
    pub engines: &'a Engines,
    pub rules: Rules,
    pub golden: &'a GoldenFiles,
    /// Says what may be taken.
    pub memory: &'a Ledger,
    pub deadline: Instant,
}

/// How a trial ended.
pub enum Tried {
    Judged(Judged),
    /// Not by its deadline.
    TimedOut,
    /// Without a word: no process can be started, or the file cannot even be read, which will be told when it is here.
    Silent,
}

/// With a verdict.
pub struct Judged {
    pub verdict: Verdict,
    /// How much memory it took, by all engines together.
    pub taken_bytes: Option<u64>,
    /// A model that takes much memory keeps its turn, until it is loaded here too.
    pub turn: Option<Turn>,
}

/// What a process is to examine.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    pub path: PathBuf,
    pub engines: Vec<String>,
    pub rules: Rules,
    #[serde(default)]
    pub golden: GoldenFiles,
    /// The bytes that it may allocate.
    pub memory: Option<u64>,
}

/// What it found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Nothing where the file cannot be read.
    pub verdict: Option<Verdict>,
    /// Whether memory was refused, and no engine serves.
    pub is_out_of_memory: bool,
    /// How much memory the process had before, and at most.
    pub before_bytes: Option<u64>,
    pub peak_bytes: Option<u64>,
    /// Whether something is left that the next model must not suffer from: a thread that does not end, or memory.
    pub is_spent: bool,
}

/// How one process fared.
enum Ended {
    /// With a verdict, and how much memory that took.
    Reported(Verdict, Option<u64>),
    /// It was ended by what the model does to it.
    Lost(Error),
    /// It was refused more memory than so many bytes.
    OutOfMemory(u64),
    TimedOut,
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
        Turn(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the process that waits for the next model.
    pub fn rest(&self) {
        self.turn().0.take();
    }

    /// Examines a model in a process of its own; fails when that process was ended by what the model does to it,
    /// whichever engine is tried.
    pub fn run(&self, mut turn: Turn, candidate: &Candidate<'_>) -> Result<Tried> {
        let memory = process::available_bytes()
            .map(|bytes| candidate.memory.for_trial(bytes / 10 * MEMORY_TENTHS));
        let names = candidate.engines.names();
        let mut examine = |engines: &[&str], deadline| {
            let candidate = Candidate {
                deadline,
                ..candidate.clone()
            };
            self.examine(&mut turn, &candidate, engines, memory)
        };
        let (mut lost, mut lacking, mut killed) = (Vec::<Finding>::new(), None, None);
        let mut ended = examine(&names, candidate.deadline)?;
        if let (Ended::Lost(_) | Ended::OutOfMemory(_), true) = (&ended, names.len() > 1) {
            // Which of them breaks the process is seen when each is alone, for its part of the time that is left.
            let left = candidate.deadline.saturating_duration_since(Instant::now());
            let part = left / (names.len() as u32 + 1);
            let mut sound = Vec::new();
            for name in names {
                let alone = examine(&[name], Instant::now() + part)?;
                match alone {
                    Ended::Lost(error) => {
                        lost.push(Finding::of_error(name, Standing::Fails, &error));
                        killed = Some(error).filter(Error::is_out_of_memory).or(killed);
                    }
                    Ended::OutOfMemory(bytes) => {
                        let reason = format!("it needs more memory than there is ({})", mib(bytes));
                        lost.push(broken(name, reason));
                        lacking = Some(bytes);
                    }
                    Ended::TimedOut => lost.push(broken(name, "it did not end in time".to_owned())),
                    Ended::Reported(..) | Ended::Silent => sound.push((name, alone)),
                }
            }
            let together: Vec<_> = sound.iter().map(|(name, _)| *name).collect();
            if !together.is_empty() {
                ended = examine(&together, candidate.deadline)?;
            } else if let Some(bytes) = lacking {
                ended = Ended::OutOfMemory(bytes);
            }
            if let Ended::Lost(_) | Ended::OutOfMemory(_) | Ended::TimedOut = ended {
                // Sound alone and lost together, for want of memory: the first that serves does so alone.
                let serves = |ended: &Ended| matches!(ended, Ended::Reported(verdict, _) if verdict.serving().is_ok());
                let mut alone = sound.into_iter().map(|(_, alone)| alone);
                ended = alone.find(serves).unwrap_or(ended);
            }
        }
        let refused = |bytes| {
            let more = format!("more than {}", mib(bytes));
            candidate.memory.refuse(&more)
        };
        let (mut verdict, taken_bytes) = match ended {
            Ended::Reported(verdict, taken_bytes) => (verdict, taken_bytes),
            Ended::Lost(error) => return Err(error),
            Ended::OutOfMemory(bytes) => return Err(refused(bytes)),
            Ended::TimedOut => return Ok(Tried::TimedOut),
            Ended::Silent => return Ok(Tried::Silent),
        };
        verdict.findings.extend(lost);
        if let (Some(bytes), Err(_)) = (lacking, verdict.serving()) {
            // More memory would mend it, whatever stands in the way of the other engines.
            return Err(refused(bytes));
        }
        if let (Some(error), Err(_)) = (killed, verdict.serving()) {
            return Err(error);
        }
        let is_large = taken_bytes
            .zip(memory)
            .is_some_and(|(taken, memory)| taken > memory / LARGE_SHARE);
        Ok(Tried::Judged(Judged {
            verdict,
            taken_bytes,
            turn: is_large.then_some(turn),
        }))
    }

    /// Lets a process examine the model with these engines.
    fn examine(
        &self,
        turn: &mut Turn,
        candidate: &Candidate<'_>,
        engines: &[&str],
        memory: Option<u64>,
    ) -> Result<Ended> {
        let job = Job {
            path: candidate.path.to_owned(),
            engines: engines.iter().map(|engine| (*engine).to_owned()).collect(),
            rules: candidate.rules,
            golden: candidate.golden.clone(),
            memory,
        };
        let waiting = turn.0.take();
        let is_fresh = waiting.is_none();
        let mut process = match waiting.map_or_else(|| self.start(), Ok) {
            Ok(process) => process,
            Err(error) => {
                tracing::warn!(reason = %error, "models are loaded without a trial: no process can be started");
                return Ok(Ended::Silent);
            }
        };
        let lost =
            |error| Error::internal("a process that tries a model out was lost").with_source(error);
        let there_is = memory.map(|bytes| format!(" ({})", mib(bytes)));
        let there_is = there_is.unwrap_or_default();
        match process.ask(&job) {
            // It has ended, which the wait for its answer shows.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(Error::unavailable(format!(
                    "{} cannot be tried out: {error}",
                    candidate.path.display()
                )));
            }
            _ => {}
        }
        match process.answer(candidate.deadline).map_err(lost)? {
            Answer::Report(report) => {
                let Report {
                    verdict,
                    is_out_of_memory,
                    before_bytes,
                    peak_bytes,
                    is_spent,
                } = report;
                if !is_spent {
                    turn.0.replace(process);
                }
                Ok(match verdict {
                    // Not tried here, where it might get the memory and cost everybody theirs.
                    _ if is_out_of_memory => Ended::OutOfMemory(memory.unwrap_or_default()),
                    Some(verdict) => {
                        let taken = peak_bytes.zip(before_bytes);
                        let taken = taken.map(|(peak, before)| peak.saturating_sub(before));
                        Ended::Reported(verdict, taken)
                    }
                    None => Ended::Silent,
                })
            }
            // It may have been an earlier model's doing.
            Answer::Death(_) if !is_fresh => self.examine(turn, candidate, engines, memory),
            Answer::Death(status) => {
                let reason = format!(
                    "loading it ended a process of its own ({status}): the file asks for more memory than there \
                     is{there_is}, or breaks the engine"
                );
                // So end the kernel, where memory runs out, and whoever is refused some and does not expect it.
                let is_for_memory = [SIGKILL, SIGABRT].map(Some).contains(&status.signal());
                Ok(Ended::Lost(match is_for_memory {
                    true => Error::out_of_memory(reason),
                    false => Error::unavailable(reason),
                }))
            }
            Answer::TimedOut => Ok(Ended::TimedOut),
        }
    }

    fn start(&self) -> io::Result<Process> {
        let mut child = Command::new(&self.program)
            .arg(COMMAND)
            .arg("--onnxruntime")
            .arg(self.onnxruntime.as_os_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (say, answers) = mpsc::channel();
        let (asks, output) = (child.stdin.take(), child.stdout.take());
        // Whatever fails from here on, the child is ended with this.
        let process = Process {
            child,
            asks,
            answers,
        };
        let output = output.ok_or(io::ErrorKind::BrokenPipe)?;
        let read = move || {
            let mut lines = BufReader::new(output);
            loop {
                let mut line = Vec::new();
                let read = (&mut lines)
                    .take(MOST_REPORT_BYTES)
                    .read_until(b'\n', &mut line);
                // Without a sender the wait for an answer ends.
                if !matches!(read, Ok(bytes) if bytes > 0) || say.send(line).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("trial".to_owned())
            .spawn(read)?;
        Ok(process)
    }
}

fn broken(engine: &str, reason: String) -> Finding {
    Finding::of_error(engine, Standing::Fails, &Error::unavailable(reason))
}

/// A process that examines models; it is ended on drop.
struct Process {
    child: Child,
    asks: Option<ChildStdin>,
    /// Its output's lines.
    answers: Receiver<Vec<u8>>,
}

enum Answer {
    Report(Report),
    Death(ExitStatus),
    TimedOut,
}

impl Process {
    fn ask(&mut self, job: &Job) -> io::Result<()> {
        let mut line = serde_json::to_vec(job)?;
        line.push(b'\n');
        match &mut self.asks {
            Some(asks) => asks.write_all(&line),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn answer(&mut self, deadline: Instant) -> io::Result<Answer> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.answers.recv_timeout(left) {
            Ok(line) => Ok(Answer::Report(serde_json::from_slice(&line)?)),
            Err(RecvTimeoutError::Timeout) => Ok(Answer::TimedOut),
            Err(RecvTimeoutError::Disconnected) => loop {
                if let Some(status) = self.child.try_wait()? {
                    return Ok(Answer::Death(status));
                }
                if Instant::now() >= deadline {
                    return Ok(Answer::TimedOut);
                }
                thread::sleep(PAUSE);
            },
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::config::Agreement;

    /// Tries this file with a program that ends by itself, whatever it is asked.
    fn try_with(program: &str, path: &Path) -> Result<Tried> {
        let trial = Trial::new(program.into(), LibraryPath::Off);
        let candidate = Candidate {
            path,
            engines: &Engines::of([]),
            rules: Rules::new(Agreement::Require, Duration::ZERO),
            golden: &GoldenFiles::default(),
            memory: &Ledger::boundless(),
            deadline: Instant::now() + Duration::from_secs(30),
        };
        trial.run(trial.turn(), &candidate)
    }

    #[test]
    fn a_path_that_nobody_can_be_told_is_an_error_at_once() {
        let path = Path::new(OsStr::from_bytes(b"models/\xff/model.onnx"));
        let began = Instant::now();
        let error = try_with("tests/data/trials/waits", path).err();
        let error = error.expect("nobody could be asked");
        assert!(error.chain().contains("models/"), "{}", error.chain());
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_trial_that_is_killed_or_aborts_may_go_well_with_more_memory() {
        for (program, passes) in [("killed", true), ("aborted", true), ("broken", false)] {
            let program = format!("tests/data/trials/{program}");
            let error = try_with(&program, Path::new("model.onnx")).err();
            let error = error.expect("it is lost");
            assert_eq!(error.passes(), passes, "{program}: {}", error.chain());
        }
    }
}

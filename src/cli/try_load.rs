//! `onnxd try-load`: the trial that the server makes of every model, in a process that may be lost. Not for people.

use std::io::{self, BufRead};
use std::process::{self, ExitCode};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::finish;
use crate::allocator;
use crate::config::LibraryPath;
use crate::engine::{Engines, ModelSource, STACK_BYTES};
use crate::error::{Error, Result, guarded};
use crate::serving::agreement::verdict::Verdict;
use crate::serving::agreement::{Examined, Models, examine};
use crate::serving::trial::{self, Job, Report};
use crate::telemetry::metrics::PlanCacheMetrics;
use crate::telemetry::process::{
    anonymous_bytes, be_the_first_to_go, data_bytes, peak_bytes, reset_peak, resident_bytes,
};

/// What may be taken beside the bytes that are asked for: the stacks of the threads on which engines load, and the data
/// of libraries.
const BESIDES_BYTES: u64 = 4 * STACK_BYTES as u64 + (64 << 20);

/// A process that has held more than this part of what it may take keeps some of it, and is not used again; it counts in
/// any case above the second number, and never below the first.
const SHARE_KEPT: u64 = 8;
const LEAST_KEPT_BYTES: u64 = 48 << 20;
const MOST_KEPT_BYTES: u64 = 256 << 20;

/// A model holds at least this part of its file, where that is large.
const LARGE_FILE_BYTES: u64 = 8 << 20;
const LEAST_SHARE_HELD: u64 = 4;
/// How long something that a model has begun may hold it, and how often it is looked.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);

/// A job that is none (`EX_DATAERR` of sysexits.h): its sender is of another version.
const EXIT_UNREADABLE: i32 = 65;

/// Examine models as the server does, one for each line of standard input.
#[derive(Debug, Args)]
pub struct TryLoad {
    /// Where ONNX Runtime is
    #[arg(long, value_name = "PATH", default_value = "auto", value_parser = parse_library)]
    onnxruntime: LibraryPath,
}

fn parse_library(text: &str) -> Result<LibraryPath, String> {
    LibraryPath::parse(text).ok_or_else(|| "expected a path, auto or off".to_owned())
}

impl TryLoad {
    /// Examines what it is told to, until standard input ends.
    pub fn run(self) -> ExitCode {
        // The server is in the same control group, and must not go for what a model takes here.
        be_the_first_to_go();
        let engines = Engines::of_machine(&self.onnxruntime, PlanCacheMetrics::default());
        let (say, jobs) = mpsc::channel::<String>();
        let work = move || {
            for line in jobs {
                let told = serde_json::from_str(&line)
                    .and_then(|job| serde_json::to_string(&examine_one(&engines, &job)));
                match told {
                    Ok(told) => println!("{told}"),
                    // Whoever gave it waits for an answer, and sees the end instead.
                    Err(error) => {
                        eprintln!(
                            "onnxd: a job for {} cannot be done: {error}",
                            trial::COMMAND
                        );
                        process::exit(EXIT_UNREADABLE);
                    }
                }
            }
        };
        let unstarted =
            |error| Error::internal("the examining thread did not start").with_source(error);
        let worker = thread::Builder::new().stack_size(STACK_BYTES).spawn(work);
        if let Err(error) = worker.map_err(unstarted) {
            return finish(Err(error));
        }
        // The end of the input is the end of the server, however that came, and of whatever is being examined.
        for line in io::stdin().lock().lines().map_while(io::Result::ok) {
            if say.send(line).is_err() {
                break;
            }
        }
        process::exit(1);
    }
}

fn examine_one(engines: &Engines, job: &Job) -> Report {
    if let Some(bytes) = job.memory.and_then(|bytes| usize::try_from(bytes).ok()) {
        bound_memory(bytes);
    }
    reset_peak();
    let before_bytes = resident_bytes();
    let verdict = guarded("while it was tried", || judge(engines, job)).ok();
    let serves = verdict
        .as_ref()
        .is_some_and(|(verdict, _)| verdict.serving().is_ok());
    let peak_bytes = peak_bytes();
    let has_left_over = verdict
        .as_ref()
        .is_none_or(|(_, has_left_over)| *has_left_over);
    Report {
        verdict: verdict.map(|(verdict, _)| verdict),
        is_out_of_memory: allocator::has_refused() && !serves,
        is_spent: has_left_over
            || allocator::has_refused()
            || peak_bytes.is_none_or(|bytes| bytes > most_kept_bytes(job)),
        before_bytes,
        peak_bytes,
    }
}

/// Where memory is short, what this process keeps is missed by the models that are being loaded.
fn most_kept_bytes(job: &Job) -> u64 {
    let share = job.memory.map(|bytes| bytes / SHARE_KEPT);
    share
        .unwrap_or(u64::MAX)
        .clamp(LEAST_KEPT_BYTES, MOST_KEPT_BYTES)
}

/// The verdict, and whether an engine is still at it.
fn judge(engines: &Engines, job: &Job) -> Result<(Verdict, bool)> {
    let source = ModelSource::read(&job.path)?;
    let wanted = job.engines.iter().filter_map(|name| engines.named(name));
    let Examined {
        mut verdict,
        models,
        was_given_up,
    } = examine(
        &Engines::of(wanted.cloned()),
        &source,
        job.rules,
        &job.golden,
    )?;
    let file = source.bytes.len() as u64;
    drop(source);
    if !was_given_up {
        weigh(models, &mut verdict, file);
    }
    Ok((verdict, was_given_up))
}

/// Measures what each model holds by what dropping it gives back.
fn weigh(mut models: Models, verdict: &mut Verdict, file: u64) {
    allocator::give_back();
    let mut before = anonymous_bytes();
    let least_held = match file < LARGE_FILE_BYTES {
        true => 0,
        false => file / LEAST_SHARE_HELD,
    };
    for finding in &mut verdict.findings {
        let Some(model) = models.remove(finding.engine.as_str()) else {
            continue;
        };
        drop(model);
        let after = settled(before, least_held);
        let held = before.zip(after);
        finding.loading.held_bytes = held.map(|(before, after)| before.saturating_sub(after));
        before = after;
    }
}

/// What is taken once at least so much less is than before, or after a while: a model may be held by the plan that is
/// being made for it.
fn settled(before: Option<u64>, less: u64) -> Option<u64> {
    let began = Instant::now();
    loop {
        allocator::give_back();
        let after = anonymous_bytes();
        let fell = before
            .zip(after)
            .map(|(before, after)| before.saturating_sub(after));
        if fell.is_none_or(|fell| fell >= less) || began.elapsed() >= SETTLES_WITHIN {
            return after;
        }
        thread::sleep(LOOK);
    }
}

/// Bounds what our allocator gives out, which can tell that it has refused something, and whatever a library takes past
/// it, by the kernel.
fn bound_memory(bytes: usize) {
    allocator::set_limit(bytes);
    let limit = Rlimit {
        current: data_bytes().map(|held| held + bytes as u64 + BESIDES_BYTES),
        // The next model may take as much again.
        maximum: None,
    };
    // Where the kernel has no such limit, what our allocator gives out is bounded all the same.
    let _ = setrlimit(Resource::Data, limit);
}

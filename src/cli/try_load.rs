//! `onnxd try-load`: the trial that the server makes of every model, in a process that may be lost. Not for people.

use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::{io, thread};

use clap::Args;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::finish;
use crate::allocator;
use crate::engine::tract::TractEngine;
use crate::engine::{Engine, ModelSource, STACK_BYTES};
use crate::error::{Error, Result, guarded};
use crate::serving::joining;
use crate::serving::trial;
use crate::telemetry::process::{data_bytes, peak_bytes};

/// What may be taken beside the bytes that are asked for: the stacks of this command's threads, and the data of libraries.
const BESIDES_BYTES: u64 = STACK_BYTES as u64 + (64 << 20);

/// Load a model as the server does, and end.
#[derive(Debug, Args)]
pub struct TryLoad {
    /// An ONNX file
    model: PathBuf,
    /// The bytes that it may allocate
    #[arg(long, value_name = "BYTES")]
    memory: Option<usize>,
}

impl TryLoad {
    /// Loads the model; the exit code says whether that can be done.
    pub fn run(self) -> ExitCode {
        if let Some(bytes) = self.memory {
            bound_memory(bytes);
        }
        // Where no thread can be had, the trial is as good without.
        let _ = thread::Builder::new().spawn(end_with_the_server);
        let load = move || {
            guarded("while loading", || {
                let source = ModelSource::read(&self.model)?;
                let model = TractEngine::default().load(&source, &mut Vec::new())?;
                let _ = joining::prove(&*model);
                Ok(())
            })
        };
        let loading = thread::Builder::new().stack_size(STACK_BYTES).spawn(load);
        let unstarted =
            |error| Error::internal("the loading thread did not start").with_source(error);
        let loaded: Result<()> = loading.map_err(unstarted).and_then(|loading| {
            loading
                .join()
                .unwrap_or_else(|_| Err(Error::internal("loading panicked")))
        });
        // How much memory it took, for the server to reckon with.
        println!("{}", peak_bytes().unwrap_or_default());
        if loaded.is_err() && allocator::has_refused() {
            return ExitCode::from(trial::OUT_OF_MEMORY);
        }
        finish(loaded)
    }
}

/// Bounds what our allocator gives out, which can tell that it has refused something, and whatever a library takes past
/// it, by the kernel.
fn bound_memory(bytes: usize) {
    allocator::set_limit(bytes);
    let most = data_bytes().map(|held| held + bytes as u64 + BESIDES_BYTES);
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    // Where the kernel has no such limit, what our allocator gives out is bounded all the same.
    let _ = setrlimit(Resource::Data, limit);
}

/// Waits for the end of standard input, which comes when the server's end does, however it ended.
fn end_with_the_server() {
    // An error is an end as well.
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    process::exit(1);
}

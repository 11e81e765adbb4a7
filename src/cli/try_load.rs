//! `onnxd try-load`: the trial that the server makes of every model, in a process that may be lost. Not for people.

use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::time::Duration;
use std::{io, thread};

use clap::Args;

use super::finish;
use crate::allocator;
use crate::config::{Agreement, LibraryPath};
use crate::engine::{Engines, ModelSource, STACK_BYTES};
use crate::error::{Error, Result, guarded};
use crate::serving::agreement::{Rules, examine};
use crate::serving::trial::{self, Report};
use crate::telemetry::metrics::PlanCacheMetrics;
use crate::telemetry::process::peak_bytes;

/// Examine a model as the server does, and tell what came of it.
#[derive(Debug, Args)]
pub struct TryLoad {
    /// An ONNX file
    model: PathBuf,
    /// The engines to examine, separated by commas
    #[arg(long, value_delimiter = ',', required = true)]
    engines: Vec<String>,
    /// Where ONNX Runtime is
    #[arg(long, value_name = "PATH", default_value = "auto", value_parser = parse_library)]
    onnxruntime: LibraryPath,
    /// How long engines may take once another is ready
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    patience_ms: u64,
    /// Serve what engines differ about
    #[arg(long)]
    warn: bool,
    /// The bytes that it may allocate
    #[arg(long, value_name = "BYTES")]
    memory: Option<usize>,
}

fn parse_library(text: &str) -> Result<LibraryPath, String> {
    LibraryPath::parse(text).ok_or_else(|| "expected a path, auto or off".to_owned())
}

impl TryLoad {
    /// Examines the model and prints the report; the exit code says whether that could be done.
    pub fn run(self) -> ExitCode {
        if let Some(bytes) = self.memory {
            allocator::set_limit(bytes);
        }
        // Where no thread can be had, the trial is as good without.
        let _ = thread::Builder::new().spawn(end_with_the_server);
        let examine = move || guarded("while loading", || self.examine());
        let examining = thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(examine);
        let unstarted =
            |error| Error::internal("the loading thread did not start").with_source(error);
        let serves = examining.map_err(unstarted).and_then(|examining| {
            examining
                .join()
                .unwrap_or_else(|_| Err(Error::internal("loading panicked")))
        });
        match serves {
            Ok(true) => ExitCode::SUCCESS,
            _ if allocator::has_refused() => ExitCode::from(trial::OUT_OF_MEMORY),
            serves => finish(serves.map(drop)),
        }
    }

    /// Whether an engine serves the model.
    fn examine(self) -> Result<bool> {
        let source = ModelSource::read(&self.model)?;
        let all = Engines::of_machine(&self.onnxruntime, PlanCacheMetrics::default());
        let wanted = self.engines.iter().filter_map(|name| all.named(name));
        let rules = Rules {
            agreement: match self.warn {
                true => Agreement::Warn,
                false => Agreement::Require,
            },
            patience: Duration::from_millis(self.patience_ms),
        };
        let (verdict, _models) = examine(&Engines::of(wanted.cloned()), &source, rules)?;
        let serves = verdict.serving().is_ok();
        let report = Report {
            verdict,
            // How much memory it took, for the server to reckon with.
            peak_bytes: peak_bytes(),
        };
        let unwritten = |error: serde_json::Error| Error::internal("no report").with_source(error);
        println!("{}", serde_json::to_string(&report).map_err(unwritten)?);
        Ok(serves)
    }
}

/// Waits for the end of standard input, which comes when the server's end does, however it ended.
fn end_with_the_server() {
    // An error is an end as well.
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    process::exit(1);
}

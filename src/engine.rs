//! How a model runs: the contract that every engine keeps, so that nothing above knows which one serves.
//!
//! An engine may panic; whoever calls it stands behind `catch_unwind`. A [`Model`] is shared by all workers, a
//! [`Session`] belongs to one.

pub mod onnx;
#[cfg(feature = "onnxruntime")]
pub mod onnxruntime;
#[cfg(feature = "rten")]
pub mod rten;
pub mod tract;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::onnx::OnnxFile;
use crate::config::{EngineChoice, LibraryPath};
use crate::error::{Error, ErrorKind, Result, guarded};
use crate::telemetry::metrics::PlanCacheMetrics;
use crate::tensor::sample::Sample;
use crate::tensor::signature::{CheckedInputs, Signature, TensorSpec};
use crate::tensor::value::Tensor;

/// The stack of a thread that loads or runs models: graphs can be deep, plans are made while a model runs as well, and
/// what is not used costs nothing.
pub const STACK_BYTES: usize = 64 << 20;

/// When to try again what the file system does not give out now.
const UNREADABLE_RETRY: Duration = Duration::from_secs(30);

/// Where the documentation says what loads and what to do about the rest.
const ADVICE: &str = "docs/models.md says what loads and what to do about the rest";

/// The engines of this process, in the order in which they are preferred before anything is measured.
#[derive(Clone)]
pub struct Engines(Arc<[Arc<dyn Engine>]>);

impl Engines {
    /// These engines, the preferred first.
    pub fn of(engines: impl IntoIterator<Item = Arc<dyn Engine>>) -> Engines {
        Engines(engines.into_iter().collect())
    }

    /// Those of this build whose parts are on this machine.
    pub fn of_machine(onnxruntime: &LibraryPath, plan_cache: PlanCacheMetrics) -> Engines {
        let tract: Option<Arc<dyn Engine>> = Some(Arc::new(tract::TractEngine::new(plan_cache)));
        let engines = [tract, rten_engine(), onnxruntime_engine(onnxruntime)];
        Engines::of(engines.into_iter().flatten())
    }

    /// Their names, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|engine| engine.name()).collect()
    }

    /// Those that this choice leaves.
    pub fn chosen(&self, choice: &EngineChoice) -> Result<Engines> {
        let EngineChoice::Named(name) = choice else {
            return Ok(self.clone());
        };
        let chosen = self.named(name).ok_or_else(|| {
            Error::unavailable(format!(
                "engine '{name}' is not there; this server has {}",
                self.names().join(", ")
            ))
        })?;
        Ok(Engines::of([chosen.clone()]))
    }

    /// The engine of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<dyn Engine>> {
        self.0.iter().find(|engine| engine.name() == name)
    }

    /// The engines themselves, in order.
    pub fn list(&self) -> &[Arc<dyn Engine>] {
        &self.0
    }
}

fn rten_engine() -> Option<Arc<dyn Engine>> {
    #[cfg(feature = "rten")]
    return Some(Arc::new(rten::RtenEngine));
    #[cfg(not(feature = "rten"))]
    None
}

#[cfg_attr(
    not(feature = "onnxruntime"),
    expect(unused_variables, reason = "it is not looked for")
)]
fn onnxruntime_engine(library: &LibraryPath) -> Option<Arc<dyn Engine>> {
    #[cfg(feature = "onnxruntime")]
    return onnxruntime::find(library).map(|found| Arc::new(found) as _);
    #[cfg(not(feature = "onnxruntime"))]
    None
}

/// Turns model files into models.
pub trait Engine: Send + Sync {
    /// The engine's name in logs, metrics and metadata.
    fn name(&self) -> &'static str;

    /// About how many bytes of memory loading this model will take, by the engine's own word; nothing where it cannot
    /// tell.
    fn memory_needed(&self, _source: &ModelSource) -> Option<u64> {
        None
    }

    /// Loads a model; the error says which operator or dimension stands in the way. Every way of running the model
    /// that was tried is added to `tried`, whatever came of it.
    fn load(&self, source: &ModelSource, tried: &mut Vec<Attempt>) -> Result<Arc<dyn Model>>;
}

/// Where a model comes from. Cloning shares it.
#[derive(Debug, Clone)]
pub struct ModelSource {
    /// The whole ONNX file.
    pub bytes: Bytes,
    /// The folder that its external data may be in.
    pub folder: Option<PathBuf>,
    /// Read once, for all engines.
    file: Arc<OnceLock<OnnxFile>>,
}

impl ModelSource {
    /// A whole ONNX file; its external data may be in `folder`, and nowhere else.
    pub fn new(bytes: Bytes, folder: Option<PathBuf>) -> ModelSource {
        ModelSource {
            bytes,
            folder,
            file: Arc::default(),
        }
    }

    /// What the file says about itself, checked.
    pub fn file(&self) -> Result<&OnnxFile> {
        match self.file.get() {
            Some(file) => Ok(file),
            None => {
                let file = OnnxFile::read(&self.bytes, self.folder.as_deref())?;
                Ok(self.file.get_or_init(|| file))
            }
        }
    }

    /// Reads an ONNX file.
    pub fn read(path: &Path) -> Result<ModelSource> {
        let cannot = |error: io::Error| {
            let message = format!("cannot read {}", path.display());
            let cannot = match error.kind() {
                io::ErrorKind::OutOfMemory => Error::out_of_memory(message),
                io::ErrorKind::NotFound
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::PermissionDenied => Error::not_found(message),
                // A file system that is away, or too many open files: that passes.
                _ => Error::unavailable(message).with_retry_after(UNREADABLE_RETRY),
            };
            cannot.with_source(error)
        };
        // A device or a pipe might never end.
        if !path.metadata().map_err(cannot)?.is_file() {
            return Err(Error::not_found(format!(
                "{} is not a file",
                path.display()
            )));
        }
        let bytes = std::fs::read(path).map_err(cannot)?;
        Ok(ModelSource::new(
            bytes.into(),
            path.parent().map(Path::to_owned),
        ))
    }
}

/// One way of running a model that was tried while it was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What was tried, such as `one plan for every shape`.
    pub what: String,
    /// What was seen, or why it does not do.
    pub outcome: Result<String, String>,
}

/// A loaded model.
pub trait Model: Send + Sync {
    /// What the model takes and gives, as its file declares it.
    fn signature(&self) -> &Signature;

    /// What one worker needs to run the model; each run may use so many threads, at least one.
    fn session(&self, threads: usize) -> Result<Box<dyn Session>>;

    /// Whether one run can use more threads than one.
    fn splits_runs(&self) -> bool {
        false
    }

    /// Inputs that the model was seen to run with while it was loaded, if there were any.
    fn sample(&self) -> Option<Sample> {
        None
    }

    /// Whether a run of these inputs begins at once, without preparing something for their shapes first.
    fn is_prepared(&self, _inputs: &CheckedInputs) -> bool {
        true
    }
}

/// The first made-up request that the model runs, for engines that have no better way to find one. A model that runs out
/// of memory is given up at once: it would do so again where nothing bounds it.
#[cfg_attr(
    not(any(feature = "rten", feature = "onnxruntime")),
    expect(dead_code, reason = "tract has a way of its own")
)]
fn find_sample(model: &dyn Model) -> Result<Option<Sample>> {
    let signature = model.signature();
    for sample in Sample::likely(&signature.inputs) {
        let run = || Session::run(&mut *model.session(1)?, &sample.inputs(signature)?);
        match guarded("while it was tried", run) {
            Ok(_) => return Ok(Some(sample)),
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Fails for a model that no made-up request runs, unless requests may know what those do not.
#[cfg_attr(
    not(any(feature = "rten", feature = "onnxruntime")),
    expect(dead_code, reason = "tract has a way of its own")
)]
fn leave_to_requests(model: &dyn Model) -> Result<()> {
    let signature = model.signature();
    let Ok(inputs) = Sample::ZEROS.inputs(signature) else {
        // Too large to be made up.
        return Ok(());
    };
    if signature.inputs.iter().any(TensorSpec::is_open) {
        return Ok(());
    }
    let run = || Session::run(&mut *model.session(1)?, &inputs);
    guarded("while it was tried", run).map(|_| ())
}

/// A model's state on one worker thread.
pub trait Session: Send {
    /// Runs the model once; the outputs come in the signature's order.
    fn run(&mut self, inputs: &CheckedInputs) -> Result<Vec<Tensor>>;

    /// Whether the thread that calls does all the computing, so that its CPU time is what a run costs.
    fn computes_here(&self) -> bool {
        false
    }
}

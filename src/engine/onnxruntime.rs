//! The ONNX Runtime engine: its library is looked for when onnxd starts, and done without where there is none.
//!
//! `library` finds the file, `runtime` opens it once for the process, `zipmap` rewrites what no protocol carries, `known_wrong`
//! refuses, `model` keeps a model's sessions, `shared` lets all workers run one of them,
//! `allocator` gives them memory, `convert` is for tensors, `message` for reasons.

mod allocator;
mod convert;
mod known_wrong;
mod library;
mod message;
mod model;
mod runtime;
mod shared;
mod zipmap;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use self::model::OnnxRuntimeModel;
use self::runtime::Runtime;
use super::{Attempt, Engine, Model, ModelSource};
use crate::config::LibraryPath;
use crate::error::{Error, Result, guarded};

/// What loading takes at its peak, measured on files of 3 to 128 MB: the file itself, which is kept for sessions of other
/// numbers of threads, twice its size in ONNX Runtime, and the library with its tables.
const TIMES_FILE: u64 = 3;
const BESIDES_BYTES: u64 = 40 << 20;

/// Loads models with ONNX Runtime.
#[derive(Clone)]
pub struct OnnxRuntimeEngine {
    library: LibraryPath,
    opened: Arc<OnceLock<Result<Runtime, String>>>,
}

impl OnnxRuntimeEngine {
    /// An engine that opens the library with the first model that it loads.
    pub fn new(library: LibraryPath) -> OnnxRuntimeEngine {
        OnnxRuntimeEngine {
            library,
            opened: Arc::default(),
        }
    }

    /// Which library it is, or why there is none. Nothing is opened for the answer.
    pub fn presence(&self) -> Result<PathBuf, String> {
        match self.opened.get() {
            Some(Ok(runtime)) => Ok(runtime.path().to_owned()),
            Some(Err(reason)) => Err(reason.clone()),
            None => library::find(&self.library),
        }
    }

    fn runtime(&self) -> Result<&Runtime> {
        let open = || library::find(&self.library).and_then(|path| Runtime::open(&path));
        let opened = self.opened.get_or_init(open);
        opened
            .as_ref()
            .map_err(|reason| Error::unavailable(reason.clone()))
    }
}

/// The engine, unless there is no library in the usual places or the setting says that it is not wanted. A library that
/// the setting names is missed when a model is loaded, so that every model tells of it.
pub fn find(path: &LibraryPath) -> Option<OnnxRuntimeEngine> {
    let engine = OnnxRuntimeEngine::new(path.clone());
    let is_named = matches!(path, LibraryPath::At(_));
    (is_named || engine.presence().is_ok()).then_some(engine)
}

impl Engine for OnnxRuntimeEngine {
    fn name(&self) -> &'static str {
        "onnxruntime"
    }

    fn memory_needed(&self, source: &ModelSource) -> Option<u64> {
        Some((source.bytes.len() as u64).saturating_mul(TIMES_FILE) + BESIDES_BYTES)
    }

    fn load(&self, source: &ModelSource, tried: &mut Vec<Attempt>) -> Result<Arc<dyn Model>> {
        let runtime = self.runtime()?;
        let load = || OnnxRuntimeModel::load(runtime.clone(), source);
        let loaded = guarded("while loading", load);
        let outcome = match &loaded {
            Ok(model) => Ok(model.seen()),
            Err(error) => Err(error.chain()),
        };
        tried.push(Attempt {
            what: "one session for every shape".to_owned(),
            outcome,
        });
        Ok(Arc::new(loaded?))
    }
}

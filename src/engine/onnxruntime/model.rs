//! A loaded model: a session for each number of threads that is asked for, shared by all workers.

use std::collections::HashMap;
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use ort::logging::LogLevel;
use ort::session::Session as OrtSession;
use ort::session::builder::AutoDevicePolicy;

use super::runtime::Runtime;
use super::shared::SharedSession;
use super::{convert, known_wrong, message, zipmap};
use crate::engine::{Model, ModelSource, Session, find_sample, leave_to_requests};
use crate::error::{Error, Result};
use crate::tensor::sample::Sample;
use crate::tensor::signature::{CheckedInputs, Signature, TensorSpec};
use crate::tensor::value::Tensor;

/// Where external data is looked for when a model comes from memory.
const EXTERNAL_DATA_KEY: &str = "session.model_external_initializers_file_folder_path";

/// A model and its sessions.
pub struct OnnxRuntimeModel {
    runtime: Runtime,
    bytes: Bytes,
    folder: Option<PathBuf>,
    signature: Arc<Signature>,
    sessions: Arc<Sessions>,
    sample: Option<Sample>,
}

/// The sessions that somebody holds; while nobody holds any, the one that was let go last, which is likely to be asked
/// for again. Each has the weights once more.
#[derive(Default)]
struct Sessions(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_threads: HashMap<usize, Weak<SharedSession>>,
    idle: Option<Arc<SharedSession>>,
}

impl Sessions {
    /// The session for so many threads, made where nobody holds it.
    fn take(
        &self,
        threads: usize,
        make: impl FnOnce() -> Result<SharedSession>,
    ) -> Result<Arc<SharedSession>> {
        let mut known = self.lock();
        let held = known.by_threads.get(&threads).and_then(Weak::upgrade);
        let shared = match held {
            Some(shared) => shared,
            None => Arc::new(make()?),
        };
        known.by_threads.insert(threads, Arc::downgrade(&shared));
        known.idle = None;
        Ok(shared)
    }

    /// Takes back a session that one of its holders needs no more.
    fn let_go(&self, threads: usize, shared: &Arc<SharedSession>) {
        let mut known = self.lock();
        let mut others = known.by_threads.iter().filter(|(of, _)| **of != threads);
        if others.all(|(_, other)| other.strong_count() == 0) {
            known.idle = Some(shared.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OnnxRuntimeModel {
    /// Loads a model for runs of one thread.
    pub fn load(runtime: Runtime, source: &ModelSource) -> Result<OnnxRuntimeModel> {
        let file = source.file()?;
        known_wrong::refuse(&source.bytes, file)?;
        let mut model = OnnxRuntimeModel {
            runtime,
            bytes: zipmap::without(&source.bytes, file)?,
            folder: source.folder.clone(),
            signature: Arc::new(file.signature.clone()),
            sessions: Arc::default(),
            sample: None,
        };
        model.session(1)?;
        model.sample = find_sample(&model)?;
        // What it has loaded it can run; of several inputs one may be a parameter, such as scales, whose values matter.
        let may_lack_values = model.signature.inputs.len() > 1;
        if model.sample.is_none() && !may_lack_values {
            leave_to_requests(&model).map_err(|error| {
                let reason = error.chain();
                Error::unimplemented(format!("onnxruntime cannot run this model: {reason}"))
            })?;
        }
        Ok(model)
    }

    /// What was seen while it was loaded, in words.
    pub fn seen(&self) -> String {
        let seen = match self.sample {
            Some(_) => "loads and runs",
            None => "loads; no made-up request runs",
        };
        seen.to_owned()
    }

    fn make(&self, threads: usize) -> Result<SharedSession> {
        let session = self.commit(threads).map_err(message::refused)?;
        let Signature { inputs, outputs } = &*self.signature;
        Ok(SharedSession::new(session, names(inputs)?, names(outputs)?))
    }

    fn commit(&self, threads: usize) -> ort::Result<OrtSession> {
        let inputs = &self.signature.inputs;
        let mut builder = OrtSession::builder(self.runtime.environment())?
            .with_auto_device(AutoDevicePolicy::PreferCPU)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            // Threads that wait busily take the CPU from everybody else.
            .with_intra_op_spinning(false)?
            .with_log_level(LogLevel::Error)?
            .with_env_allocators()?
            // A plan of the memory is kept for every combination of dimensions that was ever seen, without a bound.
            .with_memory_pattern(!inputs.iter().any(TensorSpec::has_free_dims))?;
        if let Some(folder) = self.folder.as_deref().and_then(|folder| folder.to_str()) {
            let folder = if folder.is_empty() { "." } else { folder };
            builder = builder.with_config_entry(EXTERNAL_DATA_KEY, folder)?;
        }
        builder.commit_from_memory(&self.bytes)
    }
}

fn names(specs: &[TensorSpec]) -> Result<Vec<CString>> {
    let name = |spec: &TensorSpec| {
        CString::new(spec.name.as_str()).map_err(|_| {
            Error::unimplemented(format!("the name '{}' has a zero byte in it", spec.name))
        })
    };
    specs.iter().map(name).collect()
}

impl Model for OnnxRuntimeModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(&self, threads: usize) -> Result<Box<dyn Session>> {
        Ok(Box::new(OnnxRuntimeSession {
            shared: self.sessions.take(threads, || self.make(threads))?,
            sessions: self.sessions.clone(),
            signature: self.signature.clone(),
            threads,
        }))
    }

    fn splits_runs(&self) -> bool {
        true
    }

    fn sample(&self) -> Option<Sample> {
        self.sample
    }
}

struct OnnxRuntimeSession {
    shared: Arc<SharedSession>,
    sessions: Arc<Sessions>,
    signature: Arc<Signature>,
    threads: usize,
}

impl Session for OnnxRuntimeSession {
    fn run(&mut self, inputs: &CheckedInputs) -> Result<Vec<Tensor>> {
        let inputs = inputs.tensors().iter().map(convert::input);
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let outputs = self.shared.run(&inputs).map_err(message::failed)?;
        let outputs = self.signature.outputs.iter().zip(outputs);
        let outputs =
            outputs.map(|(spec, value)| convert::output(spec, value, &self.shared, &inputs));
        outputs.collect()
    }

    fn computes_here(&self) -> bool {
        self.threads == 1
    }
}

impl Drop for OnnxRuntimeSession {
    fn drop(&mut self) {
        self.sessions.let_go(self.threads, &self.shared);
    }
}

//! The opened library and its environment, of which a process has one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::{allocator, message};
use crate::error::{Error, guarded};

/// What the process has opened. It is never closed: ONNX Runtime does not expect it while threads still run.
static OPENED: Mutex<Option<Runtime>> = Mutex::new(None);

/// ONNX Runtime, ready to load models.
#[derive(Clone)]
pub struct Runtime {
    path: PathBuf,
    environment: Environment,
}

impl Runtime {
    /// Opens the library, or takes the one that is open already; fails with the reason where it is not ONNX Runtime,
    /// or too old.
    pub fn open(path: &Path) -> Result<Runtime, String> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        match &*opened {
            Some(runtime) if runtime.path == path => return Ok(runtime.clone()),
            Some(Runtime { path, .. }) => {
                let path = path.display();
                return Err(format!("this process already uses {path}"));
            }
            None => {}
        }
        // The crate panics where a library has the right name and yet is not what it seems.
        let environment = guarded("while opening its library", || environment(path));
        let environment = environment
            .map_err(|error| format!("ONNX Runtime cannot be used: {}", error.chain()))?;
        tracing::info!(path = %path.display(), "opened the library of ONNX Runtime");
        let path = path.to_owned();
        let runtime = Runtime { path, environment };
        Ok(opened.insert(runtime).clone())
    }

    /// The library's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What sessions are made in.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Runtime { path, .. } = self;
        f.debug_struct("Runtime")
            .field("path", path)
            .finish_non_exhaustive()
    }
}

fn environment(path: &Path) -> crate::error::Result<Environment> {
    let builder = ort::init_from(path).map_err(|error| Error::unavailable(error.to_string()))?;
    // Whatever fails is returned as well, and is told then.
    let log = |_: LogLevel, _: &str, _: &str, _: &str, text: &str| {
        tracing::debug!(reason = %message::clean(text), "ONNX Runtime has logged");
    };
    let builder = builder
        .with_name("onnxd")
        .with_telemetry(false)
        .with_logger(Arc::new(log));
    let environment = builder.build().map_err(message::unavailable)?;
    environment.set_log_level(LogLevel::Error);
    allocator::register(&environment).map_err(message::unavailable)?;
    Ok(environment)
}

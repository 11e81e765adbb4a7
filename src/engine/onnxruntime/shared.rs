//! One session that any number of threads run at once, so that a model's weights are in memory once.
//!
//! The crate's own `run` wants the session for itself, which would mean a copy of the weights for every worker. ONNX
//! Runtime itself documents of `OrtRun` that many threads may call it on one session; it is how its Python, C# and Java
//! packages are used. Its execution providers for other devices have broken that; none is ever registered here.
#![expect(
    unsafe_code,
    reason = "the one call of OrtRun; the crate's safe one cannot share a session between threads"
)]

use std::ffi::{CString, c_char};
use std::ptr::{self, NonNull};

use ort::AsPointer;
use ort::session::{Session, SessionInputValue};
use ort::sys::OrtValue;
use ort::value::DynValue;

use crate::allocator;

/// A session and the names that it is run with.
pub struct SharedSession {
    session: Session,
    inputs: Vec<CString>,
    outputs: Vec<CString>,
    /// Comes last, because fields are dropped in their order.
    _end: GiveBack,
}

/// Gives back to the system what was dropped before it.
struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        allocator::give_back();
    }
}

impl SharedSession {
    /// Shares a session, which takes inputs and gives outputs of these names.
    pub fn new(session: Session, inputs: Vec<CString>, outputs: Vec<CString>) -> SharedSession {
        // Loading takes more than what is left in the end.
        allocator::give_back();
        SharedSession {
            session,
            inputs,
            outputs,
            _end: GiveBack,
        }
    }

    /// Runs it on inputs in the order of their names; the outputs come in the order of theirs, and nothing for one
    /// that the model has left out.
    ///
    /// # Panics
    /// When there are more or fewer inputs than names.
    pub fn run(&self, inputs: &[SessionInputValue<'_>]) -> ort::Result<Vec<Option<DynValue>>> {
        // ONNX Runtime would read past the end of the shorter list.
        assert_eq!(inputs.len(), self.inputs.len(), "an input for every name");
        let values: Vec<*const OrtValue> = inputs.iter().map(|input| input.ptr()).collect();
        let (input_names, output_names) = (pointers(&self.inputs), pointers(&self.outputs));
        let mut outputs: Vec<*mut OrtValue> = vec![ptr::null_mut(); self.outputs.len()];
        // SAFETY: every pointer is to something that lives until the call returns: the session, the names, which end
        // with a zero, and the inputs; the lists are as long as the counts say. Null in place of an output asks ONNX
        // Runtime to make it. Nothing but this function runs the session, and it may be run by many threads at once.
        let status = unsafe {
            (ort::api().Run)(
                self.session.ptr().cast_mut(),
                ptr::null(),
                input_names.as_ptr(),
                values.as_ptr(),
                values.len(),
                output_names.as_ptr(),
                output_names.len(),
                outputs.as_mut_ptr(),
            )
        };
        // SAFETY: the status was just returned, and is used once.
        unsafe { ort::Error::result_from_status(status) }?;
        let own = self.session.allocator();
        // SAFETY: ONNX Runtime has made these values for the caller to release, which is done by the owner made here;
        // they hold on to their own allocator, and the caller keeps the session besides.
        let owned = |output| unsafe { DynValue::from_ptr(output, Some(own)) };
        let outputs = outputs
            .into_iter()
            .map(|output| NonNull::new(output).map(owned));
        Ok(outputs.collect())
    }
}

fn pointers(names: &[CString]) -> Vec<*const c_char> {
    names.iter().map(|name| name.as_ptr()).collect()
}

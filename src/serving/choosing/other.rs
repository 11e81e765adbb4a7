//! Another engine's model of a version that serves: loaded beside the requests, and given up where that does not end.

use std::sync::{Arc, mpsc};
use std::thread;

use crate::engine::{Engine, Model, ModelSource, STACK_BYTES};
use crate::error::{Error, Result, guarded};
use crate::serving::agreement;
use crate::serving::deployment::{Facts, Machinery};
use crate::serving::memory::Promise;

/// What an engine loads a model from, and the memory that it was promised.
pub struct Other {
    pub engine: Arc<dyn Engine>,
    pub source: ModelSource,
    pub promise: Promise,
}

impl Other {
    /// The model, once it has answered the golden requests here too. A load that was given up keeps its promise for as
    /// long as it goes on.
    pub fn load(
        self,
        facts: &Arc<Facts>,
        machinery: &Machinery,
    ) -> Result<(Arc<dyn Model>, Promise)> {
        let Other {
            engine,
            source,
            promise,
        } = self;
        let (reply, loaded) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name(format!("load-{}", engine.name()))
            .stack_size(STACK_BYTES);
        let (facts, budget) = (facts.clone(), machinery.budget.clone());
        let work = move || {
            let load = || {
                let model = agreement::load(&*engine, &source, &mut Vec::new())?;
                facts.golden.replay(&source, &*model, &budget)?;
                Ok(model)
            };
            let model = guarded("while loading", load);
            // Nobody listens any more once it was given up.
            let _ = reply.send(model.map(|model| (model, promise)));
        };
        let unstarted =
            |error| Error::internal("a loading thread did not start").with_source(error);
        thread.spawn(work).map_err(unstarted)?;
        let most = machinery.load_timeout;
        loaded.recv_timeout(most).unwrap_or_else(|_| {
            Err(Error::unavailable(format!(
                "loading took longer than inference.load_timeout_ms ({} ms) and was given up",
                most.as_millis()
            )))
        })
    }
}

//! Engines at work on one model, each on a thread of its own: it may panic, or never come back, and harms only itself.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::verdict::Loading;
use crate::allocator;
use crate::engine::{Attempt, Engine, Engines, Model, ModelSource, STACK_BYTES, Session};
use crate::error::{Error, Result, guarded};
use crate::serving::golden::Golden;
use crate::telemetry::process;
use crate::tensor::signature::CheckedInputs;
use crate::tensor::value::Tensor;

/// So many times as long as the first engine the others may take.
const TIMES_THE_FIRST: u32 = 4;

/// An engine's model, or why there is none, and how it came to that.
pub struct Loaded {
    pub model: Result<Arc<dyn Model>>,
    pub loading: Loading,
}

/// What an engine answers to each made-up request.
pub type Answers = Vec<Result<Vec<Tensor>, String>>;

/// The engines that can still be asked, by their place. Their threads end once nobody asks any more.
pub struct Witnesses {
    asked: Vec<Option<Asked>>,
    patience: Duration,
}

/// An engine at work.
struct Asked {
    questions: Sender<Question>,
    thread: JoinHandle<()>,
}

/// What an engine is asked; it says the answer itself, to whoever hears it.
type Question = Box<dyn FnOnce(&dyn Model) + Send>;

/// What came of an engine's golden requests.
pub struct Checked {
    /// How many it answered as expected, or what is wrong with the first that it did not.
    pub outcome: Result<usize, String>,
    /// Whether it answered any at all.
    has_answered: bool,
}

impl Witnesses {
    /// Lets every engine load the model; what came of it in time comes by the engine's place.
    pub fn call(
        engines: &Engines,
        source: &ModelSource,
        patience: Duration,
    ) -> Result<(Witnesses, Vec<Option<Loaded>>)> {
        let (say, heard) = mpsc::channel();
        let called = engines.list().iter().enumerate();
        let asked = called
            .map(|(at, engine)| call(at, engine.clone(), source.clone(), say.clone()).map(Some))
            .collect::<Result<Vec<_>>>()?;
        drop(say);
        let mut witnesses = Witnesses { asked, patience };
        let loaded = gather(&heard, engines.list().len(), patience, |loaded: &Loaded| {
            loaded.model.is_ok()
        });
        for (asked, loaded) in witnesses.asked.iter_mut().zip(&loaded) {
            if loaded.as_ref().is_none_or(|loaded| loaded.model.is_err()) {
                *asked = None;
            }
        }
        Ok((witnesses, loaded))
    }

    /// What those that have loaded the model say to these requests. One that does not answer in time is not asked
    /// again.
    pub fn ask(&mut self, cases: &[CheckedInputs]) -> Vec<Option<Answers>> {
        // One that fails at once says nothing of how long the others need.
        let settles =
            |answers: &Answers| cases.is_empty() || answers.iter().any(std::result::Result::is_ok);
        let asked: Arc<[CheckedInputs]> = cases.into();
        self.put(move |model| answer(model, &asked), settles)
    }

    /// What comes of these golden requests with those that have loaded the model. Each answer is checked as it comes, since
    /// all of them together may be large.
    pub fn check(&mut self, golden: Vec<Golden>) -> Vec<Option<Checked>> {
        let golden: Arc<[Golden]> = golden.into();
        let settles = |checked: &Checked| checked.has_answered;
        self.put(move |model| check(model, &golden), settles)
    }

    /// Puts one question to all who can still be asked.
    fn put<T: Send + 'static>(
        &mut self,
        question: impl Fn(&dyn Model) -> T + Clone + Send + 'static,
        settles: impl Fn(&T) -> bool,
    ) -> Vec<Option<T>> {
        let (say, heard) = mpsc::channel();
        for (at, asked) in self.asked.iter().enumerate() {
            let Some(asked) = asked else { continue };
            let (question, say) = (question.clone(), say.clone());
            let question = move |model: &dyn Model| {
                // Whoever asked may have given this engine up.
                let _ = say.send((at, question(model)));
            };
            // A thread that is gone is missed when its answers are gathered.
            let _ = asked.questions.send(Box::new(question));
        }
        drop(say);
        let answers = gather(&heard, self.asked.len(), self.patience, settles);
        for (asked, answers) in self.asked.iter_mut().zip(&answers) {
            if answers.is_none() {
                *asked = None;
            }
        }
        answers
    }

    /// Waits until the threads of all that were not given up have let go of their models.
    pub fn dismiss(self) {
        for Asked { questions, thread } in self.asked.into_iter().flatten() {
            drop(questions);
            // One that panicked has ended as well.
            let _ = thread.join();
        }
    }
}

fn call(
    at: usize,
    engine: Arc<dyn Engine>,
    source: ModelSource,
    say: Sender<(usize, Loaded)>,
) -> Result<Asked> {
    let (asked, questions) = mpsc::channel::<Question>();
    let name = engine.name();
    let work = move || {
        let (began, mut tried) = (Instant::now(), Vec::new());
        let model = load(&*engine, &source, &mut tried);
        let seconds = Some(began.elapsed().as_secs_f64());
        let loading = Loading {
            tried,
            seconds,
            held_bytes: None,
        };
        let kept = model.as_ref().ok().cloned();
        drop(source);
        // Whoever asked may have given this engine up; then nobody needs what it says.
        let _ = say.send((at, Loaded { model, loading }));
        drop(say);
        let Some(model) = kept else { return };
        for question in questions {
            question(&*model);
        }
    };
    let thread = thread::Builder::new()
        .name(format!("load-{name}"))
        .stack_size(STACK_BYTES);
    let unstarted = |error| Error::internal("a loading thread did not start").with_source(error);
    let thread = thread.spawn(work).map_err(unstarted)?;
    Ok(Asked {
        questions: asked,
        thread,
    })
}

/// What each of `count` speakers says, as far as it says it in time: once one has said what settles matters, the others
/// have a while left.
fn gather<T>(
    heard: &Receiver<(usize, T)>,
    count: usize,
    patience: Duration,
    settles: impl Fn(&T) -> bool,
) -> Vec<Option<T>> {
    let mut said: Vec<Option<T>> = (0..count).map(|_| None).collect();
    let began = Instant::now();
    let mut deadline = None;
    loop {
        let next = match deadline {
            None => heard.recv().ok(),
            Some(deadline) => {
                let left = Instant::saturating_duration_since(&deadline, Instant::now());
                heard.recv_timeout(left).ok()
            }
        };
        // Nobody is left to speak, or their time is over.
        let Some((at, word)) = next else { return said };
        if deadline.is_none() && settles(&word) {
            let allowed = patience.max(began.elapsed() * TIMES_THE_FIRST);
            deadline = Some(began + allowed);
        }
        said[at] = Some(word);
    }
}

/// What the machine has for large allocations, and this process may take of it.
fn free_bytes() -> Option<u64> {
    let left = u64::try_from(allocator::left()).ok();
    [process::available_bytes(), left]
        .into_iter()
        .flatten()
        .min()
}

/// Loads a model, unless by the engine's own word there is no memory for it.
pub fn load(
    engine: &dyn Engine,
    source: &ModelSource,
    tried: &mut Vec<Attempt>,
) -> Result<Arc<dyn Model>> {
    if let (Some(needed), Some(free)) = (engine.memory_needed(source), free_bytes())
        && needed > free
    {
        allocator::note_refusal();
        return Err(Error::out_of_memory(format!(
            "loading it takes about {} MiB of memory, and {} MiB are free",
            needed >> 20,
            free >> 20
        )));
    }
    guarded("while loading", || engine.load(source, tried))
}

fn answer(model: &dyn Model, cases: &[CheckedInputs]) -> Answers {
    cases.iter().map(runs(model)).collect()
}

fn check(model: &dyn Model, golden: &[Golden]) -> Checked {
    let mut run = runs(model);
    let mut checked = Checked {
        outcome: Ok(0),
        has_answered: false,
    };
    for golden in golden {
        let answer = run(&golden.inputs);
        checked.has_answered |= answer.is_ok();
        let right = golden.check(answer.as_deref());
        checked.outcome = checked.outcome.and_then(|count| right.map(|()| count + 1));
    }
    checked
}

/// Runs the model again and again.
fn runs(model: &dyn Model) -> impl FnMut(&CheckedInputs) -> Result<Vec<Tensor>, String> {
    let mut session = None;
    move |inputs: &CheckedInputs| {
        let ran = guarded("while it was tried", || {
            // One that panicked is not used again.
            let mut fresh: Box<dyn Session> = match session.take() {
                Some(session) => session,
                None => model.session(1)?,
            };
            let outputs = fresh.run(inputs);
            session = Some(fresh);
            outputs
        });
        ran.map_err(|error| error.chain())
    }
}

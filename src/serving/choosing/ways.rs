//! The ways in which models can be run: each on so many workers of so many threads.

use std::iter;
use std::sync::Arc;

use crate::engine::Model;
use crate::serving::lane::Split;
use crate::serving::measuring::Way;

/// Every way to run these models, which come with the engines that loaded them, on so many threads; where the owner has
/// shared them out, that way alone.
pub fn split(
    threads: usize,
    fixed: Option<Split>,
    models: impl IntoIterator<Item = (&'static str, Arc<dyn Model>)>,
) -> Vec<Way> {
    let ways = models.into_iter().flat_map(|(engine, model)| {
        let free = splits(threads, &*model).filter(move |_| fixed.is_none());
        fixed.into_iter().chain(free).map(move |split| Way {
            engine,
            model: model.clone(),
            split,
        })
    });
    ways.collect()
}

/// How the threads may be shared out: a worker each, or all of them for one run at a time.
fn splits(threads: usize, model: &dyn Model) -> impl Iterator<Item = Split> + use<> {
    let each = Split {
        workers: threads,
        threads: 1,
    };
    let together = Split {
        workers: 1,
        threads,
    };
    let splits_runs = threads > 1 && model.splits_runs();
    iter::once(each).chain(splits_runs.then_some(together))
}

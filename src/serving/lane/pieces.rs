//! A request with more rows than a batch should have: cut into pieces that run side by side, and their answers put
//! together again.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::admission::{Gate, expired, lost, overdue};
use super::job::Reply;
use super::{Completed, Request, Shape, Shared, Timing};
use crate::error::Result;
use crate::serving::batcher::Size;
use crate::serving::cost::Costs;
use crate::telemetry::metrics::DropReason;
use crate::tensor::batch::{self, ShapeClass};

/// A piece runs for at least about this long, where it may: shorter ones cost more than they bring.
const LEAST_PIECE: Duration = Duration::from_micros(500);

/// The rows of each piece, as even as can be; one piece where cutting does not pay.
pub fn counts(costs: &Costs, class: &ShapeClass, size: Size) -> Vec<usize> {
    let rows = size.rows;
    let best = costs.rows_of(class, rows).max(1);
    let must = rows.div_ceil(costs.bounds().most_rows.max(1));
    if rows <= best && must <= 1 {
        return vec![rows];
    }
    let may = costs.expected(class, size).as_nanos() / LEAST_PIECE.as_nanos();
    let may = usize::try_from(may).unwrap_or(usize::MAX);
    let pieces = rows.div_ceil(best).min(may).max(must).max(1);
    let (each, more) = (rows / pieces, rows % pieces);
    (0..pieces)
        .map(|at| each + usize::from(at < more))
        .collect()
}

/// How a request is cut.
pub struct Cut {
    pub shape: Shape,
    /// The rows of each piece.
    pub counts: Vec<usize>,
}

impl Shared {
    /// Runs a request in pieces. What ends one of them ends all.
    pub(super) async fn run_in_pieces(
        &self,
        request: Request,
        cut: Cut,
        gate: Gate,
    ) -> Result<Completed> {
        let Cut { shape, counts } = cut;
        let (reply, mut answers) = mpsc::channel(counts.len());
        let parts = request.inputs.split(&counts)?.into_iter().enumerate();
        let job = |(at, part)| self.job(&gate, part, &shape, Reply::Piece(at, reply.clone()));
        let jobs = parts.map(job).collect();
        drop(reply);
        let queued = self.push(jobs, &gate)?;
        let (mut pieces, mut waits_until) = (Vec::with_capacity(counts.len()), gate.waits_until);
        while pieces.len() < counts.len() {
            let until = waits_until.unwrap_or(request.deadline);
            match timeout_at(until.into(), answers.recv()).await {
                Ok(Some((at, piece))) => pieces.push((at, piece?)),
                Ok(None) => return Err(lost(request.deadline)),
                Err(_) if waits_until.take().is_none() => return Err(expired()),
                Err(_) if queued.withdraw(DropReason::Expired) => return Err(overdue()),
                // All of them run.
                Err(_) => {}
            }
        }
        pieces.sort_unstable_by_key(|(at, _)| *at);
        let joined = queued.end(Ok(join(
            pieces.into_iter().map(|(_, piece)| piece).collect(),
        )))?;
        match joined {
            Some(joined) => {
                let joined = joined?;
                let Timing { queue, compute } = joined.timing;
                self.runner.metrics.passed(queue, compute);
                Ok(joined)
            }
            None => {
                self.runner.keep_apart(&shape.class);
                let shape = Shape {
                    joins: false,
                    ..shape
                };
                self.run_whole(request, shape, gate).await
            }
        }
    }
}

/// The answers of pieces, in order, as one; nothing if an output of some piece has not as many rows as went in.
fn join(pieces: Vec<Completed>) -> Option<Result<Completed>> {
    let fits = |piece: &Completed| {
        let mut rows = piece.outputs.iter().map(batch::rows);
        rows.all(|rows| rows == Some(piece.rows))
    };
    if !pieces.iter().all(fits) {
        return None;
    }
    Some(put_together(&pieces))
}

fn put_together(pieces: &[Completed]) -> Result<Completed> {
    let outputs = pieces.first().map_or(0, |first| first.outputs.len());
    let output = |at: usize| {
        let parts = pieces.iter().map(|piece| &piece.outputs[at]);
        batch::concat(&parts.collect::<Vec<_>>())
    };
    // From when the first began until the last ended.
    let began = pieces.iter().map(|piece| piece.timing.queue).min();
    let ended = pieces
        .iter()
        .map(|piece| piece.timing.queue + piece.timing.compute);
    let queue = began.unwrap_or_default();
    let compute = ended.max().unwrap_or_default().saturating_sub(queue);
    Ok(Completed {
        outputs: (0..outputs).map(output).collect::<Result<_>>()?,
        rows: pieces.iter().map(|piece| piece.rows).sum(),
        batch_rows: pieces.first().map_or(0, |piece| piece.batch_rows),
        timing: Timing { queue, compute },
    })
}

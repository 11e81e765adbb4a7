//! How a request ends: told once, when its answer is written, and counted alike in the metrics and in the statistics.

use crate::error::{ErrorKind, Result};
use crate::serving::statistics::{Counted, Ran};
use crate::telemetry::metrics::{InferenceRequest, Outcome};

/// A request that ran and whose answer is to be written. Dropped before, it counts as canceled.
pub struct Ending {
    pub(super) counted: InferenceRequest,
    pub(super) statistics: Counted,
    pub(super) ran: Ran,
}

impl Ending {
    /// Counts the request by what came of its answer, and gives that back.
    pub fn told<T>(self, answer: Result<T>) -> Result<T> {
        let Ending {
            counted,
            statistics,
            ran,
        } = self;
        match &answer {
            Ok(_) => {
                statistics.answered(ran);
                counted.finish(Outcome::Ok);
            }
            Err(error) => counted.finish(outcome(error.kind())),
        }
        answer
    }
}

/// What an error counts as.
pub fn outcome(kind: ErrorKind) -> Outcome {
    match kind {
        ErrorKind::InvalidArgument
        | ErrorKind::PermissionDenied
        | ErrorKind::NotFound
        | ErrorKind::TooLarge
        | ErrorKind::RequestTimeout => Outcome::Invalid,
        ErrorKind::QueueFull | ErrorKind::Unavailable => Outcome::Rejected,
        ErrorKind::DeadlineExceeded => Outcome::Expired,
        ErrorKind::Unimplemented | ErrorKind::Internal => Outcome::Failed,
    }
}

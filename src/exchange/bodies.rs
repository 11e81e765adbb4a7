//! What the bodies of requests in flight may take of the memory together, over every port: each may be as large as
//! `limits.body_bytes`, and many come at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// What a request that is refused for it is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// So many bytes for all bodies. Cloning shares it.
#[derive(Clone)]
pub struct BodyBudget {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// What one body has of the budget, until it is dropped.
pub struct Held {
    budget: BodyBudget,
    bytes: usize,
}

impl BodyBudget {
    /// A budget of so many bytes.
    pub fn new(most: usize) -> BodyBudget {
        BodyBudget {
            taken: Arc::default(),
            most,
        }
    }

    /// The bytes that are taken now.
    pub fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// For a body of which nothing has come yet.
    pub fn hold(&self) -> Held {
        Held {
            budget: self.clone(),
            bytes: 0,
        }
    }
}

impl Held {
    /// Takes so much more, or refuses it at once.
    pub fn take(&mut self, bytes: usize) -> Result<()> {
        let BodyBudget { taken, most } = &self.budget;
        let fits = |taken: usize| taken.checked_add(bytes).filter(|taken| taken <= most);
        if taken.fetch_update(Relaxed, Relaxed, fits).is_err() {
            let message = format!(
                "the bodies of requests in flight may take {most} bytes together (limits.bodies_in_flight_bytes), and this one does not fit now; try again later"
            );
            return Err(Error::new(ErrorKind::QueueFull, message).with_retry_after(RETRY_AFTER));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back what it has.
    pub fn give_back(&mut self) {
        self.budget.taken.fetch_sub(self.bytes, Relaxed);
        self.bytes = 0;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_until_others_have_ended() -> Result<()> {
        let budget = BodyBudget::new(10);
        let (mut one, mut other) = (budget.hold(), budget.hold());
        one.take(4)?;
        other.take(6)?;
        assert!(one.take(1).is_err() && one.take(usize::MAX).is_err());
        drop(other);
        one.take(6)?;
        one.give_back();
        budget.hold().take(10)
    }
}

//! Orders to load and to unload models: given by whoever may, carried out one at a time by the loader, off the way of
//! requests.
//!
//! An order that was taken is carried out whether or not its giver still waits.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};

/// So many orders wait at most.
const MOST_WAITING: usize = 16;
/// What a giver is told to wait when there are more.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What is to be done with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Serve it as it is in the repository now.
    Load,
    /// Take it out of service.
    Unload,
}

/// One order on its way to the loader.
#[derive(Debug)]
pub struct Order {
    pub action: Action,
    pub model: String,
    /// Whoever gave it may wait here for the end.
    pub reply: oneshot::Sender<Result<()>>,
}

/// Takes orders. Cloning shares it; the loader ends when all of them are gone.
#[derive(Debug, Clone)]
pub struct Orders(SyncSender<Order>);

/// A fresh pair.
pub fn channel() -> (Orders, Receiver<Order>) {
    let (sender, receiver) = sync_channel(MOST_WAITING);
    (Orders(sender), receiver)
}

impl Orders {
    /// Gives an order, or refuses it at once; the answer comes when it has been carried out.
    pub fn give(&self, action: Action, model: &str) -> Result<oneshot::Receiver<Result<()>>> {
        let (reply, answer) = oneshot::channel();
        let model = model.to_owned();
        let order = Order {
            action,
            model,
            reply,
        };
        match self.0.try_send(order) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(Error::new(
                ErrorKind::QueueFull,
                format!("{MOST_WAITING} loads and unloads are waiting already; try again later"),
            )
            .with_retry_after(RETRY_AFTER)),
            Err(TrySendError::Disconnected(_)) => Err(Error::shutting_down()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_wait_in_a_bounded_queue() {
        let (orders, waiting) = channel();
        for _ in 0..MOST_WAITING {
            // Its giver leaves at once, and it waits all the same.
            orders.give(Action::Load, "m").expect("there is a place");
        }
        let refused = orders.give(Action::Load, "m").expect_err("it is full");
        assert_eq!(refused.kind(), ErrorKind::QueueFull);
        assert_eq!(waiting.try_iter().count(), MOST_WAITING);
        drop(waiting);
        let refused = orders
            .give(Action::Unload, "m")
            .expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
    }
}

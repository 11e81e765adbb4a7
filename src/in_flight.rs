//! What requests in flight may take of the memory together, over every port: their bodies, the tensors read from them,
//! the outputs, and the answers until they are written. Many come at once, and each may be as large as
//! `limits.body_bytes`.
//!
//! A request holds what it will take at its peak before it takes it, gives back what it needs no more, and is refused
//! at once where that does not fit. So whatever clients do, all of them together hold no more than the budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

/// What a request that is refused for it is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The shared count is in steps of so many bytes: a small request comes to it twice, when it begins and when it ends.
const STEP: usize = 4 << 10;

/// So many bytes for all requests. Cloning shares it.
#[derive(Debug, Clone)]
pub struct RequestBudget {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// What one request has of the budget, until the last of its parts is dropped.
#[derive(Debug)]
pub struct Held {
    budget: RequestBudget,
    bytes: AtomicUsize,
    /// So much of it is for outputs that are yet to come.
    expected: AtomicUsize,
}

impl RequestBudget {
    /// A budget of so many bytes.
    pub fn new(most: usize) -> RequestBudget {
        RequestBudget {
            taken: Arc::default(),
            most,
        }
    }

    /// The bytes that are taken now.
    pub fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// For a request of which nothing has come yet.
    pub fn hold(&self) -> Arc<Held> {
        Arc::new(Held {
            budget: self.clone(),
            bytes: AtomicUsize::new(0),
            expected: AtomicUsize::new(0),
        })
    }

    fn has_taken(&self, bytes: usize) -> bool {
        let fits = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= self.most);
        self.taken.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }
}

/// What is counted for so many bytes.
fn counted(bytes: usize) -> usize {
    bytes.checked_next_multiple_of(STEP).unwrap_or(usize::MAX)
}

impl Held {
    /// Takes so much more, or refuses it at once.
    pub fn take(&self, bytes: usize) -> Result<()> {
        let mut before = self.bytes.load(Relaxed);
        loop {
            let after = before.saturating_add(bytes);
            let more = counted(after) - counted(before);
            if more > 0 && !self.budget.has_taken(more) {
                return Err(self.refusal(after, bytes));
            }
            match self.bytes.compare_exchange(before, after, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                // Another part of the request took or gave back meanwhile.
                Err(now) => {
                    self.release(more);
                    before = now;
                }
            }
        }
    }

    /// Gives back all of it.
    pub fn give_back_all(&self) {
        self.release(counted(self.bytes.swap(0, Relaxed)));
    }

    /// Holds so much from now on, which may be less than before or more.
    pub fn set(&self, bytes: usize) -> Result<()> {
        let before = self.bytes.load(Relaxed);
        match before.checked_sub(bytes) {
            None => self.take(bytes - before),
            Some(less) => {
                let before = self.bytes.fetch_sub(less, Relaxed);
                self.release(counted(before) - counted(before - less));
                Ok(())
            }
        }
    }

    /// Bytes that are held until nobody needs them any more, however long a client takes to read them.
    pub fn until_dropped(self: Arc<Held>, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        Bytes::from_owner(HeldBytes { bytes, _held: self })
    }

    /// The same for bytes that are there already, and count beside whatever this one has.
    pub fn beside(&self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        let (held, length) = (self.budget.hold(), bytes.as_ref().len());
        held.bytes.store(length, Relaxed);
        self.budget.taken.fetch_add(counted(length), Relaxed);
        held.until_dropped(bytes)
    }

    fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.budget.taken.fetch_sub(bytes, Relaxed);
        }
    }

    fn refusal(&self, needed: usize, more: usize) -> Error {
        let most = self.budget.most;
        if needed > most {
            return Error::too_large(format!(
                "the request takes {needed} bytes of memory with its answer, and all requests in flight may take {most} (limits.bodies_in_flight_bytes); send fewer rows at once"
            ));
        }
        let taken = self.budget.taken();
        let message = format!(
            "the requests in flight take {taken} of {most} bytes of memory (limits.bodies_in_flight_bytes), and {more} more for this one do not fit now; try again later"
        );
        Error::new(ErrorKind::QueueFull, message).with_retry_after(RETRY_AFTER)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back_all();
    }
}

struct HeldBytes<B> {
    bytes: B,
    _held: Arc<Held>,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for HeldBytes<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// What a request holds for its outputs. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Room {
    held: Arc<Held>,
    per_byte: usize,
}

impl Room {
    /// Room in what a request holds. Until the answer is written, each byte of outputs takes so many: as itself, and in
    /// the form that is written or, where outputs are put together from pieces, once more.
    pub fn new(held: Arc<Held>, written_per_byte: usize) -> Room {
        let per_byte = 1 + written_per_byte;
        Room { held, per_byte }
    }

    /// Takes room for so many bytes of outputs, before there are any. It is a guess, so no request is refused for it that
    /// has all of the memory for itself.
    pub fn expect(&self, outputs: usize) -> Result<()> {
        let Held { budget, bytes, .. } = &*self.held;
        let most = budget.most.saturating_sub(bytes.load(Relaxed));
        let expected = self.taken_by(outputs).min(most);
        self.held.take(expected)?;
        self.held.expected.fetch_add(expected, Relaxed);
        Ok(())
    }

    /// So many bytes of outputs have come: what was not expected of them is taken now, or refused.
    pub fn came(&self, outputs: usize) -> Result<()> {
        let came = self.taken_by(outputs);
        let left = |expected: usize| Some(expected.saturating_sub(came));
        let expected = self.held.expected.fetch_update(Relaxed, Relaxed, left);
        self.held
            .take(came.saturating_sub(expected.unwrap_or_default()))
    }

    fn taken_by(&self, outputs: usize) -> usize {
        outputs.saturating_mul(self.per_byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(steps: usize) -> RequestBudget {
        RequestBudget::new(steps * STEP)
    }

    #[test]
    fn what_does_not_fit_is_refused_until_others_have_ended() -> Result<()> {
        let budget = budget(10);
        let (one, other) = (budget.hold(), budget.hold());
        one.take(4 * STEP)?;
        other.take(6 * STEP)?;
        let refused = one.take(1).expect_err("it is full");
        assert_eq!(refused.kind(), ErrorKind::QueueFull);
        assert_eq!(
            refused.public_message(),
            "the requests in flight take 40960 of 40960 bytes of memory (limits.bodies_in_flight_bytes), and 1 more for this one do not fit now; try again later"
        );
        drop(other);
        one.take(6 * STEP)?;
        one.give_back_all();
        budget.hold().take(10 * STEP)
    }

    #[test]
    fn what_never_fits_is_told_so() {
        let refused = budget(2).hold().take(3 * STEP);
        let refused = refused.expect_err("it is more than there is");
        assert_eq!(refused.kind(), ErrorKind::TooLarge);
        let refused = budget(2).hold().take(usize::MAX);
        assert!(refused.is_err());
    }

    #[test]
    fn small_amounts_are_counted_once() -> Result<()> {
        let budget = budget(1);
        let held = budget.hold();
        held.take(1)?;
        held.take(STEP - 1)?;
        assert_eq!(budget.taken(), STEP);
        held.set(7)?;
        assert_eq!(budget.taken(), STEP);
        held.set(0)?;
        assert_eq!(budget.taken(), 0);
        Ok(())
    }

    #[test]
    fn an_answer_is_held_until_it_is_written() -> Result<()> {
        let budget = budget(4);
        let held = budget.hold();
        held.take(2 * STEP)?;
        let mut answer = held.until_dropped(vec![1; 2 * STEP]);
        let written = answer.split_to(STEP);
        drop(answer);
        assert_eq!(budget.taken(), 2 * STEP);
        drop(written);
        assert_eq!(budget.taken(), 0);
        Ok(())
    }

    #[test]
    fn outputs_take_room_as_themselves_and_as_they_are_written() -> Result<()> {
        let budget = budget(20);
        let room = Room::new(budget.hold(), 4);
        room.expect(2 * STEP)?;
        assert_eq!(budget.taken(), 10 * STEP);
        room.came(STEP)?;
        assert_eq!(budget.taken(), 10 * STEP);
        room.came(2 * STEP)?;
        assert_eq!(budget.taken(), 15 * STEP);
        assert!(room.came(2 * STEP).is_err());
        room.came(STEP)
    }

    #[test]
    fn a_guess_refuses_nothing_that_has_the_memory_for_itself() -> Result<()> {
        let budget = budget(20);
        let room = Room::new(budget.hold(), 1);
        room.expect(usize::MAX)?;
        room.came(10 * STEP)?;
        assert_eq!(budget.taken(), 20 * STEP);
        let other = Room::new(budget.hold(), 1);
        assert!(other.expect(1).is_err());
        let refused = room.came(1).expect_err("there is no more");
        assert_eq!(refused.kind(), ErrorKind::TooLarge);
        Ok(())
    }
}

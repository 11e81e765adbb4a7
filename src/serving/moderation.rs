//! While requests are refused, async threads look at what has come every few milliseconds, and not at every request.
//!
//! A request that comes while workers compute takes a core from one of them, with caches that the model's weights have
//! filled; so refusing a request alone takes a multiple of what refusing the next one right after it does. Network drivers
//! have the same trouble and the same remedy (interrupt moderation; Linux's NAPI polls while packets keep coming).

use std::cell::Cell;
use std::thread;
use std::time::Duration;

/// A pause takes such a part of the time for which the workers have work, so that none runs out of it meanwhile.
const SHARE: u32 = 8;
/// Answers wait for the end of a pause too, those of other models included.
const LONGEST: Duration = Duration::from_millis(4);
/// A shorter pause brings nothing together.
const SHORTEST: Duration = Duration::from_micros(100);

thread_local! {
    /// The shortest that the refusals since the last pause allow.
    static PAUSE: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Notes that this thread has refused a request which would have had to wait so long.
pub fn refused(wait: Duration) {
    let most = PAUSE.get().unwrap_or(LONGEST);
    PAUSE.set(Some(most.min(wait / SHARE)));
}

/// What an async thread does when it has nothing left to do, before it waits for more.
pub fn before_park() {
    if let Some(pause) = PAUSE.take().filter(|pause| *pause >= SHORTEST) {
        thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[track_caller]
    fn check(waits_ms: &[u64], pause_us: u64) {
        for wait in waits_ms {
            refused(Duration::from_millis(*wait));
        }
        assert_eq!(PAUSE.take(), Some(Duration::from_micros(pause_us)));
    }

    #[test]
    fn no_worker_runs_out_of_work_in_a_pause() {
        check(&[0], 0);
        check(&[8], 1_000);
        check(&[60_000], 4_000);
        check(&[60_000, 8, 16], 1_000);
    }

    #[test]
    fn refusals_make_one_pause() {
        refused(Duration::from_secs(1));
        refused(Duration::from_secs(1));
        let began = Instant::now();
        before_park();
        assert!(began.elapsed() >= LONGEST);
        assert_eq!(PAUSE.get(), None);
    }
}

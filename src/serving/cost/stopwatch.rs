//! How long a run takes, and what it costs. The two differ where the machine has other things to do meanwhile: a long run is
//! then nearly always interrupted and a short one hardly ever, so that by time alone small batches would seem cheaper.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// A run's times.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// From its beginning to its end.
    pub took: Duration,
    /// What it would have taken undisturbed, as far as that can be told.
    pub cost: Duration,
}

/// Runs for as long as a run does, on the thread that called it.
pub struct Stopwatch {
    started: Instant,
    /// The thread's CPU time then, where that is what counts.
    cpu: Option<Duration>,
}

impl Stopwatch {
    /// For a run that computes on this thread alone, or not.
    pub fn start(computes_here: bool) -> Stopwatch {
        Stopwatch {
            started: Instant::now(),
            cpu: computes_here.then(cpu_time),
        }
    }

    pub fn stop(self) -> Times {
        let took = self.started.elapsed();
        let cost = self.cpu.map(|before| cpu_time().saturating_sub(before));
        Times {
            took,
            // The clocks may differ by a tick.
            cost: cost.map_or(took, |cost| cost.min(took)),
        }
    }
}

/// What this thread has computed in all.
fn cpu_time() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = u32::try_from(tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(tv_sec).unwrap_or_default(), nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_waits_costs_nothing() {
        let pause = Duration::from_millis(20);
        let Times { took, cost } = {
            let watch = Stopwatch::start(true);
            std::thread::sleep(pause);
            watch.stop()
        };
        assert!(took >= pause && cost < pause, "{took:?} {cost:?}");
        let watch = Stopwatch::start(false);
        std::thread::sleep(pause);
        assert!(watch.stop().cost >= pause, "others compute");
    }
}

//! What one connection is doing, and until when it may go on like that.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::config::ConnectionLimits;

/// What the times here count from, since atomics hold no [`Instant`].
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A moment, in microseconds since [`EPOCH`].
pub type Micros = u64;

/// Now.
pub fn now() -> Micros {
    EPOCH.elapsed().as_micros() as Micros
}

/// The same moment for timers.
pub fn instant(at: Micros) -> tokio::time::Instant {
    tokio::time::Instant::from_std(*EPOCH + Duration::from_micros(at))
}

/// For so long after it was opened, or after its last answer, a connection's next request may be on its way.
const ON_ITS_WAY: Micros = 200_000;

/// Why a connection is asked to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// There was no request for long.
    Idle,
    /// Others need its place.
    Room,
    /// The server is closing.
    Closing,
}

impl Farewell {
    /// The limit that it is asked for.
    pub fn limit(self) -> Limit {
        match self {
            Farewell::Idle => Limit::Idle,
            Farewell::Room => Limit::Room,
            Farewell::Closing => Limit::Closing,
        }
    }

    /// How long a connection without a request may still take, for one that is on its way; whoever waits for room has
    /// less patience.
    fn grace(self) -> Duration {
        match self {
            Farewell::Room => Duration::from_millis(50),
            Farewell::Idle | Farewell::Closing => Duration::from_millis(500),
        }
    }
}

/// Which limit a connection has run into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The head of a request did not come to its end.
    Head,
    /// There was no request.
    Idle,
    /// The client takes nothing of its answers.
    Answer,
    /// Others needed its place.
    Room,
    /// The server closed.
    Closing,
}

impl Limit {
    /// Those that a server at work closes connections for.
    pub const COUNTED: [Limit; 4] = [Limit::Head, Limit::Idle, Limit::Answer, Limit::Room];

    /// What the metrics call it.
    pub fn label(self) -> &'static str {
        match self {
            Limit::Head => "header_timeout",
            Limit::Idle => "idle_timeout",
            Limit::Answer => "answer_timeout",
            Limit::Room => "max_connections",
            Limit::Closing => "closing",
        }
    }
}

/// Shared by the connection's stream, its requests, and whoever looks for a place for another connection.
#[derive(Debug)]
pub struct Activity {
    /// Requests whose answers are not yet handed over.
    in_flight: AtomicUsize,
    /// When there was last a request, or when its head began.
    since: AtomicU64,
    head_begun: AtomicBool,
    /// When the stream refused bytes that it has not taken since; 0 if there are none.
    stuck_since: AtomicU64,
    farewell: AtomicU8,
    asked_at: AtomicU64,
    asked: Notify,
}

impl Default for Activity {
    fn default() -> Self {
        Activity {
            in_flight: AtomicUsize::new(0),
            since: AtomicU64::new(now()),
            head_begun: AtomicBool::new(false),
            stuck_since: AtomicU64::new(0),
            farewell: AtomicU8::new(0),
            asked_at: AtomicU64::new(0),
            asked: Notify::new(),
        }
    }
}

/// A request in flight, for as long as it lives.
#[derive(Debug)]
pub struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.since.store(now(), Relaxed);
        // Whoever sees the request gone sees since when.
        self.0.in_flight.fetch_sub(1, Release);
    }
}

impl Activity {
    /// A request begins.
    pub fn begin(self: &Arc<Activity>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(self.clone())
    }

    /// Bytes came; whether a head has begun and not ended. While a request is in flight, that head's time has not begun.
    pub fn came(&self, is_in_head: bool) {
        let was_in_head = self.head_begun.swap(is_in_head, Relaxed);
        if is_in_head && !was_in_head && self.in_flight.load(Acquire) == 0 {
            self.since.store(now(), Relaxed);
        }
    }

    /// The stream took what was written, or none of it.
    pub fn wrote(&self, is_stuck: bool) {
        let stuck_since = self.stuck_since.load(Relaxed);
        match is_stuck {
            true if stuck_since == 0 => self.stuck_since.store(now().max(1), Relaxed),
            false if stuck_since != 0 => self.stuck_since.store(0, Relaxed),
            _ => {}
        }
    }

    /// Since when there has been no request, if that is long enough for none to be on its way, and the connection is
    /// not about to leave anyway.
    pub fn idle_since(&self) -> Option<Micros> {
        let is_free = self.in_flight.load(Acquire) == 0
            && self.stuck_since.load(Relaxed) == 0
            && self.farewell().is_none();
        let since = self.since.load(Relaxed);
        (is_free && since + ON_ITS_WAY <= now()).then_some(since)
    }

    /// Asks the connection to leave, which [`Activity::asked`] tells it.
    pub fn ask_to_leave(&self, farewell: Farewell) {
        self.asked_at.store(now(), Relaxed);
        self.farewell.store(
            match farewell {
                Farewell::Idle => 1,
                Farewell::Room => 2,
                Farewell::Closing => 3,
            },
            Release,
        );
        self.asked.notify_one();
    }

    /// Waits until the connection is asked to leave.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Why it was asked to leave, if it was.
    pub fn farewell(&self) -> Option<Farewell> {
        match self.farewell.load(Acquire) {
            0 => None,
            1 => Some(Farewell::Idle),
            2 => Some(Farewell::Room),
            _ => Some(Farewell::Closing),
        }
    }

    /// When what goes on now must be over, and which limit that is; `None` while a request is worked on.
    pub fn due(&self, limits: &ConnectionLimits) -> Option<(Micros, Limit)> {
        let after = |since: Micros, time: Duration, limit| {
            Some((since.saturating_add(time.as_micros() as Micros), limit))
        };
        let stuck_since = self.stuck_since.load(Relaxed);
        if stuck_since != 0 {
            return after(stuck_since, limits.body_timeout, Limit::Answer);
        }
        if self.in_flight.load(Acquire) > 0 {
            return None;
        }
        let since = self.since.load(Relaxed);
        if let Some(farewell) = self.farewell() {
            let since = since.max(self.asked_at.load(Relaxed));
            return after(since, farewell.grace(), farewell.limit());
        }
        match self.head_begun.load(Relaxed) {
            true => after(since, limits.header_timeout, Limit::Head),
            false => after(since, limits.idle_timeout, Limit::Idle),
        }
    }
}

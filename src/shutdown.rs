//! From the first signal to the last answer: the phases of a shutdown, which everything that serves watches.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How far the server is on its way out. The order of the variants is the order in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything is served.
    Serving,
    /// Not ready any more; new requests are still served while endpoints are removed.
    Draining,
    /// Nothing new is accepted; requests in flight are finished.
    Closing,
    /// The time is up: what is left is answered with 503.
    Ending,
}

/// Moves the server through its phases.
#[derive(Debug)]
pub struct ShutdownControl {
    phase: watch::Sender<Phase>,
}

/// Watches the phases. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Shutdown {
    phase: watch::Receiver<Phase>,
}

/// A fresh pair in [`Phase::Serving`].
pub fn channel() -> (ShutdownControl, Shutdown) {
    let (sender, receiver) = watch::channel(Phase::Serving);
    (
        ShutdownControl { phase: sender },
        Shutdown { phase: receiver },
    )
}

impl ShutdownControl {
    /// A watcher of the phases.
    pub fn watch(&self) -> Shutdown {
        Shutdown {
            phase: self.phase.subscribe(),
        }
    }

    /// Moves on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let forward = phase > *current;
            *current = phase.max(*current);
            forward
        });
    }
}

impl Shutdown {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether the server is on its way out.
    pub fn is_draining(&self) -> bool {
        self.phase() > Phase::Serving
    }

    /// Waits until `phase` or a later one is reached.
    pub async fn reached(&self, phase: Phase) {
        let mut watched = self.phase.clone();
        if watched.wait_for(|current| *current >= phase).await.is_err() {
            // The control is gone without having got there, so it never will.
            std::future::pending::<()>().await;
        }
    }
}

/// What asked the server to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM: an orchestrator, whose endpoints are removed while we drain.
    Terminate,
    /// SIGINT: a person at a terminal, who does not want to wait.
    Interrupt,
}

impl Stop {
    /// How long to go on serving new requests.
    pub fn drain_delay(self, configured: Duration) -> Duration {
        match self {
            Stop::Terminate => configured,
            Stop::Interrupt => Duration::ZERO,
        }
    }

    /// The exit code of a process that this signal ended at once.
    pub fn exit_code(self) -> u8 {
        match self {
            Stop::Terminate => 128 + 15,
            Stop::Interrupt => 128 + 2,
        }
    }
}

/// The process's signals, listened to from the moment this is made.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen; from now on the signals do not end the process by themselves.
    pub fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::Terminate,
            _ = self.interrupt.recv() => Stop::Interrupt,
        }
    }
}

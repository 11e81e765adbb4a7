//! Accepts connections and serves HTTP/1.1 and HTTP/2 on each, until the server stops accepting and the last one is
//! done. The limits hold over all ports that share a [`Connections`]: the public ports do, the admin address has its own.

mod activity;
mod conversation;
mod framing;
mod service;
mod stream;
mod streams;
pub mod unread;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use self::activity::{Activity, Farewell, Limit};
use crate::config::ConnectionLimits;
use crate::shutdown::{Phase, Shutdown};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::process;

/// How long to wait before accepting again when the system has no room for another connection, or before asking more
/// connections to leave.
const ROOM_PAUSE: Duration = Duration::from_millis(50);
/// At the cap a tenth of all connections is asked to leave at once, but no more than this, so that they are seldom
/// searched.
const MOST_LEAVING: usize = 100;
/// File descriptors that are left for everything but connections.
const OTHER_FILES: usize = 256;

/// The connections of all ports that share one limit. Cloning is cheap.
#[derive(Clone)]
pub struct Connections {
    shared: Arc<Shared>,
}

struct Shared {
    limits: ConnectionLimits,
    shutdown: Shutdown,
    metrics: Metrics,
    room: Arc<Semaphore>,
    open: Mutex<HashMap<u64, Arc<Activity>>>,
    next_id: AtomicU64,
}

type Accepted = io::Result<(TcpStream, SocketAddr)>;

impl Connections {
    /// No connections yet, on no port. There may be as many as the limits say, and as so many percent of
    /// the descriptors that connections can have suffice for.
    pub fn new(
        limits: ConnectionLimits,
        percent: usize,
        shutdown: Shutdown,
        metrics: Metrics,
    ) -> Connections {
        for limit in Limit::COUNTED {
            metrics.count_closed_connections(limit.label(), 0);
        }
        let shared = Shared {
            limits,
            shutdown,
            metrics,
            room: Arc::new(Semaphore::new(possible(limits.max_connections, percent))),
            open: Mutex::default(),
            next_id: AtomicU64::new(0),
        };
        Connections {
            shared: Arc::new(shared),
        }
    }

    /// Serves until [`Phase::Closing`]; returns when every connection of this port has ended. Idle connections are
    /// closed at once, busy ones after their answer.
    pub async fn serve(&self, listener: TcpListener, router: Router) {
        // Every connection holds a clone of the sender, so the channel ends with the last one.
        let (alive, mut all_ended) = mpsc::channel::<()>(1);
        let port = Port {
            connections: self.shared.clone(),
            router,
            alive,
            is_failing: AtomicBool::new(false),
        };
        let mut closing = pin!(self.shared.shutdown.reached(Phase::Closing));
        loop {
            tokio::select! {
                accepted = listener.accept() => port.take(accepted).await,
                () = &mut closing => break,
            }
        }
        // What the system had accepted for us by then is served as well.
        while let Some(accepted @ Ok(_)) = accept_waiting(&listener).await {
            port.take(accepted).await;
        }
        drop(listener);
        drop(port);
        self.shared.ask_all_to_leave();
        all_ended.recv().await;
    }
}

/// The next connection that is already there. Without tokio's budget, which would end a long backlog early.
async fn accept_waiting(listener: &TcpListener) -> Option<Accepted> {
    tokio::task::unconstrained(async {
        tokio::select! {
            biased;
            accepted = listener.accept() => Some(accepted),
            () = std::future::ready(()) => None,
        }
    })
    .await
}

/// What the connections of one port need.
struct Port {
    connections: Arc<Shared>,
    router: Router,
    alive: mpsc::Sender<()>,
    /// Whether the last attempt to accept failed, which is logged once.
    is_failing: AtomicBool,
}

impl Port {
    async fn take(&self, accepted: Accepted) {
        match accepted {
            Ok((stream, _)) => {
                self.is_failing.store(false, Relaxed);
                let room = self.connections.room().await;
                self.spawn(stream, room);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if !self.is_failing.swap(true, Relaxed) {
                    tracing::error!(reason = error.to_string(), "cannot accept connections");
                }
                // Most likely there are no descriptors left, which idle connections can give back.
                self.connections.ask_idle_to_leave();
                tokio::time::sleep(ROOM_PAUSE).await;
            }
        }
    }

    fn spawn(&self, stream: TcpStream, room: OwnedSemaphorePermit) {
        let (router, alive) = (self.router.clone(), self.alive.clone());
        let open = self.connections.clone().open();
        tokio::spawn(async move {
            let connections = &open.connections;
            let end = conversation::converse(stream, router, &open.activity, &connections.limits);
            if let Some(limit) = end.await {
                connections
                    .metrics
                    .count_closed_connections(limit.label(), 1);
            }
            drop((open, room, alive));
        });
    }
}

impl Shared {
    /// Waits until there is room for one more. Where there is none, those that have been without a request for the
    /// longest time make room.
    async fn room(&self) -> OwnedSemaphorePermit {
        loop {
            let room = self.room.clone();
            if let Ok(room) = room.clone().try_acquire_owned() {
                return room;
            }
            self.ask_idle_to_leave();
            tokio::select! {
                Ok(room) = room.acquire_owned() => return room,
                () = tokio::time::sleep(ROOM_PAUSE) => {}
            }
        }
    }

    fn open(self: Arc<Shared>) -> Open {
        let id = self.next_id.fetch_add(1, Relaxed);
        let activity = Arc::new(Activity::default());
        self.lock().insert(id, activity.clone());
        self.metrics.connection_opened();
        Open {
            connections: self,
            id,
            activity,
        }
    }

    fn ask_idle_to_leave(&self) {
        let open = self.lock();
        let mut idle: Vec<_> = open
            .values()
            .filter_map(|activity| Some((activity.idle_since()?, activity)))
            .collect();
        let count = open.len().div_ceil(10).min(MOST_LEAVING).min(idle.len());
        if count == 0 {
            return;
        }
        idle.select_nth_unstable_by_key(count - 1, |(since, _)| *since);
        for (_, activity) in &idle[..count] {
            activity.ask_to_leave(Farewell::Room);
        }
    }

    fn ask_all_to_leave(&self) {
        for activity in self.lock().values() {
            activity.ask_to_leave(Farewell::Closing);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Activity>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place among the open ones.
struct Open {
    connections: Arc<Shared>,
    id: u64,
    activity: Arc<Activity>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.id);
        self.connections.metrics.connection_closed();
    }
}

/// As many connections as are wanted and as so many percent of the descriptors suffice for.
fn possible(wanted: usize, percent: usize) -> usize {
    let Some(files) = process::raise_open_files_limit() else {
        return wanted;
    };
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let all = files.saturating_sub(OTHER_FILES).max(files / 2);
    let possible = (all.saturating_mul(percent) / 100).max(1);
    if possible < wanted {
        tracing::warn!(
            wanted,
            possible,
            files,
            "the limit on open files allows fewer connections than server.max_connections"
        );
    }
    possible.min(wanted)
}

/// The client gave up before we came to it; the next one may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

//! Accepts connections and serves HTTP/1.1 on each, until the server stops accepting and the last one is done.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::shutdown::{Phase, Shutdown};

/// How long to wait before accepting again when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection that has sent nothing yet may do so once the server is closing.
const FIRST_BYTES: Duration = Duration::from_millis(100);

/// Serves until [`Phase::Closing`]; returns when every connection has ended. Idle connections are closed at once,
/// busy ones after their answer.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) {
    // Every connection holds a clone of the sender, so the channel ends with the last one.
    let (alive, mut all_ended) = mpsc::channel::<()>(1);
    let connections = Connections {
        router,
        shutdown,
        alive,
    };
    let mut closing = pin!(connections.shutdown.reached(Phase::Closing));
    loop {
        tokio::select! {
            accepted = listener.accept() => connections.take(accepted).await,
            () = &mut closing => break,
        }
    }
    // What the system had accepted for us by then is served as well.
    while let Some(accepted @ Ok(_)) = accept_waiting(&listener).await {
        connections.take(accepted).await;
    }
    drop(listener);
    drop(connections.alive);
    all_ended.recv().await;
}

type Accepted = io::Result<(TcpStream, std::net::SocketAddr)>;

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

/// What every connection needs.
struct Connections {
    router: Router,
    shutdown: Shutdown,
    alive: mpsc::Sender<()>,
}

impl Connections {
    async fn take(&self, accepted: Accepted) {
        match accepted {
            Ok((stream, _)) => self.spawn(stream),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(reason = error.to_string(), "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn spawn(&self, stream: TcpStream) {
        let (router, shutdown, alive) = (
            self.router.clone(),
            self.shutdown.clone(),
            self.alive.clone(),
        );
        tokio::spawn(async move {
            converse(stream, router, shutdown).await;
            drop(alive);
        });
    }
}

/// The client gave up before we came to it; the next one may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

async fn converse(stream: TcpStream, router: Router, shutdown: Shutdown) {
    // Answers are written whole; waiting to fill a packet would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(reason = error.to_string(), "cannot set TCP_NODELAY");
    }
    // hyper closes a connection that has read nothing as soon as it is to shut down, and a request may be waiting
    // unread on a fresh one.
    tokio::select! {
        _ = stream.readable() => {}
        () = closed_for(&shutdown, FIRST_BYTES) => return,
    }
    let service = TowerToHyperService::new(router);
    // hyper's header timeout also runs while a kept-alive connection idles, which balancers do for minutes.
    let mut connection = pin!(
        http1::Builder::new()
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = shutdown.reached(Phase::Closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(reason = error.to_string(), "connection ended early");
    }
}

/// Waits until the server has been closing for this long.
async fn closed_for(shutdown: &Shutdown, time: Duration) {
    shutdown.reached(Phase::Closing).await;
    tokio::time::sleep(time).await;
}

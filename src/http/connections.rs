//! Accepts connections and serves HTTP/1.1 on each, until the server stops accepting and the last one is done.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

use crate::shutdown::{Phase, Shutdown};

/// How long to wait before accepting again when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until [`Phase::Closing`]; returns when every connection has ended. Idle connections are closed at once,
/// busy ones after their answer.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) {
    let connections = GracefulShutdown::new();
    let closing = shutdown.reached(Phase::Closing);
    tokio::pin!(closing);
    loop {
        tokio::select! {
            accepted = listener.accept() => take(accepted, &router, &connections).await,
            () = &mut closing => break,
        }
    }
    // What the system had accepted for us by then is served as well, not reset.
    while let Some(accepted) = accept_waiting(&listener).await {
        take(accepted, &router, &connections).await;
    }
    drop(listener);
    connections.shutdown().await;
}

async fn accept_waiting(listener: &TcpListener) -> Option<Accepted> {
    tokio::select! {
        biased;
        accepted = listener.accept() => Some(accepted),
        () = std::future::ready(()) => None,
    }
}

type Accepted = io::Result<(TcpStream, std::net::SocketAddr)>;

async fn take(accepted: Accepted, router: &Router, connections: &GracefulShutdown) {
    match accepted {
        Ok((stream, _)) => spawn(stream, router.clone(), connections),
        Err(error) if is_of_one_connection(&error) => {}
        Err(error) => {
            tracing::error!(reason = error.to_string(), "cannot accept connections");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
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

fn spawn(stream: TcpStream, router: Router, connections: &GracefulShutdown) {
    // Answers are written whole; waiting to fill a packet would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(reason = error.to_string(), "cannot set TCP_NODELAY");
    }
    let service = TowerToHyperService::new(router);
    // hyper's header timeout also runs while a kept-alive connection idles, which balancers do for minutes.
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(reason = error.to_string(), "connection ended early");
        }
    });
}

//! The addresses that the server listens on, and what is served at each.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use tokio::net::{TcpListener, TcpSocket};

use crate::config::{ConnectionLimits, Limits, ServerConfig};
use crate::error::{Error, Result};
use crate::grpc;
use crate::http::connections::Connections;
use crate::http::route::Route;
use crate::http::{self, App};
use crate::in_flight::RequestBudget;
use crate::service::Service;
use crate::service::repository::Door;
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::Metrics;

/// Addresses that are listened on, and where nothing is answered yet.
pub struct Listeners {
    http: TcpListener,
    grpc: Option<TcpListener>,
    admin: Option<TcpListener>,
}

/// What all faces share.
pub struct Core {
    pub service: Service,
    pub metrics: Metrics,
    pub shutdown: Shutdown,
    pub limits: Limits,
    pub in_flight: RequestBudget,
}

/// Everything that answers.
pub struct Ports {
    pub http: Port,
    /// `None` where gRPC is off.
    pub grpc: Option<Port>,
    /// Health, metrics and control, where they have an address of their own.
    pub admin: Option<Port>,
}

/// A listener, and what is served there.
pub struct Port {
    pub address: SocketAddr,
    listener: TcpListener,
    router: Router,
    connections: Connections,
}

/// So many connections may wait to be accepted, or as many as the system allows: a client whose connection finds no place
/// tries again after a second.
const BACKLOG: u32 = 4096;
/// What the admin address has of the connections, and of the descriptors that there are for them: few ask there.
const ADMIN_PERCENT: usize = 10;
/// It has this many at least.
const FEWEST_ADMIN: usize = 16;

impl Listeners {
    /// Binds every address that the configuration names, within a runtime.
    pub fn bind(config: &ServerConfig) -> Result<Listeners> {
        let http = SocketAddr::new(config.address, config.port);
        let http = bind(http, "server.port")?;
        let grpc = match config.grpc_port {
            Some(port) => {
                let address = SocketAddr::new(config.address, port);
                Some(bind(address, "server.grpc_port")?)
            }
            None => None,
        };
        let admin = match config.admin_address {
            Some(address) => Some(bind(address, "server.admin_address")?),
            None => None,
        };
        Ok(Listeners { http, grpc, admin })
    }
}

impl Ports {
    /// Puts the faces behind the addresses.
    pub fn new(listeners: Listeners, core: &Core, config: &ServerConfig) -> Result<Ports> {
        let Listeners { http, grpc, admin } = listeners;
        let routes = http::routes(config);
        let router = |door| http::router(core.app(door, http::at_door(&routes, door)), config);
        let connections = |limits, percent| {
            let (shutdown, metrics) = (core.shutdown.clone(), core.metrics.clone());
            Connections::new(limits, percent, shutdown, metrics)
        };
        let limits = config.connections;
        let (public, at_http, admin) = match admin {
            None => {
                let all = routes.as_slice().into();
                let router = http::router(core.app(Door::Public, all), config);
                (connections(limits, 100), router, None)
            }
            Some(admin) => {
                // Apart, so that whoever fills the one does not shut the other.
                let few = limits.max_connections * ADMIN_PERCENT / 100;
                let own = ConnectionLimits {
                    max_connections: few.max(FEWEST_ADMIN),
                    ..limits
                };
                let own = connections(own, ADMIN_PERCENT);
                let admin = Port::new(admin, router(Door::Admin), own)?;
                let public = connections(limits, 100 - ADMIN_PERCENT);
                (public, router(Door::Public), Some(admin))
            }
        };
        let grpc = match grpc {
            Some(listener) => {
                let router = grpc::router(core.grpc_app(config))?;
                Some(Port::new(listener, router, public.clone())?)
            }
            None => None,
        };
        Ok(Ports {
            http: Port::new(http, at_http, public)?,
            grpc,
            admin,
        })
    }

    /// Answers until the server closes and the last connection has ended.
    pub async fn serve(self) {
        let Ports { http, grpc, admin } = self;
        tokio::join!(http.serve(), serve(grpc), serve(admin));
    }
}

async fn serve(port: Option<Port>) {
    if let Some(port) = port {
        port.serve().await;
    }
}

impl Port {
    fn new(listener: TcpListener, router: Router, connections: Connections) -> Result<Port> {
        let unknown = |error| Error::internal("a port has no address").with_source(error);
        let address = listener.local_addr().map_err(unknown)?;
        Ok(Port {
            address,
            listener,
            router,
            connections,
        })
    }

    async fn serve(self) {
        self.connections.serve(self.listener, self.router).await;
    }
}

impl Core {
    fn app(&self, door: Door, routes: Arc<[Route]>) -> App {
        App {
            service: self.service.clone(),
            metrics: self.metrics.clone(),
            shutdown: self.shutdown.clone(),
            limits: self.limits,
            in_flight: self.in_flight.clone(),
            door,
            routes,
        }
    }

    fn grpc_app(&self, config: &ServerConfig) -> grpc::App {
        grpc::App {
            service: self.service.clone(),
            metrics: self.metrics.clone(),
            shutdown: self.shutdown.clone(),
            limits: self.limits,
            in_flight: self.in_flight.clone(),
            request_timeout: config.request_timeout,
            body_timeout: config.connections.body_timeout,
        }
    }
}

fn bind(wanted: SocketAddr, setting: &str) -> Result<TcpListener> {
    let listen = || {
        let socket = match wanted {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // A server that starts anew need not wait for the connections of the last one.
        socket.set_reuseaddr(true)?;
        socket.bind(wanted)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|error| {
        Error::unavailable(format!("cannot listen on {wanted} ({setting})")).with_source(error)
    })
}

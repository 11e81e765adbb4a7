//! `onnxd health`: asks a server whether it is ready, for images that hold no other client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt, Empty};
use hyper::Uri;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Settings, finish};
use crate::config::ServerConfig;
use crate::error::{Error, Result};

/// A server that does not answer for so long is not healthy.
const PATIENCE: Duration = Duration::from_secs(5);
/// The answer is a line of JSON; more is not ours.
const MOST_ANSWER_BYTES: usize = 1 << 20;

/// Ask a running server whether it is ready.
#[derive(Debug, Args)]
pub struct Health {
    /// What to ask [default: /health/ready on this machine, at the configured port]
    url: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

impl Health {
    /// Prints the answer; exits 0 when it is 200.
    pub fn run(self) -> ExitCode {
        let Health { url, settings } = self;
        let url = match url {
            Some(url) => url,
            None => match settings.load() {
                Ok(config) => default_url(&config.server),
                Err(code) => return code,
            },
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime
            .map_err(|error| Error::internal("the async runtime did not start").with_source(error));
        finish(runtime.and_then(|runtime| runtime.block_on(ask_in_time(&url))))
    }
}

/// A server that listens everywhere is asked on loopback.
fn default_url(server: &ServerConfig) -> String {
    let address = match server.address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    format!(
        "http://{}/health/ready",
        SocketAddr::new(address, server.port)
    )
}

async fn ask_in_time(url: &str) -> Result<()> {
    let asked = tokio::time::timeout(PATIENCE, ask(url)).await;
    asked.unwrap_or_else(|_| {
        Err(Error::unavailable(format!(
            "{url} did not answer in {} s",
            PATIENCE.as_secs()
        )))
    })
}

async fn ask(url: &str) -> Result<()> {
    let invalid = || {
        Error::invalid(format!(
            "expected a URL such as http://127.0.0.1:8000/health/ready, got '{url}'"
        ))
    };
    let uri: Uri = url.parse().map_err(|_| invalid())?;
    let host = uri
        .host()
        .filter(|_| uri.scheme_str() == Some("http"))
        .ok_or_else(invalid)?;
    let address = (host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80));
    let cannot =
        |error: &dyn std::error::Error| Error::unavailable(format!("cannot reach {url}: {error}"));
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| cannot(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| cannot(&error))?;
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = hyper::Request::get(path)
        .header(HOST, host)
        .body(Empty::<Bytes>::new())
        .map_err(|_| invalid())?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| cannot(&error))?;
    let status = answer.status();
    let body = http_body_util::Limited::new(answer.into_body(), MOST_ANSWER_BYTES)
        .collect()
        .await;
    let body = body.map_err(|error| cannot(error.as_ref()))?.to_bytes();
    println!("{}", String::from_utf8_lossy(&body));
    match status.is_success() {
        true => Ok(()),
        false => Err(Error::unavailable(format!("{url} answered {status}"))),
    }
}

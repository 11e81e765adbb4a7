//! `onnxd health`: asks a server whether it is ready, for images that hold no other client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::client::{self, Answer, Question};
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
        finish(ask(&url))
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

fn ask(url: &str) -> Result<()> {
    let Answer { status, body } = client::ask(Question {
        url,
        body: None,
        patience: PATIENCE,
        most_answer_bytes: MOST_ANSWER_BYTES,
    })?;
    println!("{}", String::from_utf8_lossy(&body));
    match status.is_success() {
        true => Ok(()),
        false => Err(Error::unavailable(format!("{url} answered {status}"))),
    }
}

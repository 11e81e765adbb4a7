//! One HTTP request to a server, for the commands that ask one.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::error::{Error, Result};

/// What to ask, and how much of an answer to wait for.
pub struct Question<'a> {
    /// Of a server on `http://`.
    pub url: &'a str,
    /// JSON to post; without it the request is a GET.
    pub body: Option<Bytes>,
    /// A server that does not answer for so long is given up.
    pub patience: Duration,
    pub most_answer_bytes: usize,
}

/// A server's answer.
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// Asks a server on a connection of its own.
pub fn ask(question: Question<'_>) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal("the async runtime did not start").with_source(error))?;
    let (url, patience) = (question.url, question.patience);
    runtime.block_on(async {
        let asked = tokio::time::timeout(patience, ask_on(question)).await;
        asked.unwrap_or_else(|_| {
            let seconds = patience.as_secs();
            Err(Error::unavailable(format!(
                "{url} did not answer in {seconds} s"
            )))
        })
    })
}

async fn ask_on(question: Question<'_>) -> Result<Answer> {
    let Question {
        url,
        body,
        patience: _,
        most_answer_bytes,
    } = question;
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
    let request = match body {
        None => Request::get(path).header(HOST, host).body(Full::default()),
        Some(body) => Request::post(path)
            .header(HOST, host)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body)),
    };
    let answer = sender
        .send_request(request.map_err(|_| invalid())?)
        .await
        .map_err(|error| cannot(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), most_answer_bytes)
        .collect()
        .await
        .map_err(|error| cannot(error.as_ref()))?
        .to_bytes();
    Ok(Answer { status, body })
}

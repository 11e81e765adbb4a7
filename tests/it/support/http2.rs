//! A client that speaks HTTP/2 from its first byte on, with a runtime of its own, so that a test may block.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{Error, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::PATIENCE;
use super::client::{Answer, Request};

/// An open connection, over which many requests may be on their way at once.
pub struct Http2 {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<Result<(), Error>>,
}

/// An answer that is yet to come.
pub struct Coming(JoinHandle<Result<Answer, Error>>);

impl Http2 {
    #[track_caller]
    pub fn open(address: SocketAddr) -> Http2 {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let (sender, connection) = runtime.block_on(async {
            let stream = TcpStream::connect(address).await;
            let stream = TokioIo::new(stream.expect("the server accepts"));
            let shaken = Builder::new(TokioExecutor::new()).handshake(stream).await;
            let (sender, connection) = shaken.expect("the server speaks HTTP/2");
            (sender, tokio::spawn(connection))
        });
        Http2 {
            runtime,
            sender,
            connection,
        }
    }

    /// Sends a request and does not wait for its answer.
    pub fn send(&self, request: &Request) -> Coming {
        let response = self.response(request);
        Coming(self.runtime.spawn(async move {
            let (parts, body) = response.await?.into_parts();
            let body = body.collect().await?.to_bytes().to_vec();
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            let headers = parts
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), text(value.as_bytes())));
            Ok(Answer::received(
                parts.status.as_u16(),
                headers.collect(),
                body,
            ))
        }))
    }

    /// Waits for the head of an answer, whose body is not read.
    pub fn head(&self, request: &Request) -> Response<Incoming> {
        let response = self.response(request);
        self.runtime.block_on(response).expect("a head comes")
    }

    /// Reads what is left of an answer; tells how many bytes came, and how they ended.
    pub fn rest(&self, answer: Response<Incoming>) -> (usize, Result<(), Error>) {
        let mut body = answer.into_body();
        let read = async move {
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => bytes += frame.data_ref().map_or(0, Bytes::len),
                    Err(error) => return (bytes, Err(error)),
                }
            }
            (bytes, Ok(()))
        };
        self.in_time(self.runtime.spawn(read))
    }

    fn response(
        &self,
        request: &Request,
    ) -> impl Future<Output = Result<Response<Incoming>, Error>> + Send + 'static {
        let (method, path, headers, body) = request.parts();
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(format!("http://test{path}"));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body)));
        let mut sender = self.sender.clone();
        async move {
            sender
                .send_request(request.expect("the test writes a valid request"))
                .await
        }
    }

    #[track_caller]
    pub fn ask(&self, request: &Request) -> Answer {
        self.wait(self.send(request))
            .expect("an answer comes in time")
    }

    /// Waits for an answer, or for the reason why there is none.
    #[track_caller]
    pub fn wait(&self, coming: Coming) -> Result<Answer, Error> {
        self.in_time(coming.0)
    }

    /// Waits until the server has closed the connection.
    #[track_caller]
    pub fn wait_until_closed(mut self) {
        let connection = std::mem::replace(
            &mut self.connection,
            self.runtime.spawn(std::future::ready(Ok(()))),
        );
        // A reset is an end as well.
        let _ = self.in_time(connection);
    }

    #[track_caller]
    fn in_time<T>(&self, task: JoinHandle<T>) -> T {
        let done = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, task).await });
        done.expect("it ends in time").expect("no panic")
    }
}

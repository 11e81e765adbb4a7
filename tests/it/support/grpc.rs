//! A gRPC client over one HTTP/2 connection. It needs no generated code: a method is a path, and its messages say the
//! rest.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use onnxd::grpc::inference::infer_parameter::ParameterChoice;
use onnxd::grpc::inference::model_infer_request::InferInputTensor;
use onnxd::grpc::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
};
use prost::Message;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::PATIENCE;
use super::server::TestServer;

/// A method of the inference service.
pub fn method(name: &str) -> String {
    format!("/inference.GRPCInferenceService/{name}")
}

/// A client, whose calls block the test.
pub struct Client {
    // Before the runtime, which drives it.
    connection: Connection,
    compression: Option<CompressionEncoding>,
    runtime: Runtime,
}

impl Client {
    /// A client of this server's gRPC port.
    #[track_caller]
    pub fn of(server: &TestServer) -> Client {
        Client::try_open(server.grpc_address.expect("gRPC is on")).expect("the server accepts")
    }

    pub fn try_open(address: SocketAddr) -> std::io::Result<Client> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let connection = runtime.block_on(async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
            let (sender, driver) = handshake.map_err(std::io::Error::other)?;
            tokio::spawn(driver);
            std::io::Result::Ok(Connection(sender))
        })?;
        Ok(Client {
            connection,
            compression: None,
            runtime,
        })
    }

    /// The same client, which compresses what it sends and reads what is compressed so.
    pub fn compressing(self, encoding: CompressionEncoding) -> Client {
        Client {
            compression: Some(encoding),
            ..self
        }
    }

    fn grpc(&self) -> Grpc<Connection> {
        let origin = http::Uri::from_static("http://test");
        let grpc = Grpc::with_origin(self.connection.clone(), origin)
            .max_decoding_message_size(usize::MAX);
        match self.compression {
            Some(encoding) => grpc.send_compressed(encoding).accept_compressed(encoding),
            None => grpc,
        }
    }

    /// Calls a method that has one answer.
    #[track_caller]
    pub fn call<Q, A>(&self, path: &str, request: Request<Q>) -> Result<Response<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = path.parse().expect("a method is a path");
        self.runtime.block_on(async {
            let mut grpc = self.grpc();
            grpc.ready().await.expect("the connection is open");
            let answer = grpc.unary(request, path, ProstCodec::default());
            tokio::time::timeout(PATIENCE, answer)
                .await
                .expect("an answer comes in time")
        })
    }

    /// Calls a method, and leaves a moment later without having been answered.
    pub fn leave<Q: Message + 'static>(&self, path: &str, request: Request<Q>) {
        let path = path.parse().expect("a method is a path");
        self.runtime.block_on(async {
            let mut grpc = self.grpc();
            grpc.ready().await.expect("the connection is open");
            let answer = grpc.unary(request, path, ProstCodec::<Q, ()>::default());
            let moment = std::time::Duration::from_millis(200);
            let answer = tokio::time::timeout(moment, answer).await;
            assert!(answer.is_err(), "it was answered");
        });
    }

    /// The status of a call whose body is these bytes and does not end.
    #[track_caller]
    pub fn stall(&self, path: &str, bytes: Vec<u8>) -> Status {
        let sent = tokio_stream::once(Ok::<_, Status>(Frame::data(bytes.into())));
        let body = StreamBody::new(sent.chain(tokio_stream::pending()));
        let request = http::Request::post(format!("http://test{path}"))
            .header("content-type", "application/grpc")
            .body(tonic::body::Body::new(body))
            .expect("it is a request");
        let mut connection = self.connection.0.clone();
        let ended = async {
            let answer = connection.send_request(request).await.expect("an answer");
            let alone = Status::from_header_map(answer.headers());
            let body = answer.into_body().collect().await.expect("the body ends");
            alone.or_else(|| Status::from_header_map(body.trailers()?))
        };
        let ended = async { tokio::time::timeout(PATIENCE, ended).await };
        let status = self.runtime.block_on(ended).expect("it ends in time");
        status.expect("it ends with a status")
    }

    /// The answer of a method of the inference service.
    #[track_caller]
    pub fn ask<Q, A>(&self, name: &str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let answer = self.call(&method(name), Request::new(request));
        answer.map(Response::into_inner)
    }

    #[track_caller]
    pub fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        self.ask("ModelInfer", request)
    }

    /// Opens a stream of answers to one request.
    #[track_caller]
    pub fn watch<Q, A>(&self, path: &str, request: Q) -> Stream<'_, Q, A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = path.parse().expect("a method is a path");
        let answers = self.runtime.block_on(async {
            let mut grpc = self.grpc();
            grpc.ready().await.expect("the connection is open");
            let answers = grpc.server_streaming(Request::new(request), path, ProstCodec::default());
            let answers = tokio::time::timeout(PATIENCE, answers).await;
            answers.expect("an answer begins in time")
        });
        Stream {
            requests: None,
            answers: answers.expect("the stream opens").into_inner(),
            runtime: &self.runtime,
        }
    }

    /// Opens a stream in both directions.
    #[track_caller]
    pub fn stream<Q, A>(&self, path: &str) -> Stream<'_, Q, A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.stream_of(path, Request::new(Vec::new()))
    }

    /// The same, which begins with these requests and has this metadata.
    #[track_caller]
    pub fn stream_of<Q, A>(&self, path: &str, first: Request<Vec<Q>>) -> Stream<'_, Q, A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = path.parse().expect("a method is a path");
        let (requests, sent) = mpsc::channel(64);
        let (metadata, extensions, first) = first.into_parts();
        for request in first {
            requests.try_send(request).expect("there is room");
        }
        let sent = Request::from_parts(metadata, extensions, ReceiverStream::new(sent));
        let answers = self.runtime.block_on(async {
            let mut grpc = self.grpc();
            grpc.ready().await.expect("the connection is open");
            let answers = grpc.streaming(sent, path, ProstCodec::default());
            let answers = tokio::time::timeout(PATIENCE, answers).await;
            answers.expect("an answer begins in time")
        });
        Stream {
            requests: Some(requests),
            answers: answers.expect("the stream opens").into_inner(),
            runtime: &self.runtime,
        }
    }
}

/// An open stream. Dropping it is what a client does that gives up.
pub struct Stream<'c, Q, A> {
    requests: Option<mpsc::Sender<Q>>,
    answers: Streaming<A>,
    runtime: &'c Runtime,
}

impl<Q, A> Stream<'_, Q, A> {
    pub fn send(&self, request: Q) {
        let requests = self.requests.as_ref().expect("the stream is open");
        let sent = requests.try_send(request);
        assert!(sent.is_ok(), "the server reads");
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        self.requests = None;
    }

    /// The next answer; `None` at the end.
    #[track_caller]
    pub fn next(&mut self) -> Result<Option<A>, Status> {
        let next = async { tokio::time::timeout(PATIENCE, self.answers.message()).await };
        let next = self.runtime.block_on(next);
        next.expect("an answer comes in time")
    }
}

/// One connection, as tonic calls it.
#[derive(Clone)]
struct Connection(http2::SendRequest<tonic::body::Body>);

impl tower::Service<http::Request<tonic::body::Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// A request to model `m` with its input `x` in one dimension.
pub fn request(datatype: &str, count: usize, contents: InferTensorContents) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![count as i64],
            contents: Some(contents),
            ..InferInputTensor::default()
        }],
        ..ModelInferRequest::default()
    }
}

/// The same with its input raw.
pub fn raw_request(
    datatype: &str,
    count: usize,
    raw: impl Into<bytes::Bytes>,
) -> ModelInferRequest {
    let mut request = request(datatype, count, InferTensorContents::default());
    request.raw_input_contents = vec![raw.into()];
    request
}

/// A request to model `m` with these numbers, whose script looks at the first.
pub fn numbers(numbers: &[i64]) -> ModelInferRequest {
    let contents = InferTensorContents {
        int64_contents: numbers.to_vec(),
        ..InferTensorContents::default()
    };
    request("INT64", numbers.len(), contents)
}

pub fn parameter(value: ParameterChoice) -> InferParameter {
    InferParameter {
        parameter_choice: Some(value),
    }
}

/// Checks the code and the message of a call that must have failed.
#[track_caller]
pub fn check_refused<A: std::fmt::Debug>(
    answer: Result<A, Status>,
    code: tonic::Code,
    message: &str,
) {
    let status = answer.expect_err("it is refused");
    assert_eq!((status.code(), status.message()), (code, message));
}

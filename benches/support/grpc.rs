//! One gRPC connection that sends the same message again and again.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use onnxd::grpc::inference::ModelInferRequest;
use onnxd::grpc::inference::model_infer_request::InferInputTensor;
use prost::Message;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

const METHOD: &str = "/inference.GRPCInferenceService/ModelInfer";

/// A client, which waits for each answer.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    runtime: Runtime,
    uri: Uri,
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Client {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("the async runtime starts");
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(address).await;
            let stream = stream.expect("the server takes connections");
            stream
                .set_nodelay(true)
                .expect("a fresh socket takes the option");
            let connected = handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
            let (sender, driver) = connected.expect("the server speaks HTTP/2");
            tokio::spawn(driver);
            sender
        });
        let uri = format!("http://{address}{METHOD}").parse();
        Client {
            sender,
            runtime,
            uri: uri.expect("a valid address"),
        }
    }

    /// Sends a message and returns the status of the answer.
    pub fn send(&mut self, message: &Bytes) -> String {
        let request = Request::post(self.uri.clone())
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(message.clone()))
            .expect("a valid request");
        let answer = self.sender.send_request(request);
        self.runtime.block_on(async {
            let answer = answer.await.expect("the server answers");
            let body = answer.into_body().collect().await;
            let body = body.expect("the whole answer comes");
            let status = body
                .trailers()
                .and_then(|trailers| trailers.get("grpc-status"));
            let status = status.expect("an answer has a status");
            status.to_str().expect("it is a number").to_owned()
        })
    }
}

/// A request to the model `picture` with its FP32 input raw, as it goes over the wire.
pub fn message(shape: &[u64], raw: Vec<u8>) -> Bytes {
    let request = ModelInferRequest {
        model_name: "picture".to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: shape.iter().map(|&dim| dim as i64).collect(),
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![raw.into()],
        ..ModelInferRequest::default()
    };
    let length = u32::try_from(request.encoded_len()).expect("a small message");
    let mut message = vec![0];
    message.extend_from_slice(&length.to_be_bytes());
    request
        .encode(&mut message)
        .expect("a vector has room for every message");
    message.into()
}

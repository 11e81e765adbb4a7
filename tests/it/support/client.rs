//! A plain HTTP/1.1 client that hides nothing: what a server writes is what a test sees.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::PATIENCE;

/// A request, ready to be sent.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Request {
        Request {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub fn get(path: &str) -> Request {
        Request::new("GET", path)
    }

    pub fn post(path: &str, body: impl Into<Vec<u8>>) -> Request {
        Request {
            body: body.into(),
            ..Request::new("POST", path)
        }
    }

    pub fn with(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The request for a client that writes it in its own way.
    pub fn parts(&self) -> (&str, &str, &[(String, String)], &[u8]) {
        (&self.method, &self.path, &self.headers, &self.body)
    }

    fn bytes(&self) -> Vec<u8> {
        let Request {
            method,
            path,
            headers,
            body,
        } = self;
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        if method != "GET" && method != "HEAD" {
            bytes.extend(format!("content-length: {}\r\n", body.len()).bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(body);
        bytes
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    headers: Vec<(String, String)>,
}

impl Answer {
    /// What another client received.
    pub fn received(status: u16, headers: Vec<(String, String)>, body: Vec<u8>) -> Answer {
        Answer {
            status,
            body,
            headers,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(header, _)| header == name);
        let (_, value) = found.next()?;
        assert!(found.next().is_none(), "header {name} came twice");
        Some(value)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The JSON body of an answer that must be 200.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// The message of an error, whose form is the same everywhere: `{"error": message}` and an id to find it by.
    #[track_caller]
    pub fn error(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self:?}"
        );
        assert!(
            self.header("x-request-id").is_some_and(|id| !id.is_empty()),
            "there is no request id: {self:?}"
        );
        let body = self.json();
        let keys: Vec<_> = body
            .as_object()
            .expect("an error is an object")
            .keys()
            .collect();
        assert_eq!(keys, ["error"]);
        body["error"]
            .as_str()
            .expect("the message is text")
            .to_owned()
    }

    /// Checks the status and the message of an error.
    #[track_caller]
    pub fn is_error(&self, status: u16, message: &str) {
        assert_eq!(
            (self.status, self.error().as_str()),
            (status, message),
            "{self:?}"
        );
    }
}

/// An open connection. Dropping it before the answer is what a client does that gives up.
pub struct Connection {
    reader: BufReader<TcpStream>,
    answers_head: bool,
}

impl Connection {
    pub fn open(address: SocketAddr) -> std::io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection {
            reader: BufReader::new(stream),
            answers_head: false,
        })
    }

    /// Writes a request and does not wait.
    pub fn send(&mut self, request: &Request) {
        self.answers_head = request.method == "HEAD";
        self.write(&request.bytes());
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        self.reader
            .get_mut()
            .write_all(bytes)
            .expect("the server reads");
    }

    /// Writes bytes as long as the server lets it.
    pub fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Waits for the next answer.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        let line = self.line();
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("expected a status line, got {line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer {
            status,
            body: Vec::new(),
            headers,
        };
        if self.answers_head {
            return answer;
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            while self.chunk(&mut answer.body) > 0 {}
            return answer;
        }
        let length = answer
            .header("content-length")
            .expect("every answer has a length")
            .parse();
        self.bytes(length.expect("the length is a number"), &mut answer.body);
        answer
    }

    /// Reads a chunk with the empty line behind it, and tells its length.
    fn chunk(&mut self, body: &mut Vec<u8>) -> usize {
        let length = usize::from_str_radix(&self.line(), 16).expect("the length is a number");
        self.bytes(length, body);
        assert_eq!(self.line(), "", "a chunk ends");
        length
    }

    fn bytes(&mut self, length: usize, body: &mut Vec<u8>) {
        let begun = body.len();
        body.resize(begun + length, 0);
        self.reader
            .read_exact(&mut body[begun..])
            .expect("the whole body comes");
    }

    /// Gives up on the next answer after so long, where that is what a test is about.
    pub fn within(self, patience: Duration) -> Connection {
        let set = self.reader.get_ref().set_read_timeout(Some(patience));
        set.expect("a socket takes a timeout");
        self
    }

    /// Whether the server closes the connection without another byte; waits for either.
    pub fn is_closed(&mut self) -> bool {
        match self.reader.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Whether there is anything to read within the time that was set.
    pub fn has_more(&mut self) -> bool {
        self.reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty())
    }

    /// How many bytes there are until the server closes the connection.
    pub fn bytes_to_end(&mut self) -> u64 {
        std::io::copy(&mut self.reader, &mut std::io::sink()).expect("the server closes")
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader
            .read_line(&mut line)
            .expect("an answer comes in time");
        assert!(!line.is_empty(), "the connection was closed");
        line.trim_end().to_owned()
    }
}

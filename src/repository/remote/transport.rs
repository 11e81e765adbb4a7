//! How requests reach a store: hyper with rustls, and the certificates of the machine.
//!
//! The library that speaks the stores' protocols takes any client; this one bounds every wait, checks listings before
//! they are read (`page`), and lets the head of an answer be seen, in which stores tell their checksums. It follows no
//! redirects, so that credentials go where the address says and nowhere else.

mod body;
mod tls;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};

use self::body::{Paced, kind_of};
use super::page::{self, Dialect, Page};

/// The largest page of a listing: S3's have a thousand objects, WebDAV's a folder's.
const MOST_PAGE_BYTES: usize = 32 << 20;
const IDLE: Duration = Duration::from_secs(60);

/// How long each step of a request may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    pub connect: Duration,
    /// From the request to the head of its answer.
    pub head: Duration,
    /// From one piece of an answer's body to the next.
    pub read: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(5),
            head: Duration::from_secs(20),
            read: Duration::from_secs(20),
        }
    }
}

/// The head of the answer that an object came with.
#[derive(Debug, Clone)]
pub struct AnswerHead(pub HeaderMap);

/// Makes clients for stores. Cloning shares what it has heard.
#[derive(Debug, Clone, Default)]
pub struct Transport {
    pub timeouts: Timeouts,
    heard: Arc<Mutex<Heard>>,
}

/// What answers said beside what the library reads of them.
#[derive(Debug, Default)]
struct Heard {
    retry_after: Option<Duration>,
    passed_over: Vec<String>,
}

impl Transport {
    /// How long the store asked to be left alone since this was last asked.
    pub fn take_retry_after(&self) -> Option<Duration> {
        self.with_heard(|heard| heard.retry_after.take())
    }

    /// The names that listings left out since this was last asked.
    pub fn take_passed_over(&self) -> Vec<String> {
        self.with_heard(|heard| std::mem::take(&mut heard.passed_over))
    }

    fn with_heard<T>(&self, change: impl FnOnce(&mut Heard) -> T) -> T {
        change(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note_head(&self, response: &Response<Incoming>) {
        let is_busy = matches!(
            response.status(),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        let seconds = response.headers().get(RETRY_AFTER);
        let seconds = seconds.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        if let (true, Some(seconds)) = (is_busy, seconds) {
            self.with_heard(|heard| heard.retry_after = Some(Duration::from_secs(seconds)));
        }
    }
}

impl HttpConnector for Transport {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let is_on =
            |key: ClientConfigKey| options.get_config_value(&key).as_deref() == Some("true");
        if is_on(ClientConfigKey::AllowInvalidCertificates) {
            return Err(object_store::Error::NotSupported {
                source:
                    "certificates are always checked; name your own authorities in SSL_CERT_FILE"
                        .into(),
            });
        }
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // The library asks the metadata services of clouds, which may not be there, with less patience.
        let patience = options.get_config_value(&ClientConfigKey::ConnectTimeout);
        let is_short = patience.as_deref() == Some("1s");
        let connect = if is_short {
            Duration::from_secs(1)
        } else {
            self.timeouts.connect
        };
        tcp.set_connect_timeout(Some(connect.min(self.timeouts.connect)));
        let tls = HttpsConnectorBuilder::new().with_tls_config(tls::config());
        let schemes = match is_on(ClientConfigKey::AllowHttp) {
            true => tls.https_or_http(),
            false => tls.https_only(),
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(schemes.enable_http1().wrap_connector(tcp));
        Ok(HttpClient::new(Courier {
            client,
            transport: self.clone(),
        }))
    }
}

/// Carries requests to one store.
struct Courier {
    client: Client<HttpsConnector<Tcp>, HttpRequestBody>,
    transport: Transport,
}

impl fmt::Debug for Courier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Courier")
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Courier {
    fn call<'s, 'a>(&'s self, request: HttpRequest) -> Answer<'a>
    where
        's: 'a,
    {
        Box::pin(self.carry(request))
    }
}

impl Courier {
    async fn carry(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Timeouts { head, read, .. } = self.transport.timeouts;
        let dialect = dialect_of_listing(&request);
        let agent = HeaderValue::from_static(concat!("onnxd/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(USER_AGENT).or_insert(agent);
        let answered = tokio::time::timeout(head, self.client.request(request)).await;
        let response = answered
            .map_err(|_| timed_out("no answer came in time"))?
            .map_err(|error| HttpError::new(kind_of(&error), error))?;
        self.transport.note_head(&response);
        let (mut parts, body) = response.into_parts();
        parts.extensions.insert(AnswerHead(parts.headers.clone()));
        let body = Paced::new(body, read);
        match dialect {
            Some(Dialect::WebDav) if parts.status == StatusCode::NOT_FOUND => {
                // The library would take it for an empty folder.
                Err(problem("the folder is not there (404)".to_owned()))
            }
            Some(dialect) if parts.status.is_success() => {
                let page = read_page(body, dialect).await?;
                let Page { text, passed_over } = page;
                self.transport
                    .with_heard(|heard| heard.passed_over.extend(passed_over));
                parts.headers.insert(CONTENT_LENGTH, text.len().into());
                Ok(Response::from_parts(parts, text.into()))
            }
            _ => Ok(Response::from_parts(parts, HttpResponseBody::new(body))),
        }
    }
}

/// In which words the answer lists objects, where the request asks for that.
fn dialect_of_listing<B>(request: &Request<B>) -> Option<Dialect> {
    let query = request.uri().query().unwrap_or_default();
    let has = |wanted: &str| query.split('&').any(|pair| pair == wanted);
    match request.method().as_str() {
        "PROPFIND" => Some(Dialect::WebDav),
        "GET" if has("list-type=2") => Some(Dialect::S3),
        "GET" if has("comp=list") => Some(Dialect::Azure),
        _ => None,
    }
}

async fn read_page(body: Paced, dialect: Dialect) -> Result<Page, HttpError> {
    let limited = http_body_util::Limited::new(body, MOST_PAGE_BYTES);
    let bytes = limited
        .collect()
        .await
        .map_err(|error| match error.downcast::<HttpError>() {
            Ok(error) => *error,
            Err(_) => problem("a page of the listing has more than 32 MiB".to_owned()),
        })?;
    let text = String::from_utf8(bytes.to_bytes().into())
        .map_err(|_| problem("the listing is no text".to_owned()))?;
    page::check(&text, dialect).map_err(problem)
}

/// What trying again at once would not mend.
fn problem(text: String) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, std::io::Error::other(text))
}

fn timed_out(text: &str) -> HttpError {
    let error = std::io::Error::new(std::io::ErrorKind::TimedOut, text);
    HttpError::new(HttpErrorKind::Timeout, error)
}

//! A store of objects on loopback (WebDAV): what is in a folder, over answers that suffer from the weather.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_LENGTH, ETAG};
use axum::http::{Request, Response, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{self, StreamExt};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use md5::{Digest, Md5};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::random::Random;
use super::weather::{Asked, Fault, Weather};

/// A server that runs until it is dropped.
pub struct Store {
    address: SocketAddr,
    weather: Arc<Mutex<Weather>>,
    _runtime: Runtime,
}

/// What an answer is made from.
struct Shelf {
    folder: PathBuf,
    weather: Arc<Mutex<Weather>>,
}

impl Store {
    /// Serves a folder, at first in fair weather. No fault lasts longer than `longest`.
    pub fn start(folder: &Path, random: Random, longest: Duration) -> Store {
        let weather = Arc::new(Mutex::new(Weather::fair(random, longest)));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shelf = Shelf {
            folder: folder.to_owned(),
            weather: weather.clone(),
        };
        runtime.spawn(serve(listener, Arc::new(shelf)));
        Store {
            address,
            weather,
            _runtime: runtime,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn weather(&self) -> MutexGuard<'_, Weather> {
        lock(&self.weather)
    }
}

fn lock(weather: &Mutex<Weather>) -> MutexGuard<'_, Weather> {
    weather.lock().expect("nobody panics while holding it")
}

async fn serve(listener: TcpListener, shelf: Arc<Shelf>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let shelf = shelf.clone();
        let service = service_fn(move |request| {
            let answer = shelf.answer(&request);
            async { answer }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// What is at a path.
struct Found {
    body: Bytes,
    etag: String,
    /// How many folders a listing names.
    folders: usize,
}

impl Shelf {
    /// An answer, or none: then the connection is closed.
    fn answer(&self, request: &Request<Incoming>) -> Result<Response<Body>, &'static str> {
        let path = request.uri().path();
        let place = self.folder.join(path.trim_matches('/'));
        let (asked, found) = match request.method().as_str() {
            "PROPFIND" => {
                let is_root = path == "/";
                (Asked::Folder { is_root }, listing(path, &place))
            }
            _ => (Asked::File, file(&place)),
        };
        let mut weather = lock(&self.weather);
        let fault = weather.befalls(asked);
        let Ok(found) = found else {
            return Ok(empty(StatusCode::NOT_FOUND));
        };
        match fault {
            None => {
                if let Asked::Folder { is_root } = asked {
                    weather.listed(is_root, found.folders);
                }
                Ok(found.answer(Body::from))
            }
            Some(Fault::Status500) => Ok(empty(StatusCode::INTERNAL_SERVER_ERROR)),
            Some(Fault::Away) => Err("the store is away"),
            Some(Fault::CutOff) => Ok(found.answer(cut_off)),
            Some(Fault::HalfAFile) => Ok(found.half().answer(Body::from)),
            Some(Fault::WrongBytes) => Ok(found.answer(|body| Body::from(wrong(&body)))),
            Some(Fault::EmptyListing) => {
                Ok(multistatus(&[member(path, FOLDER)]).answer(Body::from))
            }
            Some(Fault::Stall) => {
                let until = Instant::now() + weather.pause();
                let weather = self.weather.clone();
                Ok(found.answer(|body| stalling(body, until, weather)))
            }
        }
    }
}

impl Found {
    fn of(body: Vec<u8>, folders: usize) -> Found {
        let etag = format!("\"{}\"", STANDARD.encode(Md5::digest(&body)));
        let body = body.into();
        Found {
            body,
            etag,
            folders,
        }
    }

    /// Half of the bytes, under the ETag of all.
    fn half(self) -> Found {
        let half = self.body.slice(..self.body.len() / 2);
        Found { body: half, ..self }
    }

    /// The answer with these bytes, as `send` sends them.
    fn answer(self, send: impl FnOnce(Bytes) -> Body) -> Response<Body> {
        let answer = Response::builder()
            .header(CONTENT_LENGTH, self.body.len())
            .header("content-md5", self.etag.trim_matches('"'))
            .header(ETAG, self.etag);
        answer.body(send(self.body)).expect("its head is valid")
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    let answer = Response::builder().status(status).body(Body::empty());
    answer.expect("its head is valid")
}

fn halves(body: Bytes) -> [Bytes; 2] {
    let middle = body.len() / 2;
    [body.slice(..middle), body.slice(middle..)]
}

fn cut_off(body: Bytes) -> Body {
    let [first, _] = halves(body);
    let breaks = io::Error::other("it is cut off");
    Body::from_stream(stream::iter([Ok(first), Err(breaks)]))
}

fn stalling(body: Bytes, until: Instant, weather: Arc<Mutex<Weather>>) -> Body {
    let [first, second] = halves(body);
    let rest = async move {
        while Instant::now() < until && !lock(&weather).is_fair() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        second
    };
    let pieces = stream::iter([first]).chain(stream::once(rest));
    Body::from_stream(pieces.map(Ok::<_, io::Error>))
}

/// A digit is another, in a model that of its generation: it could be loaded as any other.
fn wrong(body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    let digit = body.iter_mut().find(|byte| byte.is_ascii_digit());
    if let Some(digit) = digit {
        *digit = if *digit == b'9' { b'1' } else { *digit + 1 };
    }
    body
}

fn file(path: &Path) -> io::Result<Found> {
    Ok(Found::of(fs::read(path)?, 0))
}

const FOLDER: &str = "<resourcetype><collection/></resourcetype>";

/// What is in a folder, but for what is being put together there.
fn listing(href: &str, path: &Path) -> io::Result<Found> {
    let mut members = vec![member(href, FOLDER)];
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let href = format!("{}/{name}", href.trim_end_matches('/'));
        members.push(match entry.file_type()?.is_dir() {
            true => member(&href, FOLDER),
            false => {
                let Found { body, etag, .. } = file(&entry.path())?;
                let length = body.len();
                member(&href, &format!("<resourcetype/><getcontentlength>{length}</getcontentlength><getetag>{etag}</getetag>"))
            }
        });
    }
    Ok(multistatus(&members))
}

/// One folder or file of a listing. ETags tell its states apart; what time it is the store does not know.
fn member(href: &str, properties: &str) -> String {
    format!(
        "<response><href>{href}</href><propstat><prop>{properties}<getlastmodified>Thu, 01 Jan 2026 00:00:00 GMT</getlastmodified></prop><status>HTTP/1.1 200 OK</status></propstat></response>"
    )
}

/// A listing of a folder, which is itself the first that is named.
fn multistatus(members: &[String]) -> Found {
    let body = format!(
        "<multistatus xmlns=\"DAV:\">{}</multistatus>",
        members.concat()
    );
    let folders = members
        .iter()
        .filter(|member| member.contains(FOLDER))
        .count()
        - 1;
    Found::of(body.into_bytes(), folders)
}

//! Request ids and W3C trace context: who a request is, here and across services.
//!
//! The format of `traceparent` is that of W3C Trace Context, level 1: `00-<trace id>-<parent id>-<flags>`.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request};
use tower_http::request_id::{MakeRequestId, RequestId};
use tracing::Span;
use tracing::field::Empty;

/// Longer ids are replaced: they end up in every log line.
const LONGEST_REQUEST_ID: usize = 128;
pub const REQUEST_ID: &str = "x-request-id";
pub(super) const TRACEPARENT: &str = "traceparent";

/// Makes ids that do not repeat: a counter through a hash that is keyed at random for each process.
#[derive(Debug, Clone, Default)]
pub struct RequestIds {
    key: RandomState,
    next: Arc<AtomicU64>,
}

impl RequestIds {
    fn next(&self) -> u64 {
        self.key.hash_one(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl MakeRequestId for RequestIds {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<RequestId> {
        let id = format!("{:016x}{:016x}", self.next(), self.next());
        HeaderValue::from_str(&id).ok().map(RequestId::new)
    }
}

/// Drops an id that is too long or not plain printable text, so that a fresh one takes its place.
pub fn drop_unfit_request_id(mut request: Request<Body>) -> Request<Body> {
    let fits = |id: &HeaderValue| {
        (1..=LONGEST_REQUEST_ID).contains(&id.len())
            && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    if request
        .headers()
        .get(REQUEST_ID)
        .is_some_and(|id| !fits(id))
    {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

/// The id that a request carries.
pub fn request_id(headers: &HeaderMap) -> &str {
    headers
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .unwrap_or_default()
}

/// The span in which a request is served, for whoever turns on `debug`; the access line has the ids at any level.
pub fn span(request: &Request<Body>) -> Span {
    let span = tracing::debug_span!(
        "request",
        request_id = request_id(request.headers()),
        trace_id = Empty
    );
    if !span.is_disabled()
        && let Some(parent) = TraceParent::of(request.headers())
    {
        span.record("trace_id", parent.trace_id());
    }
    span
}

/// The place of a request in a trace that a client began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: String,
    flags: String,
}

impl TraceParent {
    /// The trace that a request belongs to, where its header is well formed.
    pub fn of(headers: &HeaderMap) -> Option<TraceParent> {
        let text = headers.get(TRACEPARENT)?.to_str().ok()?;
        let mut fields = text.split('-');
        let (version, trace_id, parent_id, flags) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        let is_hex = |field: &str, length| {
            field.len() == length
                && field
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_zero = |field: &str| field.bytes().all(|byte| byte == b'0');
        // A later version may have more fields; the first four keep their meaning.
        let known =
            is_hex(version, 2) && version != "ff" && (version != "00" || fields.next().is_none());
        let valid = known
            && is_hex(trace_id, 32)
            && is_hex(parent_id, 16)
            && is_hex(flags, 2)
            && !is_zero(trace_id)
            && !is_zero(parent_id);
        valid.then(|| TraceParent {
            trace_id: trace_id.to_owned(),
            flags: flags.to_owned(),
        })
    }

    /// The trace's id.
    pub fn trace_id(&self) -> &str {
        &self.trace_id
    }

    /// The header that continues the trace from a span of our own.
    pub fn continued(&self, ids: &RequestIds) -> Option<HeaderValue> {
        let TraceParent { trace_id, flags } = self;
        HeaderValue::from_str(&format!("00-{trace_id}-{:016x}-{flags}", ids.next().max(1))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &'static str) -> Option<TraceParent> {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(text));
        TraceParent::of(&headers)
    }

    #[test]
    fn a_trace_is_continued_with_a_span_of_our_own() {
        let parent =
            parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").expect("well formed");
        let continued = parent
            .continued(&RequestIds::default())
            .expect("a valid header");
        let text = continued.to_str().expect("plain text");
        assert!(
            text.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && text.ends_with("-01"),
            "{text}"
        );
        assert!(!text.contains("b7ad6b7169203331"));
    }

    #[test]
    fn a_malformed_trace_is_ignored() {
        assert_eq!(
            parse("00-00000000000000000000000000000000-b7ad6b7169203331-01"),
            None
        );
        assert_eq!(
            parse("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"),
            None
        );
        assert_eq!(
            parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x"),
            None
        );
        assert_eq!(
            parse("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            None
        );
        assert_eq!(parse("nonsense"), None);
    }
}

//! Which answers are compressed: those to requests that were.
//!
//! Every client of gRPC's own library says that it reads gzip, whether or not it wants any, and squeezing a tensor
//! takes longer than sending it. A client that compresses its request has chosen, and its answer comes the same way.

use axum::http::HeaderMap;

const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// Whether a call's messages are compressed, which is worked on aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Off,
    On,
}

/// Leaves of what the client reads only what it wrote, for tonic to choose from.
pub fn answer_as_asked(headers: &mut HeaderMap) -> Compression {
    let asked = headers.get(ENCODING).filter(|name| *name != "identity");
    let Some(asked) = asked.cloned() else {
        headers.remove(ACCEPT_ENCODING);
        return Compression::Off;
    };
    let reads = |names: &[u8]| {
        names
            .split(|&byte| byte == b',')
            .any(|name| name.trim_ascii() == asked.as_bytes())
    };
    let accepted = headers.get_all(ACCEPT_ENCODING).into_iter();
    let mut accepted = accepted.map(|names| names.as_bytes());
    match accepted.any(reads) {
        true => headers.insert(ACCEPT_ENCODING, asked),
        false => headers.remove(ACCEPT_ENCODING),
    };
    Compression::On
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(sent: Option<&'static str>, reads: Option<&'static str>, answered: Option<&str>) {
        let mut headers = HeaderMap::new();
        for (name, value) in [(ENCODING, sent), (ACCEPT_ENCODING, reads)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        answer_as_asked(&mut headers);
        let left = headers
            .get(ACCEPT_ENCODING)
            .and_then(|left| left.to_str().ok());
        assert_eq!(left, answered, "{sent:?} {reads:?}");
    }

    #[test]
    fn an_answer_is_compressed_as_its_request_was() {
        check(None, Some("identity, deflate, gzip"), None);
        check(Some("identity"), Some("identity, deflate, gzip"), None);
        check(Some("gzip"), Some("identity, deflate, gzip"), Some("gzip"));
        check(Some("zstd"), Some("identity, deflate, gzip"), None);
        check(Some("gzip"), None, None);
    }
}

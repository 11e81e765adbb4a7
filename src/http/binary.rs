//! The binary tensor extension's header, and its answers.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::error;
use crate::error::{Error, Result};
use crate::in_flight::Held;
use crate::oip::binary::Encoded;

/// Tells where a body's JSON ends and its raw tensors begin.
pub const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
/// Its name as people write it.
pub const NAME: &str = "Inference-Header-Content-Length";

/// Where the body's JSON ends, if the request says so.
pub fn json_length(headers: &HeaderMap) -> Result<Option<usize>> {
    let mut values = headers.get_all(JSON_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Error::invalid(format!(
            "header {NAME}: expected one value, got several"
        )));
    }
    let digits = value
        .to_str()
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits {
        // More than fits a number is more than any body has.
        Some(digits) => Ok(Some(digits.parse().unwrap_or(usize::MAX))),
        None => Err(Error::invalid(format!(
            "header {NAME}: expected a whole number of bytes, got '{}'",
            String::from_utf8_lossy(value.as_bytes())
        ))),
    }
}

/// Refuses a body that is shorter than its JSON is said to be.
pub fn check_length(json_bytes: usize, body_bytes: usize) -> Result<()> {
    match json_bytes <= body_bytes {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "header {NAME}: expected at most {body_bytes}, the length of the body, got {json_bytes}"
        ))),
    }
}

/// The answer, whose header and type tell of raw tensors if there are some. It is held until it is written.
pub fn response(Encoded { body, json_bytes }: Encoded, held: Arc<Held>) -> Response {
    let mut response = error::json_bytes(StatusCode::OK, held.until_dropped(body));
    if let Some(json_bytes) = json_bytes {
        let octets = HeaderValue::from_static("application/octet-stream");
        let headers = response.headers_mut();
        headers.insert(JSON_LENGTH, HeaderValue::from(json_bytes));
        headers.insert(header::CONTENT_TYPE, octets);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_a_number_of_bytes() {
        let read = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(JSON_LENGTH, HeaderValue::from_static(value));
            json_length(&headers).map_err(|error| error.public_message().to_owned())
        };
        assert_eq!(read("0"), Ok(Some(0)));
        assert_eq!(read("0120"), Ok(Some(120)));
        assert_eq!(read("99999999999999999999999"), Ok(Some(usize::MAX)));
        for bad in ["", "-1", "+1", "1.0", "0x10", "1 2", "many"] {
            let message = format!(
                "header Inference-Header-Content-Length: expected a whole number of bytes, got '{bad}'"
            );
            assert_eq!(read(bad), Err(message));
        }
        let mut twice = HeaderMap::new();
        twice.append(JSON_LENGTH, HeaderValue::from_static("4"));
        twice.append(JSON_LENGTH, HeaderValue::from_static("4"));
        assert!(json_length(&twice).is_err());
        assert_eq!(json_length(&HeaderMap::new()).ok(), Some(None));
    }
}

//! The page at `/docs`: it shows the OpenAPI document and sends its examples. All of it is in the binary.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;

/// What a page here may do: load its own style and script, talk to this server, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /docs`
pub async fn page() -> Response {
    html(include_str!("docs/page.html"))
}

/// `GET /docs/page.css`
pub async fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("docs/page.css"))
}

/// `GET /docs/page.js`
pub async fn script() -> Response {
    file(
        "text/javascript; charset=utf-8",
        include_str!("docs/page.js"),
    )
}

/// A page that keeps to the policy.
pub fn html(text: impl Into<Body>) -> Response {
    file("text/html; charset=utf-8", text)
}

fn file(kind: &'static str, text: impl Into<Body>) -> Response {
    const HEADERS: [(HeaderName, &str); 4] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another release has other files under the same names.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    let mut response = Response::new(text.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

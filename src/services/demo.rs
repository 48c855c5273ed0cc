//! The chat page of development mode: a few files in the binary, no other resource, a strict content policy.
use super::pages::body;
use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;

const PAGE: &str = include_str!("demo/index.html");
const STYLE: &str = include_str!("demo/style.css");
const APP: &str = include_str!("demo/app.js");
/// Made by `clients/typescript/build-demo.sh`.
const CLIENT: &str = include_str!("demo/throng-client.js");
const VIEW: &str = include_str!("demo/view.js");

/// Scripts, styles and connections of the server itself; nothing inline, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(|| async { file("text/html; charset=utf-8", PAGE) }))
        .route("/demo/app.js", get(|| async { file(JAVASCRIPT, APP) }))
        .route("/demo/throng-client.js", get(|| async { file(JAVASCRIPT, CLIENT) }))
        .route("/demo/view.js", get(|| async { file(JAVASCRIPT, VIEW) }))
        .route("/demo/style.css", get(|| async { file("text/css; charset=utf-8", STYLE) }))
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    let mut response = body(StatusCode::OK, content_type, text);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_that_its_policy_forbids() {
        assert!(PAGE.contains("src=\"/demo/app.js\"") && PAGE.contains("href=\"/demo/style.css\""));
        for (file, text) in [("page", PAGE), ("style", STYLE), ("app", APP), ("client", CLIENT), ("view", VIEW)] {
            for forbidden in
                ["https://", "http://", "//cdn", "innerHTML", "insertAdjacentHTML", "eval(", "style=\"", "@import"]
            {
                assert!(!text.contains(forbidden), "{forbidden} in the {file}");
            }
        }
        assert!(!PAGE.contains("<script>") && !PAGE.contains("<style") && !PAGE.contains(" onclick"));
    }
}

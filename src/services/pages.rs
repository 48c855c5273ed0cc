//! The pages: paths, who may read them, and what every answer carries.
use super::access::{Access, operator_access};
use super::conn::{Caller, Door};
use super::listener::ServiceCounts;
use super::metrics::{self, Numbers};
use super::process::Process;
use super::source::{Collected, Collector, Source};
use super::{demo, exposition, stats};
use crate::base::refusal::Code;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// The rule of R-CONN-1, the one that shards apply: origin, Host header, `http.allowed_origins` → may it pass.
pub type OriginCheck = fn(Option<&str>, Option<&str>, &[String]) -> bool;

/// What all requests share.
pub struct Pages {
    pub source: Arc<dyn Source>,
    pub collector: Collector,
    pub counts: Arc<ServiceCounts>,
    pub origin_allowed: OriginCheck,
    pub allowed_origins: Vec<String>,
    /// `admin.listen` is set: the operator's pages are there and nowhere else.
    pub has_admin_door: bool,
    /// Serve the demo chat page at `/`.
    pub has_demo: bool,
    pub started: Instant,
}

type Shared = State<Arc<Pages>>;

/// The routes of one door.
pub fn router(pages: Arc<Pages>, door: Door) -> Router {
    let main_page = match (door, pages.has_demo) {
        (Door::Main, true) => demo::routes(),
        _ => Router::new().route("/", get(about)),
    };
    main_page
        .route("/healthz", get(|| async { body(StatusCode::OK, "text/plain; charset=utf-8", "ok") }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/stats", get(stats))
        .route("/histograms", get(histograms))
        .fallback(|| async { error(StatusCode::NOT_FOUND, Code::NotFound) })
        .method_not_allowed_fallback(|| async { error(StatusCode::METHOD_NOT_ALLOWED, Code::NotFound) })
        .layer(from_fn_with_state(pages.clone(), around))
        .with_state(pages)
}

async fn about() -> Response {
    json_body(StatusCode::OK, &json!({"name": "throng", "version": env!("CARGO_PKG_VERSION")}))
}

/// R-OPS-2.
async fn readyz(State(pages): Shared) -> Response {
    let reasons = pages.collector.unready_reasons().await;
    if reasons.is_empty() {
        json_body(StatusCode::OK, &json!({"status": "ready"}))
    } else {
        json_body(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "unready", "reasons": reasons}))
    }
}

async fn metrics(State(pages): Shared, ConnectInfo(caller): ConnectInfo<Caller>, headers: HeaderMap) -> Response {
    let text = |collected: &Collected| {
        body(StatusCode::OK, exposition::CONTENT_TYPE, metrics::render(&pages.numbers(collected)))
    };
    pages.operator_page(caller, &headers, text).await
}

async fn stats(State(pages): Shared, ConnectInfo(caller): ConnectInfo<Caller>, headers: HeaderMap) -> Response {
    let page = |collected: &Collected| json_body(StatusCode::OK, &stats::stats(&pages.numbers(collected)));
    pages.operator_page(caller, &headers, page).await
}

async fn histograms(State(pages): Shared, ConnectInfo(caller): ConnectInfo<Caller>, headers: HeaderMap) -> Response {
    let page = |collected: &Collected| json_body(StatusCode::OK, &stats::histograms(collected));
    pages.operator_page(caller, &headers, page).await
}

impl Pages {
    /// A page that only operators may read, made from fresh reports.
    async fn operator_page(
        &self,
        caller: Caller,
        headers: &HeaderMap,
        page: impl FnOnce(&Collected) -> Response,
    ) -> Response {
        match operator_access(caller, headers, self.has_admin_door) {
            Access::Absent => error(StatusCode::NOT_FOUND, Code::NotFound),
            Access::Denied => error(StatusCode::FORBIDDEN, Code::Forbidden),
            Access::Granted => match self.collector.collect().await {
                Some(collected) => page(&collected),
                None => error(StatusCode::SERVICE_UNAVAILABLE, Code::Overloaded),
            },
        }
    }

    fn numbers<'a>(&'a self, collected: &'a Collected) -> Numbers<'a> {
        Numbers {
            collected,
            services: &self.counts,
            process: Process::read(),
            uptime_s: self.started.elapsed().as_secs_f64(),
            is_draining: self.source.is_draining(),
        }
    }
}

/// What every request passes: the origin rule (R-CONN-1) on the way in, common headers on the way out.
async fn around(
    State(pages): Shared,
    ConnectInfo(caller): ConnectInfo<Caller>,
    request: Request,
    next: Next,
) -> Response {
    pages.counts.requests.fetch_add(1, Relaxed);
    let (origin, host) = (header_text(&request, header::ORIGIN), header_text(&request, header::HOST));
    let is_allowed = (pages.origin_allowed)(origin.as_deref(), host.as_deref(), &pages.allowed_origins);
    let mut response = if !is_allowed {
        error(StatusCode::FORBIDDEN, Code::Forbidden)
    } else if request.method() == Method::OPTIONS && origin.is_some() {
        preflight()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    if is_allowed && let Some(origin) = origin.and_then(|origin| HeaderValue::try_from(origin).ok()) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if caller.door == Door::Main {
        // The next request of a kept connection might be for a shard, and a connection does not go back there.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A header that is no visible ASCII counts as empty, which matches nothing.
fn header_text(request: &Request, name: HeaderName) -> Option<String> {
    request.headers().get(name).map(|value| value.to_str().unwrap_or("").to_string())
}

fn preflight() -> Response {
    let mut response = body(StatusCode::NO_CONTENT, "text/plain", "");
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// The body of every failure (product section 3.3).
fn error(status: StatusCode, code: Code) -> Response {
    let error = json!({"code": code.as_str(), "message": code.text(), "retryable": code.is_retryable()});
    json_body(status, &json!({"error": error}))
}

fn json_body(status: StatusCode, value: &Value) -> Response {
    body(status, "application/json", value.to_string())
}

pub fn body(status: StatusCode, content_type: &'static str, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

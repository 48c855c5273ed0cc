//! What each page says, and to whom (R-OPS-1, R-OPS-2, R-CONN-1).
use crate::support::*;
use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn health_is_a_word() {
    let front = Front::new(options(FakeSource::new(1, None)));
    let answer = front.get("/healthz");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(front.ask("HEAD", "/healthz", &[], None).status, 200);
}

#[test]
fn readiness_names_what_is_missing() {
    let source = FakeSource::new(1, None);
    source.is_started.store(false, Relaxed);
    let front = Front::new(options(source.clone()));
    let answer = front.get("/readyz");
    assert_eq!((answer.status, answer.json()), (503, json!({"status": "unready", "reasons": ["starting"]})));
    source.is_started.store(true, Relaxed);
    let answer = front.get("/readyz");
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "ready"})));
    source.is_draining.store(true, Relaxed);
    let answer = front.get("/readyz");
    assert_eq!((answer.status, answer.json()), (503, json!({"status": "unready", "reasons": ["draining"]})));
}

#[test]
fn a_store_that_takes_no_write_is_not_ready() {
    let source = FakeSource::new(1, None);
    source.is_ready.store(false, Relaxed);
    let front = Front::new(options(source));
    let answer = front.get("/readyz");
    assert_eq!((answer.status, answer.json()["reasons"].clone()), (503, json!(["store_refuses_writes"])));
}

#[test]
fn statistics_have_the_shape_of_the_specification() {
    let front = Front::new(options(FakeSource::new(2, None)));
    let mut stats = front.get("/stats").json();
    let memory = stats["memoryUsage"].take().as_u64().unwrap();
    assert!(memory > 1 << 20, "{memory}");
    assert!(stats["serverUptime"].take().as_u64().is_some());
    let shard = |shard: u64| {
        json!({"shard": shard, "responding": true, "connections": 10 + shard, "unauthenticated": 1, "users": shard + 1,
               "rooms": shard + 1, "queueBytes": 100, "logBytes": 200, "turns": 1000, "uptimeMs": 5000})
    };
    let expected = json!({
        "connectedUsers": 3,
        "totalConnections": 21,
        "totalRooms": 3,
        "connectionsPerRoom": [
            {"roomId": "room-1-1", "connectionCount": 2},
            {"roomId": "room-0-0", "connectionCount": 1},
            {"roomId": "room-1-0", "connectionCount": 1},
        ],
        "serverUptime": null,
        "memoryUsage": null,
        "shards": [shard(0), shard(1)],
    });
    assert_eq!(stats, expected);
}

#[test]
fn histograms_can_be_decoded_and_merged_ones_are_the_sum() {
    let front = Front::new(options(FakeSource::new(2, None)));
    let page = front.get("/histograms").json();
    assert_eq!(page["unit"], "ns");
    let decode = |value: &serde_json::Value| -> Histogram<u64> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(value["data"].as_str().unwrap()).unwrap();
        Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap()
    };
    for (index, shard) in page["shards"].as_array().unwrap().iter().enumerate() {
        assert_eq!(shard["shard"], index);
        assert_eq!(decode(&shard["turn"]), shard_report(index as u16).histograms.turn);
    }
    let turn = decode(&page["merged"]["turn"]);
    assert_eq!(turn.len(), 2);
    assert_eq!(page["merged"]["turn"]["max"], turn.max());
    assert_eq!(page["merged"]["broadcast"]["count"], 8);
    assert_eq!(page["merged"]["broadcast"]["p50"], turn_value(&decode(&page["merged"]["broadcast"])));
    assert_eq!(decode(&page["merged"]["commit"]).len(), 1);
}

fn turn_value(histogram: &Histogram<u64>) -> u64 {
    histogram.value_at_quantile(0.5)
}

#[test]
fn unknown_paths_and_methods_are_errors_in_json() {
    let front = Front::new(options(FakeSource::new(1, None)));
    let error = json!({"error": {"code": "not_found", "message": "Not found", "retryable": false}});
    for path in ["/nothing", "/metrics/", "/demo/app.js", "/%2e%2e/etc/passwd", "/healthz/x"] {
        let answer = front.get(path);
        assert_eq!((answer.status, answer.json()), (404, error.clone()), "{path}");
        assert_eq!(answer.headers["content-type"], "application/json");
    }
    let answer = front.ask("POST", "/metrics", &["Content-Length: 0"], None);
    assert_eq!((answer.status, answer.json()), (405, error));
    assert!(answer.headers["allow"].contains("GET"));
}

#[test]
fn without_development_mode_the_main_page_says_what_this_is() {
    let front = Front::new(options(FakeSource::new(1, None)));
    assert_eq!(front.get("/").json(), json!({"name": "throng", "version": env!("CARGO_PKG_VERSION")}));
}

#[test]
fn in_development_mode_the_demo_page_and_all_it_refers_to_are_there() {
    let front = Front::new(throng::services::ServicesOptions { demo: true, ..options(FakeSource::new(1, None)) });
    let mut todo = vec!["/".to_string()];
    let mut seen = Vec::new();
    while let Some(path) = todo.pop() {
        let answer = front.get(&path);
        assert_eq!(answer.status, 200, "{path}");
        let policy = &answer.headers["content-security-policy"];
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let kind = match path.rsplit_once('.') {
            Some((_, "js")) => "text/javascript",
            Some((_, "css")) => "text/css",
            _ => "text/html",
        };
        assert!(answer.headers["content-type"].starts_with(kind), "{path}");
        let quoted = answer.body.split('"').filter(|text| text.starts_with("/demo/"));
        let new: Vec<_> = quoted.map(str::to_string).filter(|path| !seen.contains(path)).collect();
        seen.extend(new.clone());
        todo.extend(new);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["/demo/app.js", "/demo/style.css", "/demo/throng-client.js", "/demo/view.js"]);
}

const OPERATOR_PAGES: [&str; 3] = ["/metrics", "/stats", "/histograms"];

#[test]
fn operators_pages_are_for_direct_loopback_callers() {
    let front = Front::new(options(FakeSource::new(1, None)));
    for page in OPERATOR_PAGES {
        assert_eq!(front.get(page).status, 200, "{page}");
        for header in ["X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "Host: rebound.example"] {
            let answer = front.ask("GET", page, &[header], None);
            assert_eq!(answer.status, 403, "{page} {header}");
            assert!(!answer.body.contains("throng_"), "{page} {header}");
        }
        let head = format!("GET {page} HTTP/1.1\r\nHost: rebound.example\r\n\r\n");
        assert_eq!(read_answer(front.connect(head.as_bytes(), None)).status, 403, "{page}");
        let outsider = "192.0.2.7:4000".parse().unwrap();
        let answer = front.ask("GET", page, &[], Some(outsider));
        assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (403, json!("forbidden")));
        assert_eq!(front.ask("GET", "/healthz", &[], Some(outsider)).status, 200);
    }
}

#[test]
fn with_an_admin_listener_they_are_there_and_nowhere_else() {
    let address = listen().local_addr().unwrap();
    let options = throng::services::ServicesOptions {
        admin_listen: Some(address),
        demo: true,
        ..options(FakeSource::new(1, None))
    };
    let front = Front::new(options);
    assert_eq!(front.services.admin_addr(), Some(address));
    // One kept connection for all, as a scraper does it; a forwarding header means nothing here.
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    for page in ["/metrics", "/stats", "/histograms", "/healthz", "/readyz", "/"] {
        assert_eq!(front.get(page).status, if OPERATOR_PAGES.contains(&page) { 404 } else { 200 }, "{page}");
        client.write_all(request("GET", page, address.port(), &["X-Forwarded-For: 192.0.2.7"]).as_bytes()).unwrap();
        let answer = read_kept(&mut client);
        assert_eq!(answer.status, 200, "{page}");
        assert!(!answer.headers.contains_key("connection"));
    }
    client.write_all(request("GET", "/demo/app.js", address.port(), &[]).as_bytes()).unwrap();
    assert_eq!(read_kept(&mut client).status, 404);
}

/// One answer with a Content-Length from a connection that stays open.
fn read_kept(client: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if text.contains("\r\n\r\n") {
            let answer = parse_answer(&text);
            if answer.body.len() >= answer.headers["content-length"].parse().unwrap() {
                return answer;
            }
        }
        let mut piece = [0; 4096];
        let count = client.read(&mut piece).unwrap();
        assert!(count > 0, "closed after {text:?}");
        bytes.extend_from_slice(&piece[..count]);
    }
}

#[test]
fn foreign_origins_are_refused_and_listed_ones_may_read() {
    let front = Front::new(options(FakeSource::new(1, None)));
    let own = format!("Origin: http://127.0.0.1:{}", front.port());
    assert_eq!(front.ask("GET", "/healthz", &[&own], None).status, 200);
    for method in ["GET", "OPTIONS"] {
        let answer = front.ask(method, "/healthz", &["Origin: https://evil.example"], None);
        assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (403, json!("forbidden")));
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    let answer = front.ask("GET", "/healthz", &["Origin: https://app.example"], None);
    assert_eq!((answer.status, answer.headers["access-control-allow-origin"].as_str()), (200, "https://app.example"));
    assert_eq!(answer.headers["vary"], "Origin");
    let headers = ["Origin: https://app.example", "Access-Control-Request-Method: GET"];
    let answer = front.ask("OPTIONS", "/healthz", &headers, None);
    assert_eq!((answer.status, answer.headers["access-control-allow-origin"].as_str()), (204, "https://app.example"));
    assert_eq!(answer.headers["access-control-allow-methods"], "GET, HEAD");
}

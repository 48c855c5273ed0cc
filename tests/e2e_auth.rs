//! Signing in and staying signed in (R-AUTH-1 to 4), from the outside.
mod support;

use serde_json::json;
use support::{Client, Server, TokenFault, now_s};

/// The places of R-AUTH-1 that are part of the upgrade request: path and headers.
fn places(token: &str) -> [(String, Vec<(&'static str, String)>); 3] {
    [
        ("/ws".into(), vec![("Authorization", format!("Bearer {token}"))]),
        ("/ws".into(), vec![("Sec-WebSocket-Protocol", format!("throng.v1, bearer.{token}"))]),
        (format!("/ws?token={token}"), vec![]),
    ]
}

fn open(server: &Server, path: &str, headers: &[(&'static str, String)]) -> Result<Client, support::Response> {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
    server.try_open(path, &headers)
}

#[test]
fn a_token_is_accepted_in_every_place() {
    let server = Server::start(&["auth.allow_query_token=true"]);
    let token = server.token("anna");
    for (path, headers) in places(&token) {
        let mut client = open(&server, &path, &headers).unwrap();
        assert_eq!(client.greet()["userId"], "anna", "{path} {headers:?}");
    }
    let mut client = server.stranger();
    let result = client.ok("auth", json!({"token": token}));
    assert_eq!(result["userId"], "anna");
    let ready = client.greet();
    assert_eq!((&ready["userId"], &ready["expiresAt"]), (&"anna".into(), &result["expiresAt"]));
}

/// R-AUTH-1 and product section 3.2.
#[test]
fn connection_established_tells_what_a_client_needs() {
    let server = Server::start(&[]);
    let exp = now_s() + 100;
    let client = server.client_by(&server.sign_raw(&json!({"sub": "anna", "exp": exp})));
    let ready = client.ready.as_object().unwrap();
    assert_eq!(ready.len(), 7, "{ready:?}");
    assert_eq!((&ready["userId"], &ready["heartbeatMs"]), (&"anna".into(), &30_000.into()));
    assert_eq!(ready["expiresAt"], exp * 1_000);
    for (name, prefix) in [("connectionId", "conn_"), ("sessionId", "sess_")] {
        let id = ready[name].as_str().unwrap();
        assert!(id.starts_with(prefix) && id.len() == prefix.len() + 26, "{id}");
    }
    assert!(!ready["resumeToken"].as_str().unwrap().is_empty());
}

#[test]
fn the_answer_names_our_subprotocol_and_never_the_token() {
    let server = Server::start(&[]);
    let token = server.token("anna");
    for (offer, answer) in [
        (format!("throng.v1, bearer.{token}"), Some("throng.v1")),
        (format!("bearer.{token}, throng.v1"), Some("throng.v1")),
        ("throng.v1".into(), Some("throng.v1")),
    ] {
        let client = server.stranger_with(&[("Sec-WebSocket-Protocol", &offer)]);
        assert_eq!(client.protocol.as_deref(), answer);
    }
    // A library would refuse an answer without protocol, so this one is read as bytes.
    let request = support::upgrade_request("/ws", server.port, &[("Sec-WebSocket-Protocol", "chat")]);
    let mut stream = server.tcp();
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    assert!(answer.starts_with("http/1.1 101") && !answer.contains("sec-websocket-protocol"), "{answer}");
}

#[test]
fn a_token_in_the_address_is_refused_unless_allowed() {
    let server = Server::start(&[]);
    let refusal = server.try_open(&format!("/ws?token={}", server.token("anna")), &[]).err().unwrap();
    assert_eq!(refusal.status, 400);
    let with_header = ("Authorization", &*format!("Bearer {}", server.token("anna")));
    let refusal = server.try_open("/ws?token=x", &[with_header]).err().unwrap();
    assert_eq!(refusal.status, 400);
    assert!(server.try_open("/ws?tokens=x&userId=root", &[with_header]).is_ok());
}

#[test]
fn differing_tokens_are_refused_and_equal_ones_are_one() {
    let server = Server::start(&["auth.allow_query_token=true"]);
    let (anna, other) = (server.token("anna"), server.token("berta"));
    let header = format!("Bearer {anna}");
    for (path, offer) in [
        ("/ws".to_string(), format!("throng.v1, bearer.{other}")),
        (format!("/ws?token={other}"), "throng.v1".to_string()),
        (format!("/ws?token={anna}&token={other}"), "throng.v1".to_string()),
        ("/ws".to_string(), format!("throng.v1, bearer.{anna}, bearer.{other}")),
    ] {
        let headers = [("Authorization", &*header), ("Sec-WebSocket-Protocol", &offer)];
        let refusal = server.try_open(&path, &headers).err().unwrap();
        assert_eq!(refusal.status, 400, "{path} {offer}");
        assert!(!refusal.body.contains("eyJ"), "{refusal:?}");
    }
    let offer = format!("throng.v1, bearer.{anna}");
    let headers = [("Authorization", &*header), ("Sec-WebSocket-Protocol", &offer)];
    let mut client = server.try_open(&format!("/ws?token={anna}"), &headers).ok().unwrap();
    assert_eq!(client.greet()["userId"], "anna");
}

/// Product section 12: every token fault in every place. In the request: HTTP 401; in the first frame: close 4002.
#[test]
fn every_token_fault_is_refused_in_every_place() {
    let server = Server::start(&["auth.allow_query_token=true"]);
    for fault in TokenFault::ALL {
        let token = fault.token(&server);
        for (path, headers) in places(&token) {
            let refusal = open(&server, &path, &headers).err().unwrap_or_else(|| panic!("{fault:?} accepted: {path}"));
            assert_eq!((refusal.status, &*refusal.error_code()), (401, "auth_failed"), "{fault:?} {path}");
            assert!(refusal.header("WWW-Authenticate").is_some(), "{fault:?}");
        }
        let mut client = server.stranger();
        client.send("auth", json!({"token": token}));
        assert_eq!(client.rest(), (vec![], Some(4002)), "{fault:?}");
    }
    assert!(server.metric("throng_connections_closed_total{code=\"4002\"}") >= TokenFault::ALL.len() as f64);
}

#[test]
fn no_token_in_time_closes_4001() {
    let server = Server::start(&["auth.timeout_ms=300"]);
    let mut silent = server.stranger();
    let mut talking = server.stranger();
    talking.refused("auth_required", "heartbeat", json!({}));
    let mut in_time = server.stranger();
    let token = server.token("anna");
    in_time.ok("auth", json!({"token": token}));
    assert_eq!(silent.rest(), (vec![], Some(4001)));
    assert_eq!(talking.closed(), 4001);
    assert_eq!(in_time.greet()["userId"], "anna");
    in_time.join("lobby");
}

/// Talking does not buy time.
#[test]
fn chatter_before_sign_in_does_not_extend_the_time() {
    let server = Server::start(&["auth.timeout_ms=400"]);
    let mut client = server.stranger();
    let mut writer = client.stream().try_clone().unwrap();
    let frame = support::text_frame(&json!({"id": "x", "type": "heartbeat"}).to_string());
    const WORDS: usize = 200;
    let chatter = std::thread::spawn(move || {
        let is_open = |_: &usize| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            std::io::Write::write_all(&mut writer, &frame).is_ok()
        };
        (0..WORDS).take_while(is_open).count()
    });
    assert_eq!(client.closed(), 4001);
    client.cut();
    assert!(chatter.join().unwrap() < WORDS, "it was closed while it talked");
}

#[test]
fn before_sign_in_there_is_only_auth() {
    let server = Server::start(&[]);
    let mut client = server.stranger();
    for (kind, data) in [
        ("join_room", json!({"roomId": "lobby"})),
        ("chat_message", json!({"roomId": "lobby", "message": "x", "userId": "root"})),
        ("create_room", json!({"name": "x", "type": "public"})),
        ("refresh_token", json!({"token": server.token("anna")})),
        ("resume", json!({"sessionId": "x", "resumeToken": "x", "rooms": {}})),
        ("get_presence", json!({"userIds": ["anna"]})),
        ("heartbeat", json!({})),
        ("activity", json!({})),
        ("auth", json!({})),
        ("no_such_command", json!({})),
    ] {
        client.refused("auth_required", kind, data);
    }
    client.ok("auth", json!({"token": server.token("anna"), "userId": "root"}));
    assert_eq!(client.greet()["userId"], "anna", "a user id beside the token is ignored");
    client.refused("conflict", "auth", json!({"token": server.token("anna")}));
    assert_eq!(client.join("lobby")["offset"], 0, "nothing of the above took effect");
}

/// R-AUTH-1: 8,192 bytes pass, one more does not, and whole-message limits hold over fragments.
#[test]
fn frames_before_sign_in_are_small() {
    let server = Server::start(&[]);
    let padded = |len: usize| {
        let text = json!({"id": "x", "type": "heartbeat", "data": {}}).to_string();
        format!("{text}{}", " ".repeat(len - text.len()))
    };
    let mut client = server.stranger();
    client.send_text(&padded(8_192));
    assert_eq!(client.next()["data"]["code"], "auth_required");
    client.send_text(&padded(8_193));
    assert_eq!(client.closed(), 1009);

    let mut client = server.stranger();
    client.send_bytes(&support::frame(false, 1, &[b' '; 5_000]));
    client.send_bytes(&support::frame(false, 0, &[b' '; 3_193]));
    assert_eq!(client.closed(), 1009);

    let mut client = server.stranger();
    client.ok("auth", json!({"token": server.token("anna")}));
    client.send_text(&padded(8_193));
    client.greet();
    assert_eq!(client.next()["type"], "heartbeat_response", "after sign-in the usual limit holds");
}

/// Commands behind the `auth` frame, in the same segment, wait for the sign-in and take effect in order.
#[test]
fn commands_may_follow_auth_at_once() {
    let server = Server::with_shards(3, &[]);
    for user in ["anna", "berta", "carla", "dora", "emil"] {
        let mut client = server.stranger();
        client.send_together(&[
            ("auth", json!({"token": server.token(user)})),
            ("join_room", json!({"roomId": format!("room-of-{user}")})),
            ("chat_message", json!({"roomId": format!("room-of-{user}"), "message": "first"})),
        ]);
        let types: Vec<String> = (0..6).map(|_| client.next()["type"].as_str().unwrap().into()).collect();
        assert_eq!(types, ["ack", "connection_established", "ack", "room_state", "ack", "chat_message"], "{user}");
    }
}

#[test]
fn an_expired_token_ends_the_connection_4003() {
    let server = Server::start(&["auth.leeway_s=0"]);
    let exp = now_s() + 2;
    let mut client = server.client_by(&server.sign_raw(&json!({"userId": "anna", "exp": exp})));
    assert_eq!(client.event("token_expiring"), json!({"expiresAt": exp * 1_000}));
    let (messages, code) = client.rest();
    assert_eq!((messages, code), (vec![], Some(4003)), "one warning, then the end");
    assert!(now_s() >= exp, "not before its time");
}

/// R-AUTH-4: the warning comes 60 s before `expiresAt`, which is what it names, whatever leeway follows.
#[test]
fn the_warning_comes_a_minute_before_the_named_time() {
    let server = Server::start(&[]);
    let mut client = server.client_by(&server.sign_raw(&json!({"userId": "anna", "exp": now_s() + 61})));
    assert!(client.event("token_expiring")["expiresAt"].is_u64());
}

#[test]
fn a_refreshed_token_extends_the_connection() {
    let server = Server::start(&["auth.leeway_s=0"]);
    let mut client = server.client_by(&server.sign_raw(&json!({"userId": "anna", "exp": now_s() + 3})));
    let mut other = server.client_by(&server.sign_raw(&json!({"userId": "berta", "exp": now_s() + 4})));
    client.event("token_expiring");
    let exp = now_s() + 3_600;
    let result = client.ok("refresh_token", json!({"token": server.sign_raw(&json!({"userId": "anna", "exp": exp}))}));
    assert_eq!(result, json!({"expiresAt": exp * 1_000}));
    // By the time the other's later token has ended, the first one would have closed the connection.
    assert_eq!(other.closed(), 4003);
    assert_eq!(client.so_far(), Vec::<serde_json::Value>::new());
}

#[test]
fn a_refresh_needs_a_good_token_of_the_same_user() {
    let server = Server::start(&[]);
    let mut client = server.client("anna");
    client.refused("auth_failed", "refresh_token", json!({"token": server.token("berta")}));
    for fault in TokenFault::ALL {
        client.refused("auth_failed", "refresh_token", json!({"token": fault.token(&server)}));
    }
    let error = client.refused("invalid_argument", "refresh_token", json!({}));
    assert_eq!(error["field"], "token");
    client.join("lobby");
}

/// R-AUTH-4, R-ID-3: rights are those of the newest token.
#[test]
fn a_refreshed_token_brings_its_role() {
    let server = Server::start(&[]);
    let mut owner = server.client("owner");
    owner.ok("create_room", json!({"roomId": "club", "name": "Club", "type": "private"}));
    let mut client = server.client("anna");
    client.refused("access_denied", "join_room", json!({"roomId": "club"}));
    client.ok("refresh_token", json!({"token": server.token_as("anna", "moderator")}));
    assert_eq!(client.ok("join_room", json!({"roomId": "club"}))["role"], "moderator");
    client.refused("forbidden", "update_room", json!({"roomId": "club", "name": "Mine"}));
    client.ok("refresh_token", json!({"token": server.token_as("anna", "admin")}));
    client.ok("update_room", json!({"roomId": "club", "name": "Mine"}));
    client.ok("refresh_token", json!({"token": server.token("anna")}));
    client.refused("access_denied", "update_room", json!({"roomId": "club", "name": "Ours"}));
    client.refused("access_denied", "chat_message", json!({"roomId": "club", "message": "still here?"}));
}

/// A token may be valid longer than 32 bits of seconds reach.
#[test]
fn a_token_for_centuries_does_not_end_at_once() {
    let server = Server::start(&["auth.leeway_s=0"]);
    let exp = 5_000_000_000_u64;
    let mut client = server.client_by(&server.sign_raw(&json!({"userId": "anna", "exp": exp})));
    assert!(client.ready["expiresAt"].as_u64().unwrap() > now_s() * 1_000, "{}", client.ready);
    client.join("lobby");
    assert_eq!(client.say("lobby", "still here")["offset"], 1);
}

/// R-SEC-1.
#[test]
fn tokens_and_texts_are_never_logged() {
    let server = Server::start(&["server.log=trace", "auth.allow_query_token=true"]);
    let token = server.token("anna");
    for (path, headers) in places(&token) {
        let mut client = open(&server, &path, &headers).unwrap();
        client.greet();
        client.join("lobby");
        client.say("lobby", "the secret text");
        client.ok("refresh_token", json!({"token": server.token("anna")}));
    }
    for (path, headers) in places(&TokenFault::TamperedSignature.token(&server)) {
        assert!(open(&server, &path, &headers).is_err());
    }
    let log = server.log();
    assert!(log.contains("handshake refused"), "the log is on");
    for secret in ["eyJ", "secret text", &String::from_utf8(server.secret()).unwrap()] {
        assert!(!log.contains(secret), "{secret} in the log");
    }
}

//! Request heads: what is read, what is refused, and that splits and garbage make no difference.
use super::*;
use proptest::prelude::*;

const GET: &str = "GET /ws?a=1&token=x%2By&b HTTP/1.1\r\nHost: chat.example:8080\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: WebSocket\r\nX-Empty:\r\nAccept: a\r\nAccept: b,, c\r\n\r\n";

fn parse(text: &str) -> Result<Option<Head<'_>>, HeadError> {
    parse_head(text.as_bytes())
}

fn refused(text: &str) -> HeadError {
    parse(text).expect_err(text)
}

fn head(text: &str) -> Head<'_> {
    parse(text).unwrap().expect("complete")
}

#[test]
fn reads_what_is_asked() {
    let head = head(GET);
    assert_eq!((head.method(), head.path(), head.minor_version()), ("GET", "/ws", 1));
    assert_eq!(head.query(), Some("a=1&token=x%2By&b"));
    assert_eq!(head.header("HOST"), Some("chat.example:8080"));
    assert_eq!(head.header("x-empty"), Some(""));
    assert_eq!(head.header("absent"), None);
    assert_eq!(head.headers("accept").collect::<Vec<_>>(), ["a", "b,, c"]);
    assert_eq!(head.list("accept").collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(head.len(), GET.len());
    assert!(!head.has_body());
}

#[test]
fn tokens_are_list_members_whatever_the_case() {
    let head = head(GET);
    assert!(head.has_token("connection", "upgrade"));
    assert!(head.has_token("Connection", "Keep-Alive"));
    assert!(head.has_token("upgrade", "websocket"));
    assert!(!head.has_token("connection", "keep"));
    assert!(head.has_token("accept", "C"), "over repeated headers");
}

#[test]
fn query_parameters_are_decoded() {
    let text = "GET /?token=a%2eb%2B&x=1+2&tok%65n=second&bad=%zz%4&utf=%ff&empty=&flag HTTP/1.1\r\nHost: h\r\n\r\n";
    let head = head(text);
    assert_eq!(head.query_param("token").as_deref(), Some("a.b+"));
    assert_eq!(head.query_params("token").collect::<Vec<_>>(), ["a.b+", "second"]);
    assert_eq!(head.query_param("x").as_deref(), Some("1 2"));
    assert_eq!(head.query_param("bad").as_deref(), Some("%zz%4"));
    assert_eq!(head.query_param("utf").as_deref(), Some("\u{fffd}"));
    assert_eq!(head.query_param("empty").as_deref(), Some(""));
    assert_eq!(head.query_param("flag").as_deref(), Some(""));
    assert_eq!(head.query_param("absent"), None);
    assert!(matches!(self::head(GET).query_param("a"), Some(Cow::Borrowed("1"))));
    assert_eq!(self::head("GET / HTTP/1.1\r\nHost: h\r\n\r\n").query_param(""), None);
}

#[test]
fn every_prefix_is_incomplete_and_every_suffix_is_left_alone() {
    for end in 0..GET.len() {
        assert!(parse(&GET[..end]).unwrap().is_none(), "{end}");
    }
    let with_rest = [GET.as_bytes(), b"\x81\x80\xff\xff\xff\xff"].concat();
    assert_eq!(parse_head(&with_rest).unwrap().unwrap().len(), GET.len());
}

#[test]
fn head_size_at_the_limit_and_one_beyond() {
    let with_len = |len: usize| {
        let frame = "GET / HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n";
        frame.replace("X: ", &format!("X: {}", "y".repeat(len - frame.len())))
    };
    assert_eq!(head(&with_len(HTTP_HEAD_BYTES_MAX)).len(), HTTP_HEAD_BYTES_MAX);
    assert_eq!(refused(&with_len(HTTP_HEAD_BYTES_MAX + 1)), HeadError::TooLarge);
    // As soon as it cannot end within the limit any more.
    let endless = with_len(HTTP_HEAD_BYTES_MAX * 2);
    assert!(parse(&endless[..HTTP_HEAD_BYTES_MAX - 1]).unwrap().is_none());
    assert_eq!(refused(&endless[..HTTP_HEAD_BYTES_MAX]), HeadError::TooLarge);
}

#[test]
fn header_count_at_the_limit_and_one_beyond() {
    let with_count = |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert_eq!(head(&with_count(HTTP_HEADERS_MAX)).headers("x").count(), HTTP_HEADERS_MAX - 1);
    assert_eq!(refused(&with_count(HTTP_HEADERS_MAX + 1)), HeadError::TooLarge);
}

#[test]
fn malformed_heads() {
    for text in [
        "\u{16}\u{3}\u{1}",                                          // TLS to the plain port
        "GET / HTTP/2.0\r\n\r\n",                                    // version
        "GET / HTTP/1.1\r\n\r\n",                                    // no Host
        "GET x HTTP/1.1\r\nHost: h\r\n\r\n",                         // neither origin nor absolute form
        "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n",                  // authority form
        "GET /#f HTTP/1.1\r\nHost: h\r\n\r\n",                       // fragment
        "GET / HTTP/1.1\r\nHost : h\r\n\r\n",                        // space before the colon
        "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n",           // folded line
        "GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n",              // bare CR
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n",   // not digits
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n", // a list
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n",      // empty
    ] {
        assert_eq!(refused(text), HeadError::Malformed, "{text:?}");
    }
    assert!(parse("GET / HTTP/1.0\r\n\r\n").unwrap().is_some(), "HTTP/1.0 has no Host");
}

#[test]
fn ambiguous_heads() {
    for (a, b) in [
        ("Host: h", "host: h"),
        ("Origin: http://h", "Origin: http://i"),
        ("Content-Length: 1", "Content-Length: 1"),
        ("Content-Length: 1", "Transfer-Encoding: chunked"),
        ("Sec-WebSocket-Key: a", "Sec-WebSocket-Key: b"),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"),
        ("Authorization: Bearer a", "Authorization: Bearer a"),
    ] {
        let host = if a.starts_with("Host") { "" } else { "Host: h\r\n" };
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\n{host}{a}\r\n{b}\r\n\r\n")), HeadError::Ambiguous, "{a}, {b}");
    }
    let other_host = "GET http://a/x HTTP/1.1\r\nHost: b\r\n\r\n";
    assert_eq!(refused(other_host), HeadError::Ambiguous);
}

#[test]
fn the_absolute_form_is_accepted() {
    let absolute = head("GET http://Chat.example/a?b=c HTTP/1.1\r\nHost: chat.example\r\n\r\n");
    assert_eq!((absolute.path(), absolute.query()), ("/a", Some("b=c")));
    let no_path = head("GET https://h?b HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((no_path.path(), no_path.query()), ("/", Some("b")));
    let not_a_scheme = head("GET /redirect?to=http://else/ HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(not_a_scheme.path(), "/redirect");
}

#[test]
fn bodies_are_noticed() {
    for (line, expected) in [
        ("Content-Length: 0", false),
        ("Content-Length: 000", false),
        ("Content-Length: 10", true),
        ("Content-Length: 99999999999999999999999", true),
        ("Transfer-Encoding: chunked", true),
    ] {
        assert_eq!(head(&format!("GET / HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n")).has_body(), expected, "{line}");
    }
}

#[test]
fn other_encodings_are_tolerated_only_where_nobody_looks() {
    let latin_1 = |name: &str| {
        let mut bytes = format!("GET / HTTP/1.1\r\nHost: h\r\n{name}: caf?\r\n\r\n").into_bytes();
        let at = bytes.len() - 5;
        assert_eq!(std::mem::replace(&mut bytes[at], 0xe9), b'?');
        bytes
    };
    let cookie = latin_1("Cookie");
    assert_eq!(parse_head(&cookie).unwrap().unwrap().header("cookie"), None);
    for name in ["Origin", "X-Forwarded-For"] {
        assert_eq!(parse_head(&latin_1(name)).unwrap_err(), HeadError::Malformed, "{name}");
    }
}

#[test]
fn debug_output_shows_no_secrets() {
    let text = "GET /ws?token=secret HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\r\n";
    let shown = format!("{:?}", head(text));
    assert!(shown.contains("/ws") && !shown.contains("secret"), "{shown}");
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_head(&bytes);
    }

    /// Damage one byte of a good head: whatever it becomes, prefixes never decide otherwise than the whole.
    #[test]
    fn prefixes_of_damaged_heads_agree(at in 0..GET.len(), byte in any::<u8>()) {
        let mut bytes = GET.as_bytes().to_vec();
        bytes[at] = byte;
        let outcome = |bytes: &[u8]| parse_head(bytes).map(|head| head.map(|head| head.len()));
        let whole = outcome(&bytes);
        for end in 0..bytes.len() {
            match outcome(&bytes[..end]) {
                Ok(None) => {}
                early => prop_assert_eq!(early, whole, "prefix of {}", end),
            }
        }
    }
}

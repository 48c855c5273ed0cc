//! SIGHUP reads the keys again (R-AUTH-2): a key file that changed on disk counts without a restart.
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Ends with the test.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(folder: &Path, settings: &[String]) -> Server {
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_throng"));
        command.args(["serve", "--shards", "2", "--listen", &format!("127.0.0.1:{port}")]);
        command.arg("--data-dir").arg(folder.join("data")).env_remove("JWT_SECRET").env_remove("THRONG_CONFIG");
        for setting in settings {
            command.args(["--set", setting]);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the server");
        Server { child, port }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().expect("kill").success());
    }

    /// HTTP status of a handshake with this token; none while nobody listens.
    fn handshake(&self, token: &str) -> Option<u16> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).ok()?;
        std::str::from_utf8(&head[9..]).ok()?.parse().ok()
    }

    /// Waits until a handshake ends like this.
    fn comes_to(&self, token: &str, status: u16) {
        let mut seen = None;
        for _ in 0..150 {
            seen = self.handshake(token);
            if seen == Some(status) {
                return;
            }
            sleep(Duration::from_millis(100)); // also keeps below limits.handshakes_per_ip
        }
        panic!("status {seen:?}, expected {status}");
    }
}

/// Outside the ephemeral range, so that no outgoing connection takes it meanwhile.
fn free_port() -> u16 {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 9_000) as u16 + 1_000 * COUNT.fetch_add(1, Relaxed);
    (first..first + 1_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

fn token(secret: &str, kid: Option<&str>) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let header = Header { kid: kid.map(Into::into), ..Header::default() };
    let claims = json!({"userId": "anna", "exp": now_s + 600});
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

const OLD: &str = "the first secret of at least 32 bytes";
const NEW: &str = "another secret of at least 32 bytes..";

#[test]
fn a_changed_secret_file_counts_after_sighup() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("jwt.secret");
    fs::write(&file, OLD).expect("written");
    let server = Server::start(folder.path(), &[format!("auth.secret_file={}", file.display())]);
    server.comes_to(&token(OLD, None), 101);
    server.comes_to(&token(NEW, None), 401);

    fs::write(&file, NEW).expect("written");
    server.signal("-HUP");
    server.comes_to(&token(NEW, None), 101);
    server.comes_to(&token(OLD, None), 401);

    // What cannot be used changes nothing.
    fs::write(&file, "short").expect("written");
    server.signal("-HUP");
    fs::remove_file(&file).expect("removed");
    server.signal("-HUP");
    server.comes_to(&token(NEW, None), 101);
    server.comes_to(&token(OLD, None), 401);
}

#[test]
fn a_changed_key_set_counts_after_sighup() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.json");
    let key_set = |kid: &str, secret: &str| {
        use base64::Engine;
        let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret);
        let key = json!({"kty": "oct", "kid": kid, "alg": "HS256", "k": encoded});
        fs::write(&file, json!({"keys": [key]}).to_string()).expect("written");
    };
    key_set("one", OLD);
    let server = Server::start(folder.path(), &[format!("auth.jwks_file={}", file.display())]);
    server.comes_to(&token(OLD, Some("one")), 101);

    key_set("two", NEW);
    server.signal("-HUP");
    server.comes_to(&token(NEW, Some("two")), 101);
    server.comes_to(&token(OLD, Some("one")), 401);
}

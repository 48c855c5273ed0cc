//! What development mode prints once it is ready: two demo users, ready to use.
use super::dev::{Claims, DevKey};
use crate::config::Config;
use crate::plane::os;
use std::net::SocketAddr;

/// How long the demo users' tokens are valid: a day of trying things out.
const TOKEN_S: u64 = 24 * 3_600;

/// Prints to standard output, where it can be piped.
pub fn print(config: &Config, address: SocketAddr) {
    let key = match DevKey::load(&config.server.data_dir) {
        Ok(key) => key,
        Err(error) => return tracing::error!(%error, "no demo tokens"),
    };
    let now_s = os::now().unix_ms / 1_000;
    let (http, ws) = match config.tls.cert_file.is_some() && config.http.tls_listen.is_none() {
        true => ("https", "wss"),
        false => ("http", "ws"),
    };
    println!("Throng is ready on {http}://{address} (development mode).");
    println!();
    println!("Open both addresses, in two tabs, and chat:");
    let users = ["anna", "bob"].map(|user| {
        let claims = Claims { user_id: user, ..Claims::default() };
        (user, key.sign(&claims, now_s, TOKEN_S).unwrap_or_default())
    });
    for (user, token) in &users {
        println!("  {user:<5} {http}://{address}/#room=lobby&name={user}&token={token}");
    }
    println!();
    println!("Or use any WebSocket client on {ws}://{address}/ws with the header");
    println!("  Authorization: Bearer {}", users[0].1);
    println!();
    println!("More tokens: throng token --data-dir {} --user ID", config.server.data_dir.display());
    println!("Stop with Ctrl-C; messages are kept in {}.", config.server.data_dir.display());
}

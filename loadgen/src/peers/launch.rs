//! Starts a peer for one run: on a free port, on its own cores, with its script or configuration in a folder of its own.
use super::find::{NCHAN_MODULE, Program};
use super::{Missing, Peer};
use crate::server::running::{Running, Start, make_folder};
use crate::server::{Launch, ServerError, Signer, Target, addresses, cores, launch::default_parent};
use crate::wire::Identity;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

const START: Duration = Duration::from_secs(30);

/// None of them has anything to save.
const DRAIN: Duration = Duration::from_secs(3);

impl From<Missing> for ServerError {
    fn from(missing: Missing) -> ServerError {
        ServerError::Usage(missing.to_string())
    }
}

impl Program {
    /// Starts it and waits until it accepts. Of `options`, the program and the settings are Throng's alone. `Target::pid` may have
    /// children (the workers of nginx), which are there by then.
    pub fn launch(&self, options: &Launch) -> Result<(Running, Target), ServerError> {
        let peer = self.peer;
        let port = addresses::free_port().map_err(ServerError::Failed)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let folder = make_folder(&options.parent.clone().unwrap_or_else(default_parent), peer.name())?;
        let workers = match options.cores.len() {
            0 => cores::available().len().max(1),
            count => count,
        };
        let (program, arguments) = self
            .prepare(&folder, port, workers)
            .map_err(|error| ServerError::Failed(format!("{}: {}: {error}", peer.name(), folder.display())))?;
        let mut running = Running::start(Start {
            name: peer.name(),
            program: &program,
            arguments,
            cores: &options.cores,
            folder,
            keep: options.keep,
            drain: DRAIN,
        })?;
        let pid = running.pid();
        let children = if peer == Peer::Nchan { workers } else { 0 };
        running.await_ready(START, || accepts(peer, address) && has_children(pid, children))?;
        let target = Target {
            addresses: vec![address],
            host: address.to_string(),
            dialect: peer.dialect(),
            signer: Signer::none(),
            pid: Some(pid),
            admin: None,
            name: format!("{} {}", peer.name(), self.version).trim_end().to_string(),
            sources: addresses::sources(options.connections, 1),
        };
        Ok((running, target))
    }

    /// Writes what the program needs into `folder`; the program and its arguments.
    fn prepare(
        &self,
        folder: &Path,
        port: u16,
        workers: usize,
    ) -> std::io::Result<(std::path::PathBuf, Vec<OsString>)> {
        let port_text = OsString::from(port.to_string());
        let script = |name: &str, text: &str| {
            std::fs::write(folder.join("events.js"), include_str!("../../peers/events.js"))?;
            std::fs::write(folder.join(name), text)?;
            Ok::<OsString, std::io::Error>(folder.join(name).into())
        };
        let node = |script: OsString| {
            let mut path = OsString::from("NODE_PATH=");
            path.push(&self.packages);
            // Replaces itself by the program, so the process id is the program's.
            let arguments =
                vec![path, "NODE_ENV=production".into(), self.path.clone().into(), script, port_text.clone()];
            ("/usr/bin/env".into(), arguments)
        };
        Ok(match self.peer {
            Peer::Bun => {
                (self.path.clone(), vec![script("bun.js", include_str!("../../peers/bun.js"))?, port_text.clone()])
            }
            Peer::Ws => node(script("ws.js", include_str!("../../peers/ws.js"))?),
            Peer::SocketIo => node(script("socketio.js", include_str!("../../peers/socketio.js"))?),
            Peer::Nchan => {
                let text = include_str!("../../peers/nchan.conf")
                    .replace("@PORT@", &port.to_string())
                    .replace("@WORKERS@", &workers.to_string())
                    .replace("@NOFILE@", &nofile().to_string())
                    .replace("@MODULE@", NCHAN_MODULE);
                std::fs::write(folder.join("nginx.conf"), text)?;
                let arguments = ["-p".into(), folder.into(), "-e".into(), "stderr".into(), "-c".into()];
                (self.path.clone(), arguments.into_iter().chain(["nginx.conf".into()]).collect())
            }
            Peer::TokioTungstenite | Peer::FastWebsockets => (self.path.clone(), vec![port_text]),
        })
    }
}

/// Descriptors that a child of ours may have.
fn nofile() -> u64 {
    const UNLIMITED: u64 = 1 << 20;
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(UNLIMITED).min(UNLIMITED)
}

/// Whether a client gets a yes to its upgrade.
fn accepts(peer: Peer, address: SocketAddr) -> bool {
    upgraded(peer, address).is_ok_and(|stream| stream.is_some())
}

/// A connection with the yes to its upgrade taken off; `None` if it was a no.
fn upgraded(peer: Peer, address: SocketAddr) -> std::io::Result<Option<TcpStream>> {
    const LIMIT: Duration = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut request = Vec::new();
    let identity = Identity { user: "user-00000", token: None };
    peer.dialect().upgrade(&mut request, &address.to_string(), &identity, &["room"]);
    stream.write_all(&request)?;
    let mut head = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
        match peer.dialect().accepted(&head) {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(Some(stream)),
            Err(_) => return Ok(None),
        }
    }
}

/// Whether a process has at least so many children; true where the kernel does not tell.
fn has_children(pid: u32, count: usize) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) {
        Ok(children) => children.split_whitespace().count() >= count,
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use throng_loadgen::engine::{Control, EngineOptions, run};
use throng_loadgen::scenario::Scenario;
use throng_loadgen::server::{Launch, launch, Cores};
fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let path = std::env::args().nth(1).unwrap();
    let mut s: Scenario = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    if let Some(n) = std::env::args().nth(2) { s.connections = n.parse().unwrap(); }
    let cores = if std::env::var("NOPIN").is_ok() { Cores::default() } else { Cores::halves() };
    let (server, target) = launch(&Launch{ program: Some(PathBuf::from("target/release/throng")), connections: s.connections, settings: s.server.clone(), cores: cores.server.clone(), ..Launch::default() }).unwrap();
    let o = run(&EngineOptions{ scenario:&s, target:&target, workers: None, cores: cores.client.clone(), seed:1, salt:2}, &Control::default());
    match o { Err(e) => println!("ERR {e}"), Ok(o) => {
        println!("{:#?}", o.counts); println!("{:#?}", o.integrity);
        for (t,l) in &o.latency { println!("{t:?} n={} resp {:?} service {:?}", l.count, l.response, l.service); }
        println!("{:#?}", o.watched.server); println!("client cpu {} lag {:?} rss {} -> {}", o.client.cpu_ns, o.client.lag, o.client.rss_before_bytes, o.client.rss_connected_bytes);
        for s in &o.watched.series { println!("{:?} {} conn {} sent {} del {} p99 {} srv {:.2} cl {:.2} rss {} crss {} slab {:?} lag {}", s.phase, s.t_s, s.connected, s.sent, s.delivered, s.p99_ns, s.server_cores, s.client_cores, s.server_rss_bytes>>20, s.client_rss_bytes>>20, s.kernel_slab_bytes.map(|b| b>>20), s.lag_max_ns); }
        for w in &o.client.workers { println!("{w:?}"); }
        println!("{:#?}", o.watched.witness.histograms);
    }}
    drop(server);
}

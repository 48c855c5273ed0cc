//! The names of all metrics, with what they mean: what targets may bound.
use crate::result::Timed;

/// Fixed names. The unit is part of the name; names without one are counts.
pub const METRICS: [(&str, &str); 51] = [
    ("lost", "deliveries that never came, without those that the server says it skipped"),
    ("lost_durable", "durable deliveries that never came, though acknowledged"),
    ("lost_live", "live deliveries that never came, skipped ones included"),
    ("skipped_live", "live deliveries that the server says it skipped, where no reader is slow on purpose"),
    ("missed_away", "messages sent while their receiver was away, not recovered"),
    ("duplicated", "deliveries that came twice"),
    ("reordered", "deliveries that came after a later one of the same sender"),
    ("foreign", "deliveries that nobody sent, or of another room"),
    ("unanswered", "heartbeats without an answer"),
    ("offset_faults", "durable offsets that did not grow, or changed their epoch"),
    ("closed", "connections that ended without the scenario asking for it"),
    ("away_at_end", "clients that had lost their connection and were not back when the run had settled"),
    ("closed_slow", "slow readers that the server closed with 4101"),
    ("refused", "errors that the server answered"),
    ("connected", "connections that stood"),
    ("connect_failed", "connections that did not come to stand"),
    ("reconnected", "connections that came back"),
    ("recovered", "joins after a break that brought all that was missed"),
    ("not_recovered", "joins after a break that could not bring all"),
    ("connects_per_second", "connections over the time from the first connect to the last join"),
    ("reconnects_per_second", "broken connections over the time until all were back, of a storm"),
    ("storm_s", "time from the storm until all were back"),
    ("messages_per_second", "messages sent in the measured window, all kinds"),
    ("deliveries_per_second", "deliveries in the measured window"),
    ("acks_per_second", "acks of durable messages in the measured window"),
    ("heartbeats_per_second", "answered heartbeats in the measured window"),
    ("server.cores", "cores that the server used in the measured window"),
    ("server.busiest_thread_cores", "cores that its busiest thread used: 1 is all of one"),
    ("server.cpu_system_ratio", "share of its CPU time that was the kernel's"),
    ("server.cpu_us_per_delivery", "CPU of the measured window over its deliveries"),
    ("server.cpu_us_per_message", "CPU of the measured window over the messages sent in it"),
    ("server.cpu_us_per_ack", "CPU of the measured window over the acks in it"),
    ("server.cpu_us_per_heartbeat", "CPU of the measured window over the heartbeats answered in it; no other traffic"),
    ("server.cpu_us_per_connect", "CPU of the connect phase over its connections: handshake, sign-in, joins"),
    (
        "server.cpu_us_per_connection_second",
        "CPU of a connection at rest in a second, heartbeats included; no other traffic",
    ),
    ("server.rss_bytes", "resident memory when all were connected"),
    ("server.rss_max_bytes", "most resident memory of the run"),
    ("server.rss_bytes_per_connection", "growth of resident memory from none to all connections, over these"),
    (
        "server.kernel_bytes_per_connection",
        "growth of the kernel's slabs from none to all connections, over these and halved: they hold both ends of a loopback \
         connection",
    ),
    ("server.bytes_per_connection", "both of these together"),
    ("client.cores", "cores that the load generator used"),
    ("client.busy_max_ratio", "share of the measured window that its busiest worker was on a CPU"),
    ("client.lag_p50_ms", "median of how late it sent"),
    ("client.lag_p99_ms", "99th percentile of how late it sent"),
    ("client.lag_max_ms", "how late it sent at most"),
    ("client.unsent_bytes_max", "most bytes of a worker that the kernel did not take at once"),
    ("client.cpu_us_per_delivery", "its CPU of the measured window over the deliveries in it"),
    ("client.rss_bytes", "its resident memory when all were connected"),
    ("client.rss_bytes_per_connection", "growth of its resident memory from none to all connections, over these"),
    ("verify.faults", "what the plain clients of --verify found wrong"),
    ("contradictions", "points on which clients and server disagree"),
];

/// Points of a distribution; `mean` among them. Names are `latency.p99_ms` (the kind of latency that stands for the scenario),
/// `live.p99_ms` (each kind of `Timed`), `live.service_p99_ms` (counted from the actual send), `server.broadcast.p99_ms` (what the
/// server says itself).
pub const POINTS: [&str; 7] = ["p50_ms", "p90_ms", "p99_ms", "p999_ms", "p9999_ms", "max_ms", "mean_ms"];

/// Histograms of the server.
const SERVER_HISTOGRAMS: [&str; 5] = ["broadcast", "commit", "handshake", "mesh_hop", "turn"];

/// Whether a metric of this name can exist. `Err`: the name that was probably meant.
pub fn check(name: &str) -> Result<(), Option<String>> {
    // `vs.bun.cpu_ratio` of a comparison; what there is to compare is not known here.
    if let Some(rest) = name.strip_prefix("vs.")
        && rest.split_once('.').is_some_and(|(peer, ratio)| !peer.is_empty() && ratio.ends_with("_ratio"))
    {
        return Ok(());
    }
    let mut known = all();
    if known.any(|known| known == name) {
        return Ok(());
    }
    let near = all().map(|known| (distance(name, &known), known)).min();
    // A third of the name wrong is another name.
    Err(near.filter(|(distance, _)| *distance * 3 <= name.chars().count()).map(|(_, known)| known))
}

fn all() -> impl Iterator<Item = String> {
    let timed = Timed::ALL.iter().map(|timed| timed.name().to_string());
    let groups = timed.chain(["latency".to_string()]).chain(SERVER_HISTOGRAMS.map(|name| format!("server.{name}")));
    let points = groups.flat_map(|group| {
        let service = (!group.starts_with("server.")).then(|| format!("{group}.service_p99_ms"));
        POINTS.map(|point| format!("{group}.{point}")).into_iter().chain(service)
    });
    METRICS.iter().map(|(name, _)| name.to_string()).chain(points)
}

/// Letters to insert, remove or replace (Levenshtein).
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = at + 1;
        for (column, other) in two.iter().enumerate() {
            let replaced = corner + usize::from(letter != *other);
            corner = row[column + 1];
            row[column + 1] = replaced.min(corner + 1).min(row[column] + 1);
        }
    }
    row[two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_pass() {
        for name in
            ["lost", "latency.p99_ms", "ack.max_ms", "live.service_p99_ms", "server.commit.p50_ms", "vs.bun.cpu_ratio"]
        {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let mut names: Vec<String> = all().collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "no name twice");
    }

    #[test]
    fn wrong_names_have_a_neighbour() {
        let near = |name| check(name).unwrap_err();
        assert_eq!(near("latency.p99"), Some("latency.p99_ms".into()));
        assert_eq!(near("server.rss_bytes_per_conection"), Some("server.rss_bytes_per_connection".into()));
        assert_eq!(near("loss"), Some("lost".into()));
        assert_eq!(near("weather"), None);
        assert_eq!(near("vs.bun"), None);
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("abc", "abc")), (3, 3, 0));
    }
}

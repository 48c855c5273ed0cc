//! The table of counters: one line gives the field, the exported name and the meaning. Totals since start.
//!
//! A shard adds to its own `Counters` (`counters.accepted += 1`, `counters.dropped.add(DropReason::Gone, 1)`): plain
//! memory of about 1.5 KiB. A reader merges copies.
use super::labels::{
    AuthFailure, DropReason, Ending, EngineEnd, HandshakeRefusal, Label, Recovered, TlsFailure, TlsHandshake,
};
use crate::base::close::CloseCode;
use crate::base::refusal::Code;
use std::borrow::Cow;
use std::marker::PhantomData;

/// One count for each value of a label. `N` is the number of values, checked when compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerLabel<L, const N: usize> {
    counts: [u64; N],
    label: PhantomData<L>,
}

impl<L: Label, const N: usize> Default for PerLabel<L, N> {
    fn default() -> Self {
        const { assert!(N == L::ALL.len(), "one count per label value") };
        PerLabel { counts: [0; N], label: PhantomData }
    }
}

impl<L: Label, const N: usize> PerLabel<L, N> {
    pub fn add(&mut self, label: L, count: u64) {
        self.counts[label.index()] += count;
    }

    pub fn get(&self, label: L) -> u64 {
        self.counts[label.index()]
    }

    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, count)| *sum += count);
    }

    fn samples(&self) -> Vec<(Cow<'static, str>, u64)> {
        L::ALL.iter().map(|label| (label.text(), self.get(*label))).collect()
    }
}

/// Counts by constant names that are not known here: what the domain reports through `Effects::count`.
/// As many entries as there are names in the code; a name is allocated for once, when first seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named(Vec<(&'static str, u64)>);

impl Named {
    pub const KEY: &'static str = "what";

    pub fn add(&mut self, name: &'static str, count: u64) {
        match self.0.iter_mut().find(|(known, _)| std::ptr::eq(*known, name) || *known == name) {
            Some((_, sum)) => *sum += count,
            None => self.0.push((name, count)),
        }
    }

    fn samples(&self) -> Vec<(Cow<'static, str>, u64)> {
        self.0.iter().map(|(name, count)| (Cow::Borrowed(*name), *count)).collect()
    }

    pub fn get(&self, name: &str) -> u64 {
        self.0.iter().find(|(known, _)| *known == name).map_or(0, |(_, count)| *count)
    }
}

/// What a counter is called outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Prometheus name, ending in `_total`.
    pub name: &'static str,
    pub help: &'static str,
    /// The key of its only label, if it has one.
    pub label: Option<&'static str>,
}

/// One exported family: its samples, by label value if it has a label.
#[derive(Clone, Debug)]
pub struct Family {
    pub info: &'static Info,
    pub samples: Vec<(Cow<'static, str>, u64)>,
}

macro_rules! counters {
    (plain { $($field:ident $name:literal $help:literal;)* }
     labelled { $($lfield:ident: $Label:ident $lname:literal $lhelp:literal;)* }
     named { $($nfield:ident $nname:literal $nhelp:literal;)* }) => {
        /// All counters of one shard.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $(#[doc = $help] pub $field: u64,)*
            $(#[doc = $lhelp] pub $lfield: PerLabel<$Label, { <$Label as Label>::ALL.len() }>,)*
            $(#[doc = $nhelp] pub $nfield: Named,)*
        }

        impl Counters {
            /// The table, in the order of `families`.
            pub const TABLE: &'static [Info] = &[
                $(Info { name: $name, help: $help, label: None },)*
                $(Info { name: $lname, help: $lhelp, label: Some(<$Label as Label>::KEY) },)*
                $(Info { name: $nname, help: $nhelp, label: Some(Named::KEY) },)*
            ];

            /// Adds another shard's counts.
            pub fn merge(&mut self, other: &Counters) {
                $(self.$field += other.$field;)*
                $(self.$lfield.merge(&other.$lfield);)*
                $(other.$nfield.0.iter().for_each(|(name, count)| self.$nfield.add(name, *count));)*
            }

            /// Everything there is to export, one entry per line of the table.
            pub fn families(&self) -> Vec<Family> {
                let samples =
                    [$(vec![(Cow::Borrowed(""), self.$field)],)* $(self.$lfield.samples(),)* $(self.$nfield.samples(),)*];
                Self::TABLE.iter().zip(samples).map(|(info, samples)| Family { info, samples }).collect()
            }
        }
    };
}

counters! {
    plain {
        accepted "throng_connections_accepted_total" "TCP connections accepted";
        handed_over "throng_connections_handed_over_total" "Connections passed to the service pages";
        upgraded "throng_websocket_upgrades_total" "WebSocket handshakes completed";
        streams_opened "throng_event_streams_opened_total" "Event streams begun";
        signed_in "throng_sign_ins_total" "Connections that became a user's";
        tokens_refreshed "throng_token_refreshes_total" "Tokens extended on live connections";
        resumed "throng_sessions_resumed_total" "Sessions continued by a resume token";
        bytes_received "throng_received_bytes_total" "Bytes received on established connections";
        bytes_sent "throng_sent_bytes_total" "Bytes taken by the kernel on established connections";
        messages_received "throng_messages_received_total" "Complete client messages";
        messages_invalid "throng_messages_invalid_total" "Client messages that are no valid envelope";
        messages_inflated "throng_inflate_messages_total" "Client messages that came compressed";
        deflate_messages "throng_deflate_messages_total" "Messages compressed: a broadcast once for each room, shard and window size";
        deflate_bytes_before "throng_deflate_input_bytes_total" "Bytes of compressed messages before";
        deflate_bytes_after "throng_deflate_output_bytes_total" "Bytes of compressed messages after";
        durable_acked "throng_durable_messages_acknowledged_total" "Messages acknowledged after they were on disk";
        duplicates "throng_durable_messages_duplicate_total" "Messages sent again under a client id already used";
        durable_published "throng_durable_events_published_total" "Durable events published to rooms";
        live_published "throng_live_events_published_total" "Live events published to rooms";
        frames_delivered "throng_frames_delivered_total" "Room frames handed to the kernel, one for each member";
        rate_limited "throng_rate_limited_total" "Commands over a rate limit";
        tls_record_faults "throng_tls_record_faults_total" "TLS connections ended because of a record that was wrong, or of an alert";
        pings_sent "throng_pings_sent_total" "WebSocket pings sent after silence, and comments on event streams";
        turns_half_way "throng_turns_half_way_total" "Turns that left members of a large room for the next, to be offered its frames";
        mesh_sent "throng_mesh_messages_sent_total" "Messages to other shards";
        mesh_received "throng_mesh_messages_received_total" "Messages from other shards";
        engine_opened "throng_engine_sessions_total" "Engine.IO sessions opened";
        engine_upgraded "throng_engine_upgrades_total" "Engine.IO sessions that moved from polling to a WebSocket";
        engine_recovered "throng_engine_recoveries_total" "Lost Socket.IO connections taken up with all that was missed";
        engine_recoveries_failed "throng_engine_recoveries_failed_total" "Recoveries begun that a room could not complete";
        plane_enters "throng_plane_enters_total" "System calls into the ring";
        plane_receives "throng_plane_receives_total" "Receive completions";
        plane_out_of_buffers "throng_plane_out_of_buffers_total" "Receives stopped because the shard had no buffer left";
        plane_short_sends "throng_plane_short_sends_total" "Sends that the kernel took only in part";
        plane_promoted "throng_plane_promotions_total" "Connections that went from idle to active";
        plane_demoted "throng_plane_demotions_total" "Connections that went back from active to idle";
        plane_stale "throng_plane_stale_completions_total" "Completions that came after their connection had ended";
        plane_adopted "throng_plane_adoptions_total" "Connections put into the descriptor table";
        plane_released "throng_plane_releases_total" "Rows of the descriptor table freed";
    }
    labelled {
        closed: Ending "throng_connections_closed_total" "Connections ended, by close code; 1006: without a close frame";
        handshakes_refused: HandshakeRefusal "throng_handshakes_refused_total" "Connections refused before the upgrade";
        tls_handshakes: TlsHandshake "throng_tls_handshakes_total" "TLS handshakes completed";
        tls_failures: TlsFailure "throng_tls_handshake_failures_total" "TLS handshakes that failed";
        auth_failures: AuthFailure "throng_auth_failures_total" "Tokens not accepted";
        commands_refused: Code "throng_commands_refused_total" "Commands answered with an error";
        ws_errors: CloseCode "throng_websocket_errors_total" "Violations of the WebSocket protocol, by the code they were closed with";
        recoveries: Recovered "throng_recoveries_total" "Recoveries by position";
        dropped: DropReason "throng_drops_total" "Everything that was not delivered or not taken on";
        engine_ended: EngineEnd "throng_engine_sessions_ended_total" "Engine.IO sessions ended";
    }
    named {
        domain "throng_domain_events_total" "What rooms report by constant names";
        engine_refused "throng_engine_requests_refused_total" "Engine.IO requests answered with an error, by constant names";
    }
}

const _: () = assert!(size_of::<Counters>() <= 2048, "the module's text states the size");

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_of_the_house_form() {
        let names: HashSet<_> = Counters::TABLE.iter().map(|info| info.name).collect();
        assert_eq!(names.len(), Counters::TABLE.len());
        for info in Counters::TABLE {
            assert!(info.name.starts_with("throng_") && info.name.ends_with("_total"), "{}", info.name);
            assert!(!info.help.is_empty() && !info.help.contains(['\n', '\\', '|']), "{}", info.name);
        }
    }

    #[test]
    fn families_follow_the_table_and_carry_the_counts() {
        let mut counters = Counters { accepted: 3, plane_released: 9, ..Counters::default() };
        counters.dropped.add(DropReason::Gone, 2);
        counters.domain.add("typing_expired", 4);
        let families = counters.families();
        assert_eq!(families.len(), Counters::TABLE.len());
        let sample = |name: &str, label: &str| {
            let family = families.iter().find(|family| family.info.name == name).unwrap();
            family.samples.iter().find(|(text, _)| text == label).unwrap().1
        };
        assert_eq!(sample("throng_connections_accepted_total", ""), 3);
        assert_eq!(sample("throng_plane_releases_total", ""), 9);
        assert_eq!(sample("throng_drops_total", "gone"), 2);
        assert_eq!(sample("throng_drops_total", "live_lagging"), 0);
        assert_eq!(sample("throng_domain_events_total", "typing_expired"), 4);
    }

    #[test]
    fn merging_adds_every_field() {
        let mut one = Counters { bytes_sent: 5, ..Counters::default() };
        one.closed.add(Ending::Lost, 1);
        one.domain.add("a", 1);
        let mut two = one.clone();
        two.domain.add("b", 7);
        two.merge(&one);
        assert_eq!((two.bytes_sent, two.closed.get(Ending::Lost), two.closed.total()), (10, 2, 2));
        assert_eq!((two.domain.get("a"), two.domain.get("b"), two.domain.get("c")), (2, 7, 0));
        let double: u64 = one.families().iter().flat_map(|family| &family.samples).map(|(_, count)| count).sum();
        one.merge(&one.clone());
        let sum: u64 = one.families().iter().flat_map(|family| &family.samples).map(|(_, count)| count).sum();
        assert_eq!(sum, 2 * double);
    }
}

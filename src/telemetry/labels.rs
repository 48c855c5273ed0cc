//! Closed sets of label values. A label is never free text: its cardinality is the length of a list in this file
//! (or of the protocol's own lists of codes), and no user or room name can become one (R-OPS-1).
use crate::base::close::CloseCode;
use crate::base::refusal::Code;
use std::borrow::Cow;

/// A set of label values, each with a dense index.
pub trait Label: Copy + 'static {
    /// The label's key in the exposition, for example `reason`.
    const KEY: &'static str;
    /// All values, in the order of their indices.
    const ALL: &'static [Self];

    /// Position in `ALL`.
    fn index(self) -> usize;
    /// The text of the value.
    fn text(self) -> Cow<'static, str>;
}

macro_rules! labels {
    ($($(#[$doc:meta])* $Name:ident $key:literal { $($Variant:ident $text:literal $meaning:literal;)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $Name { $(#[doc = $meaning] $Variant,)* }

        impl $Name {
            /// Every value with what it means, for the documentation.
            pub const MEANINGS: &'static [(&'static str, &'static str)] = &[$(($text, $meaning),)*];
        }

        impl Label for $Name {
            const KEY: &'static str = $key;
            const ALL: &'static [$Name] = &[$($Name::$Variant,)*];

            fn index(self) -> usize {
                self as usize
            }

            fn text(self) -> Cow<'static, str> {
                Cow::Borrowed(Self::MEANINGS[self.index()].0)
            }
        }
    )*};
}

labels! {
    /// Why something was not delivered or not taken on. Nothing is dropped without one of these (R-CONN-5).
    DropReason "reason" {
        LiveLagging "live_lagging" "Live event skipped for a reader over `conn.out_queue_bytes`";
        SlowConsumerClosed "slow_consumer_closed" "Reader closed 4101: a durable event did not fit; it recovers by offset";
        WriteTimeout "write_timeout" "Reader closed 4101: nothing could be sent for `conn.write_timeout_ms`";
        MailboxFullLive "mailbox_full_live" "Live event not passed to another shard, its mailbox was full";
        MailboxFullCommand "mailbox_full_command" "Command refused as overloaded: the mailbox of the room's shard was full";
        StoreQueueFull "store_queue_full" "Command refused as overloaded: the queue of the store was full";
        ParkedFull "parked_full" "Command refused as overloaded: too many wait already, for one room or for a shard";
        Gone "gone" "Event or answer for a connection that had ended meanwhile";
        MailboxFullEngine "mailbox_full_engine" "Engine.IO request not passed to its session's shard, whose mailbox was full: HTTP 503";
        RecoveryExpired "recovery_expired" "State of a lost Socket.IO client that did not come back within `sio.recovery_ms`";
        RecoveryFull "recovery_full" "State of a lost Socket.IO client given up early: too many are kept on one shard";
        StreamInput "stream_input" "Bytes from the client of an event stream: thrown away";
        Leaving "leaving" "Client message that came after `server_closing`: not taken up";
    }

    /// Why a handshake was refused, before or instead of the upgrade.
    HandshakeRefusal "reason" {
        Origin "origin" "HTTP 403: Origin neither the request's host nor in `http.allowed_origins`";
        AddressRate "address_rate" "HTTP 429: over `limits.handshakes_per_ip`";
        AddressCount "address_count" "HTTP 429: over `limits.connections_per_ip`";
        Unauthenticated "unauthenticated" "HTTP 503: over `limits.unauthenticated`";
        Connections "connections" "HTTP 503: over `limits.connections`";
        Draining "draining" "HTTP 503: the server is closing";
        HeadTimeout "head_timeout" "No complete HTTP head within `http.head_timeout_ms`";
        HeadTooBig "head_too_big" "HTTP 431: head over 16384 bytes or too many headers";
        BadRequest "bad_request" "HTTP 400, 405 or 426: not HTTP, not a WebSocket handshake, or no request for an event stream";
        BadToken "bad_token" "HTTP 401: the request carried a token that does not hold";
        NotFound "not_found" "HTTP 404: no such path";
        Tls "tls" "The TLS handshake failed: see `throng_tls_handshake_failures_total`";
    }

    /// How a TLS handshake was done.
    TlsHandshake "kind" {
        Full13 "tls13_full" "TLS 1.3";
        Resumed13 "tls13_resumed" "TLS 1.3 by a ticket: no certificate, no signature";
        Full12 "tls12_full" "TLS 1.2";
        Resumed12 "tls12_resumed" "TLS 1.2 by a ticket";
    }

    /// Why a TLS handshake failed. Whose fault it is can be guessed: the first four are usually clients'.
    TlsFailure "reason" {
        NotTls "not_tls" "The first bytes are no TLS: HTTP without TLS, or a scanner";
        Version "version" "Nothing newer than TLS 1.1 offered";
        NothingInCommon "nothing_in_common" "No cipher suite, group or signature scheme in common";
        Alpn "alpn" "ALPN without `http/1.1`";
        Alert "alert" "The client ended it by an alert: it does not trust the certificate, most often";
        Malformed "malformed" "The client broke the protocol";
        TooBig "too_big" "More than 65536 bytes and no end of the handshake";
        Timeout "timeout" "Not through within `http.head_timeout_ms`";
        Gone "gone" "The client went away in the middle";
        Internal "internal" "No randomness, or a fault of the server";
    }

    /// Why a token was not accepted.
    AuthFailure "reason" {
        Malformed "malformed" "Not a compact signed JSON Web Token";
        TooLong "too_long" "Longer than tokens may be";
        WrongAlgorithm "wrong_algorithm" "An algorithm that is not allowed, or not the key's own";
        UnknownKey "unknown_key" "No key with this `kid`";
        BadSignature "bad_signature" "The signature does not match";
        MissingClaim "missing_claim" "A required claim is absent";
        BadClaim "bad_claim" "A claim has a wrong type or is out of range";
        BadUser "bad_user" "The user id breaks the rules";
        Expired "expired" "`exp` is past";
        NotYetValid "not_yet_valid" "`nbf` is in the future";
        WrongIssuer "wrong_issuer" "Another `iss` than configured";
        WrongAudience "wrong_audience" "Another `aud` than configured";
        RoomToken "room_token" "A room token where a sign-in token belongs";
        OtherUser "other_user" "A room token, resume or refresh of another user";
        OtherRoom "other_room" "A room token of another room";
        Missing "missing" "No token within `auth.timeout_ms`, or a command before sign-in";
        Conflicting "conflicting" "Differing tokens, or one in a place that is not allowed";
        ResumeToken "resume_token" "A resume token that does not hold";
        Other "other" "None of these";
    }

    /// Why an Engine.IO session ended.
    EngineEnd "reason" {
        ClientClosed "client_closed" "The client sent the close packet";
        TransportClosed "transport_closed" "Its WebSocket was closed in order";
        TransportError "transport_error" "Its WebSocket or poll was lost, or a request was of a kind that ends it";
        Overlap "overlap" "Two GETs or two POSTs at once";
        PingTimeout "ping_timeout" "No pong within `sio.ping_timeout_ms`";
        ParseError "parse_error" "Packets that break the protocol";
        NoNamespace "no_namespace" "No namespace was joined within `sio.connect_timeout_ms`";
        Server "server" "Closed with a code after which the client comes back: drain, too slow, flood";
        Replaced "replaced" "The client came back on another connection and took up its state";
    }

    /// How a recovery by position ended (R-REC-1).
    Recovered "recovered" {
        Yes "true" "Everything missed was replayed";
        No "false" "Too old, too much, or another epoch: a normal snapshot instead";
    }
}

impl AuthFailure {
    /// The failure of this text, which another module reports; `Other` if there is none.
    pub fn of(text: &str) -> AuthFailure {
        let known = AuthFailure::ALL.iter().zip(AuthFailure::MEANINGS);
        known.into_iter().find(|(_, (own, _))| *own == text).map_or(AuthFailure::Other, |(failure, _)| *failure)
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// With this code in the close frame, whoever sent it first.
    Code(CloseCode),
    /// The client said 1001: its page or process went away.
    GoingAway,
    /// Without a close frame: end of stream, reset, or the handshake of closing timed out.
    Lost,
    /// The client closed with a code that is none of the server's.
    Other,
}

impl Ending {
    /// The ending for the code in a client's close frame; `None` is a frame without code, which RFC 6455 calls 1005.
    pub fn from_peer(code: Option<u16>) -> Ending {
        match code {
            None => Ending::Code(CloseCode::Normal),
            Some(1001) => Ending::GoingAway,
            Some(number) => {
                CloseCode::ALL.into_iter().find(|code| code.number() == number).map_or(Ending::Other, Ending::Code)
            }
        }
    }
}

const ENDINGS: [Ending; CloseCode::ALL.len() + 3] = {
    let mut all = [Ending::Other; CloseCode::ALL.len() + 3];
    let mut index = 0;
    while index < CloseCode::ALL.len() {
        all[index] = Ending::Code(CloseCode::ALL[index]);
        index += 1;
    }
    all[index] = Ending::GoingAway;
    all[index + 1] = Ending::Lost;
    all
};

impl Label for Ending {
    const KEY: &'static str = "code";
    const ALL: &'static [Ending] = &ENDINGS;

    fn index(self) -> usize {
        match self {
            Ending::Code(code) => Label::index(code),
            Ending::GoingAway => ENDINGS.len() - 3,
            Ending::Lost => ENDINGS.len() - 2,
            Ending::Other => ENDINGS.len() - 1,
        }
    }

    fn text(self) -> Cow<'static, str> {
        match self {
            Ending::Code(code) => code.text(),
            Ending::GoingAway => "1001".into(),
            Ending::Lost => "1006".into(),
            Ending::Other => "other".into(),
        }
    }
}

impl Label for CloseCode {
    const KEY: &'static str = "code";
    const ALL: &'static [CloseCode] = &CloseCode::ALL;

    fn index(self) -> usize {
        // Every variant is in the list (tested), and a close is rare enough for a walk over 22 entries.
        CloseCode::ALL.iter().position(|code| *code == self).unwrap_or(0)
    }

    fn text(self) -> Cow<'static, str> {
        self.number().to_string().into()
    }
}

impl Label for Code {
    const KEY: &'static str = "code";
    const ALL: &'static [Code] = Code::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn text(self) -> Cow<'static, str> {
        self.as_str().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn check<L: Label + PartialEq + std::fmt::Debug>() {
        let texts: HashSet<_> = L::ALL.iter().map(|label| label.text()).collect();
        assert_eq!(texts.len(), L::ALL.len(), "two values with one text");
        for (index, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), index, "{label:?}");
        }
    }

    #[test]
    fn indices_are_dense_and_texts_unique() {
        check::<DropReason>();
        check::<HandshakeRefusal>();
        check::<AuthFailure>();
        check::<TlsHandshake>();
        check::<TlsFailure>();
        check::<Recovered>();
        check::<EngineEnd>();
        check::<Ending>();
        check::<CloseCode>();
        check::<Code>();
    }

    #[test]
    fn auth_failures_are_found_by_their_text() {
        for failure in AuthFailure::ALL {
            assert_eq!(AuthFailure::of(&failure.text()), *failure);
        }
        assert_eq!(AuthFailure::of("new"), AuthFailure::Other);
    }

    #[test]
    fn a_peers_close_code_is_told_apart() {
        assert_eq!(Ending::from_peer(Some(1000)), Ending::Code(CloseCode::Normal));
        assert_eq!(Ending::from_peer(None), Ending::Code(CloseCode::Normal));
        assert_eq!(Ending::from_peer(Some(1001)).text(), "1001");
        assert_eq!(Ending::from_peer(Some(3000)), Ending::Other);
    }
}

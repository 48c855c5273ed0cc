//! Which offer of permessage-deflate is taken, and the answer (RFC 7692 section 7.1; the grammar is RFC 6455 section 9.1).
//!
//! The server takes the first offer that it can keep. An offer with a parameter that is unknown, repeated or has no valid value is
//! declined, other extensions are passed over, and a header that breaks the grammar counts up to the break: whatever a client offers,
//! the worst that happens to it is a connection without compression.
//!
//! Both sides always work without context takeover. So a connection keeps no window while it is silent, one pair of contexts serves
//! a whole shard, and one compression of a broadcast serves all its members.
use super::deflate::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use crate::wire::http::is_token_byte;
use std::borrow::Cow;

const NAME: &str = "permessage-deflate";

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// Base-2 logarithm of the window that the server compresses with, 9 to 15.
    pub window_bits: u8,
    /// The client named the size, so the answer has to.
    is_named: bool,
}

impl Deflate {
    /// Takes the first acceptable offer in the values of the `Sec-WebSocket-Extensions` headers, in order of the client's preference.
    pub fn negotiate<'a>(values: impl Iterator<Item = &'a str>) -> Option<Deflate> {
        values.flat_map(|value| Offers { rest: value }).find_map(Offer::judge)
    }

    /// Appends the value of the answer's header.
    ///
    /// `client_no_context_takeover` needs no hint of the client (7.1.1.2). `client_max_window_bits` is never asked for, offered or
    /// not: the window that inflates is the shard's, and a small one would only make the client's messages larger.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"permessage-deflate; server_no_context_takeover; client_no_context_takeover");
        if self.is_named {
            out.extend_from_slice(format!("; server_max_window_bits={}", self.window_bits).as_bytes());
        }
    }
}

/// One member of the list, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Offer {
    is_deflate: bool,
    /// A parameter that cannot be kept.
    is_declined: bool,
    /// Bits of the parameters that were there, in the order of `parameter`.
    seen: u8,
    server_window_bits: Option<u8>,
}

impl Offer {
    fn judge(self) -> Option<Deflate> {
        (self.is_deflate && !self.is_declined).then(|| Deflate {
            window_bits: self.server_window_bits.unwrap_or(WINDOW_BITS_MAX),
            is_named: self.server_window_bits.is_some(),
        })
    }

    fn parameter(&mut self, name: &str, value: Option<&str>) {
        let (bit, is_valid) = match name {
            "server_no_context_takeover" => (1, value.is_none()),
            "client_no_context_takeover" => (2, value.is_none()),
            "server_max_window_bits" => {
                // "A decimal integer value without leading zeroes between 8 and 15" (7.1.2.1), of which zlib cannot keep 8: with
                // the smallest window it would use 9 and the client could not inflate.
                self.server_window_bits = value.and_then(window_bits).filter(|bits| *bits >= WINDOW_BITS_MIN);
                (4, self.server_window_bits.is_some())
            }
            // May come without a value (7.1.2.2).
            "client_max_window_bits" => (8, value.is_none_or(|value| window_bits(value).is_some())),
            _ => (0, false),
        };
        self.is_declined |= !is_valid || self.seen & bit != 0;
        self.seen |= bit;
    }
}

/// 8 to 15 in its only spelling.
fn window_bits(value: &str) -> Option<u8> {
    match value.as_bytes() {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// The members of one header, up to the first break of the grammar.
struct Offers<'a> {
    rest: &'a str,
}

impl Iterator for Offers<'_> {
    type Item = Offer;

    fn next(&mut self) -> Option<Offer> {
        // Empty members do not count (RFC 9110 section 5.6.1).
        while self.eat(b',') {}
        let offer = self.offer();
        if offer.is_none() {
            self.rest = "";
        }
        offer
    }
}

impl<'a> Offers<'a> {
    /// `token *( ";" token [ "=" ( token / quoted-string ) ] )`, then a comma or the end.
    fn offer(&mut self) -> Option<Offer> {
        let mut offer = Offer { is_deflate: self.token()? == NAME, ..Offer::default() };
        while self.eat(b';') {
            let name = self.token()?;
            let value = if self.eat(b'=') { Some(self.value()?) } else { None };
            offer.parameter(name, value.as_deref());
        }
        self.skip_space();
        (self.rest.is_empty() || self.eat(b',')).then_some(offer)
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(char::from(byte));
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn token(&mut self) -> Option<&'a str> {
        self.skip_space();
        let len = self.rest.bytes().take_while(|byte| is_token_byte(*byte)).count();
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest;
        (len > 0).then_some(token)
    }

    /// "When using the quoted-string syntax variant, the value after quoted-string unescaping MUST conform to the 'token' ABNF."
    fn value(&mut self) -> Option<Cow<'a, str>> {
        if !self.eat(b'"') {
            return self.token().map(Cow::Borrowed);
        }
        let (mut value, mut escaped) = (String::new(), false);
        for (at, byte) in self.rest.bytes().enumerate() {
            match byte {
                b'\\' if !escaped => escaped = true,
                b'"' if !escaped => {
                    self.rest = &self.rest[at + 1..];
                    return (!value.is_empty()).then_some(Cow::Owned(value));
                }
                _ if is_token_byte(byte) => {
                    value.push(char::from(byte));
                    escaped = false;
                }
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The answer to these header values; empty: no compression.
    fn answer(values: &[&str]) -> String {
        let mut out = Vec::new();
        if let Some(deflate) = Deflate::negotiate(values.iter().copied()) {
            deflate.write(&mut out);
        }
        String::from_utf8(out).unwrap()
    }

    const PLAIN: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn offers_of_real_clients() {
        // Chromium; Firefox; npm ws and python websockets.
        assert_eq!(answer(&["permessage-deflate; client_max_window_bits"]), PLAIN);
        assert_eq!(answer(&["permessage-deflate"]), PLAIN);
        assert_eq!(
            answer(&[
                "permessage-deflate; server_no_context_takeover; server_max_window_bits=12; client_max_window_bits"
            ]),
            format!("{PLAIN}; server_max_window_bits=12")
        );
        // Safari of old offered another one besides.
        assert_eq!(answer(&["x-webkit-deflate-frame, permessage-deflate;client_no_context_takeover"]), PLAIN);
    }

    #[test]
    fn the_examples_of_rfc_7692_section_7() {
        // 7.1.3: fall back from the first offer to the second; here the first can be kept.
        let both = "permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate; client_max_window_bits";
        assert_eq!(answer(&[both]), format!("{PLAIN}; server_max_window_bits=10"));
        let foo = "permessage-deflate; use_strength=9, permessage-deflate; server_max_window_bits=10";
        assert_eq!(answer(&[foo]), format!("{PLAIN}; server_max_window_bits=10"));
    }

    #[test]
    fn each_window_size() {
        for bits in 9..=15 {
            let expected = format!("{PLAIN}; server_max_window_bits={bits}");
            assert_eq!(answer(&[&format!("permessage-deflate; server_max_window_bits={bits}")]), expected);
            assert_eq!(answer(&[&format!("permessage-deflate; server_max_window_bits=\"{bits}\"")]), expected);
            assert_eq!(answer(&[&format!("permessage-deflate; client_max_window_bits={bits}")]), PLAIN);
        }
        assert_eq!(answer(&["permessage-deflate; client_max_window_bits=8"]), PLAIN);
        assert_eq!(answer(&["permessage-deflate; server_max_window_bits=8"]), "");
        assert_eq!(answer(&["permessage-deflate; server_max_window_bits=8, permessage-deflate"]), PLAIN);
        let quoted = r#"permessage-deflate; server_max_window_bits="1\5""#;
        assert_eq!(answer(&[quoted]), format!("{PLAIN}; server_max_window_bits=15"));
    }

    #[test]
    fn an_offer_that_cannot_be_kept_is_declined_and_the_next_tried() {
        for parameter in [
            "unknown",
            "unknown=1",
            "SERVER_NO_CONTEXT_TAKEOVER",
            "server_no_context_takeover=1",
            "client_no_context_takeover=\"x\"",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits=10; server_max_window_bits=10",
            "client_max_window_bits; client_max_window_bits=10",
            "server_max_window_bits",
            "server_max_window_bits=08",
            "server_max_window_bits=010",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=1",
            "server_max_window_bits=150",
            "server_max_window_bits=+9",
            "client_max_window_bits=0",
            "client_max_window_bits=16",
            "client_max_window_bits=nine",
        ] {
            assert_eq!(answer(&[&format!("permessage-deflate; {parameter}")]), "", "{parameter}");
            assert_eq!(
                answer(&[&format!("permessage-deflate; {parameter} , permessage-deflate")]),
                PLAIN,
                "{parameter}"
            );
            let two_headers = [&*format!("permessage-deflate; {parameter}"), "permessage-deflate"];
            assert_eq!(answer(&two_headers), PLAIN, "{parameter}");
        }
    }

    #[test]
    fn other_extensions_are_passed_over() {
        assert_eq!(answer(&["foo, bar; baz=\"a\", permessage-deflate"]), PLAIN);
        assert_eq!(answer(&["permessage-bzip2", "mux; max-channels=4; flow-control"]), "");
        assert_eq!(answer(&["", " , ,permessage-deflate,"]), PLAIN);
        assert_eq!(answer(&[]), "");
    }

    #[test]
    fn what_breaks_the_grammar_ends_its_header_only() {
        for broken in [
            "permessage-deflate;",
            "permessage-deflate; =1",
            "permessage-deflate; a=",
            "permessage-deflate x",
            "permessage-deflate; a=\"1",
            "permessage-deflate; a=\"\"",
            "permessage-deflate; a=\"x,y\"",
            "(permessage-deflate)",
        ] {
            assert_eq!(answer(&[broken]), "", "{broken}");
            assert_eq!(answer(&[&format!("{broken}, permessage-deflate")]), "", "{broken}");
            assert_eq!(answer(&[broken, "permessage-deflate"]), PLAIN, "{broken}");
        }
    }

    proptest! {
        /// R-SEC-13: no header ends in a panic, and what is answered was offered.
        #[test]
        fn any_text_is_answered_or_not(
            value in prop_oneof![".*", "[permsag\\-dflt;=,\" \\\\_01]*",
                "(permessage-deflate|; server_max_window_bits|=1[0-7]|=\"9\"|,|; )*"],
        ) {
            if let Some(deflate) = Deflate::negotiate(std::iter::once(&*value)) {
                prop_assert!((WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(&deflate.window_bits));
                prop_assert!(value.contains(NAME));
                prop_assert!(!deflate.is_named || value.contains("server_max_window_bits"));
            }
        }
    }
}
